"""How much sampling time the cache saves, and how much of what it could save at most."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import demo_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from comfyui_result import Runner
    from demo_runs import Cache, Plan

SHARE_SCRIPT = Path(__file__).with_name("block_share.py")


@dataclass
class Pair:
    """Seconds of sampling with the cache, and of running as few steps as it computed; one entry per repetition."""

    cache: Cache
    cached: list[float] = field(default_factory=list)
    fewer: list[float] = field(default_factory=list)
    reused: list[int] = field(default_factory=list)


@dataclass
class Timings:
    """Sampling without decoding, all kinds of runs by turns, so that a busy machine slows all of them."""

    steps: int
    share: float
    """Of a step, spent in the blocks that the cache can leave out."""
    pairs: list[Pair]
    first_step: list[float] = field(default_factory=list)
    """Seconds of runs of one step: what every prompt costs, and the step that is always computed."""
    full: list[float] = field(default_factory=list)

    def saved(self, pair: Pair) -> list[float]:
        """Share of the time of the full run of the same repetition, both without the first step."""
        first = statistics.median(self.first_step)
        return [(full - cached) / (full - first) for full, cached in zip(self.full, pair.cached, strict=True)]

    def skipped(self, pair: Pair) -> list[float]:
        """Share of the same time that the left-out blocks take in a full run: as much could be saved."""
        return [self.share * reused / (self.steps - 1) for reused in pair.reused]

    def saved_of_skipped(self, pair: Pair) -> list[float]:
        both = zip(self.saved(pair), self.skipped(pair), strict=True)
        return [saved / skipped for saved, skipped in both if skipped > 0]

    def as_numbers(self) -> dict[str, Any]:
        return {
            "repetitions": len(self.full),
            "seconds_one_step": self.first_step,
            "seconds_full": self.full,
            "caches": [
                {
                    "strategy": pair.cache.strategy,
                    "threshold": pair.cache.threshold,
                    "seconds_cached": pair.cached,
                    "seconds_fewer_steps": pair.fewer,
                    "reused": pair.reused,
                    "sampling_time_saved": middle(self.saved(pair)),
                    "block_work_skipped": middle(self.skipped(pair)),
                    "saved_of_skipped": middle(self.saved_of_skipped(pair)),
                }
                for pair in self.pairs
            ],
        }


def middle(values: list[float]) -> dict[str, float]:
    """Median and the range of the middle half."""
    if len(values) < 2:
        return dict.fromkeys(("median", "quarter", "three_quarters"), values[0] if values else 0.0)
    quarter, median, three_quarters = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "quarter": quarter, "three_quarters": three_quarters}


def block_share(plan: Plan, environment: Mapping[str, str]) -> dict[str, float]:
    """Share of a step that is spent in the blocks behind the first, measured in a process of its own."""
    command = [sys.executable, str(SHARE_SCRIPT), "--cfg", str(plan.cfg), "--size", str(plan.size)]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"The share of the blocks could not be measured:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(runner: Runner, plan: Plan, share: float, repetitions: int, said: Callable[[str], None]) -> Timings:
    timings = Timings(plan.steps, share, [Pair(cache) for cache in plan.caches])
    for repetition in range(repetitions):
        subject = plan.subjects[repetition % len(plan.subjects)]
        # ComfyUI would answer a prompt it has seen from its own cache of results, so every repetition has a seed.
        seed = plan.seed + 1000 * (repetition + 1)

        def seconds(steps: int, cache: Cache | None, subject: str = subject, seed: int = seed) -> tuple[float, int]:
            wanted = demo_runs.prompt(plan, subject, seed, steps=steps, cache=cache, decode=False)
            result = demo_runs.queue(runner, wanted)
            return result.seconds, demo_runs.counts(result, steps, cache)[1]

        timings.first_step.append(seconds(1, None)[0])
        timings.full.append(seconds(plan.steps, None)[0])
        for pair in timings.pairs:
            taken, reused = seconds(plan.steps, pair.cache)
            pair.cached.append(taken)
            pair.reused.append(reused)
            pair.fewer.append(seconds(plan.steps - reused, None)[0])
        said(f"repetition {repetition + 1} of {repetitions}")
    return timings
