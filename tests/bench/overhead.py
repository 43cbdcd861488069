"""What First Block Cache costs when it never hits, and what a hit costs, on the demo model in ComfyUI's own code.

    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/overhead.py

Both sides run in one process and take turns, so that a busy machine slows both. One JSON line per measurement, a table
at the end.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from comfyui_here import ComfyUIHere

NEVER_HITS, ALWAYS_HITS = 1e-9, 1.0


@dataclass(frozen=True)
class Seconds:
    """wall: by the clock on the wall. cpu: of this thread alone, which other processes disturb much less."""

    wall: float
    cpu: float

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def milliseconds_per(self, steps: int) -> dict[str, float]:
        return {"wall": 1000 * self.wall / steps, "cpu": 1000 * self.cpu / steps}


class Bench:
    def __init__(self, steps: int, cfg: float, size: int) -> None:
        self.comfyui = ComfyUIHere()
        self.steps = steps
        self.cfg = cfg
        self.size = size
        self.plain = self.comfyui.model
        self.never = self.comfyui.with_cache(NEVER_HITS)
        self.always = self.comfyui.with_cache(ALWAYS_HITS)

    def seconds(self, model: Any, seed: int, steps: int) -> Seconds:
        wall, cpu = time.perf_counter(), time.thread_time()
        self.comfyui.sample(model, steps=steps, cfg=self.cfg, size=self.size, subject="apple", seed=seed)
        return Seconds(time.perf_counter() - wall, time.thread_time() - cpu)

    def behind_first_step(self, model: Any, seed: int) -> Seconds:
        """The run of one step takes away what a run costs besides its steps."""
        return self.seconds(model, seed, self.steps) - self.seconds(model, seed, 1)

    def always_miss(self, pair: int) -> dict[str, Any]:
        sides = {"plain": self.plain, "cached": self.never}
        order = list(sides) if pair % 2 else list(sides)[::-1]
        taken = {name: self.seconds(sides[name], pair, self.steps) for name in order}
        return comparison("always_miss", pair, taken["plain"], taken["cached"], self.steps)

    def hit(self, pair: int) -> dict[str, Any]:
        computed, reused = (self.behind_first_step(model, pair) for model in (self.plain, self.always))
        return comparison("hit", pair, computed, reused, self.steps - 1)


def comparison(name: str, pair: int, plain: Seconds, cached: Seconds, steps: int) -> dict[str, Any]:
    return {
        "measurement": name,
        "pair": pair,
        "plain_ms_per_step": plain.milliseconds_per(steps),
        "cached_ms_per_step": cached.milliseconds_per(steps),
        "ratio": {"wall": cached.wall / plain.wall, "cpu": cached.cpu / plain.cpu},
    }


def rows(title: str, lines: list[dict[str, Any]]) -> list[str]:
    found = []
    for clock in ("wall", "cpu"):
        ratios = [line["ratio"][clock] for line in lines]
        tenths = statistics.quantiles(ratios, n=10)
        spread = f"{tenths[0]:.4f} to {tenths[-1]:.4f}"
        milliseconds = statistics.median(line["plain_ms_per_step"][clock] for line in lines)
        median = statistics.median(ratios)
        found.append(f"{title:34}{clock:>6}{median:10.4f}{spread:>20}{milliseconds:12.2f}{len(lines):8}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=128)
    chosen = parser.parse_args()
    bench = Bench(chosen.steps, chosen.cfg, chosen.size)
    for model in (bench.plain, bench.never, bench.always):
        bench.seconds(model, 0, chosen.steps)
    lines: dict[str, list[dict[str, Any]]] = {}
    for name, measure, pairs in (
        ("never", bench.always_miss, chosen.pairs),
        ("hit", bench.hit, max(4, chosen.pairs // 4)),
    ):
        lines[name] = []
        for pair in range(pairs):
            lines[name].append(measure(pair))
            print(json.dumps(lines[name][-1]), flush=True)
    print(f"ComfyUI {bench.comfyui.tree.version}, Python {platform.python_version()}, 1 thread, demo Flux,", end=" ")
    print(f"{chosen.size}x{chosen.size}, cfg {chosen.cfg:g}, {chosen.steps} steps")
    print(f"{'ratio of times':34}{'clock':>6}{'median':>10}{'10 to 90 %':>20}{'ms per step':>12}{'pairs':>8}")
    for row in rows("cache that never hits / no cache", lines["never"]) + rows("reused / computed step", lines["hit"]):
        print(row)


if __name__ == "__main__":
    main()
