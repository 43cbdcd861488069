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
    from demo_runs import Plan

SHARE_SCRIPT = Path(__file__).with_name("block_share.py")


@dataclass
class Timing:
    """Seconds of sampling runs without decoding, interleaved; one entry per repetition."""

    threshold: float
    reused: list[int] = field(default_factory=list)
    saved: list[float] = field(default_factory=list)
    """Share of the sampling time behind the first step, against the full run of the same repetition."""
    could_save: list[float] = field(default_factory=list)
    """Share of the same time that the left-out blocks would have taken: reused steps x their share of a step."""

    def of_possible(self) -> list[float]:
        return [saved / possible for saved, possible in zip(self.saved, self.could_save, strict=True) if possible]

    def as_numbers(self) -> dict[str, Any]:
        of_possible = self.of_possible()
        return {
            "threshold": self.threshold,
            "repetitions": len(self.saved),
            "reused": self.reused,
            "sampling_time_saved": summary(self.saved),
            "block_work_skipped": summary(self.could_save),
            "saved_of_skipped": summary(of_possible) if of_possible else None,
        }


def summary(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def block_share(plan: Plan, environment: Mapping[str, str]) -> dict[str, float]:
    """Share of a step that is spent in the blocks behind the first, measured in a process of its own."""
    command = [sys.executable, str(SHARE_SCRIPT), "--cfg", str(plan.cfg), "--size", str(plan.size)]
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"The share of the blocks could not be measured:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    runner: Runner, plan: Plan, share: float, repetitions: int, said: Callable[[str], None]
) -> tuple[list[Timing], list[float]]:
    """Timings by threshold, and the seconds of the full runs.

    A run of one step is timed as well and subtracted everywhere: it holds what every prompt costs besides its steps.
    """
    timings = [Timing(threshold) for threshold in plan.thresholds]
    full_seconds = []
    for repetition in range(repetitions):
        # ComfyUI would answer a prompt it has seen from its own cache of results.
        seed = 1000 * (repetition + 1)
        subject = plan.subjects[repetition % len(plan.subjects)]
        start, _ = _run(runner, plan, subject, seed, 1, None)
        full, _ = _run(runner, plan, subject, seed + 1, plan.steps, None)
        full_seconds.append(full - start)
        for timing in timings:
            cached, reused = _run(runner, plan, subject, seed + 1, plan.steps, timing.threshold)
            timing.reused.append(reused)
            timing.saved.append((full - cached) / (full - start))
            timing.could_save.append(share * reused / (plan.steps - 1))
        said(f"timing {repetition + 1} of {repetitions}")
    return timings, full_seconds


def _run(runner: Runner, plan: Plan, subject: str, seed: int, steps: int, threshold: float | None) -> tuple[float, int]:
    wanted = demo_runs.prompt(plan, subject, seed, steps=steps, threshold=threshold, decode=False)
    result = demo_runs.queue(runner, wanted)
    return result.seconds, demo_runs.counts(result, steps, threshold)[1]
