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
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from comfyui_here import ComfyUIHere

NEVER_HITS, ALWAYS_HITS = 1e-9, 1.0


class Bench:
    def __init__(self, steps: int, cfg: float, size: int) -> None:
        self.comfyui = ComfyUIHere()
        self.steps = steps
        self.cfg = cfg
        self.size = size
        self.plain = self.comfyui.model
        self.never = self.comfyui.with_cache(NEVER_HITS)
        self.always = self.comfyui.with_cache(ALWAYS_HITS)

    def seconds(self, model: Any, seed: int, steps: int) -> float:
        start = time.perf_counter()
        self.comfyui.sample(model, steps=steps, cfg=self.cfg, size=self.size, subject="apple", seed=seed)
        return time.perf_counter() - start

    def per_step(self, model: Any, seed: int) -> float:
        """Seconds of a step behind the first. The run of one step takes away what a run costs besides its steps."""
        return (self.seconds(model, seed, self.steps) - self.seconds(model, seed, 1)) / (self.steps - 1)

    def always_miss(self, pair: int) -> dict[str, Any]:
        sides = {"plain": self.plain, "cached": self.never}
        order = list(sides) if pair % 2 else list(sides)[::-1]
        taken = {name: self.seconds(sides[name], pair, self.steps) for name in order}
        return {
            "measurement": "always_miss",
            "pair": pair,
            "plain_ms_per_step": 1000 * taken["plain"] / self.steps,
            "cached_ms_per_step": 1000 * taken["cached"] / self.steps,
            "ratio": taken["cached"] / taken["plain"],
        }

    def hit(self, pair: int) -> dict[str, Any]:
        computed, reused = self.per_step(self.plain, pair), self.per_step(self.always, pair)
        return {
            "measurement": "hit",
            "pair": pair,
            "computed_ms_per_step": 1000 * computed,
            "reused_ms_per_step": 1000 * reused,
            "ratio": reused / computed,
        }


def row(title: str, ratios: list[float]) -> str:
    tenths = statistics.quantiles(ratios, n=10)
    median = statistics.median(ratios)
    return f"{title:44}{median:8.4f}{tenths[0]:9.4f} to {tenths[-1]:.4f}{len(ratios):8}"


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
    ratios: dict[str, list[float]] = {"always_miss": [], "hit": []}
    for measure, pairs in ((bench.always_miss, chosen.pairs), (bench.hit, max(4, chosen.pairs // 4))):
        for pair in range(pairs):
            line = measure(pair)
            ratios[line["measurement"]].append(line["ratio"])
            print(json.dumps(line), flush=True)
    print(f"ComfyUI {bench.comfyui.tree.version}, Python {platform.python_version()}, 1 thread, demo Flux,", end=" ")
    print(f"{chosen.size}x{chosen.size}, cfg {chosen.cfg:g}, {chosen.steps} steps")
    print(f"{'ratio of times':44}{'median':>8}{'10 to 90 %':>19}{'pairs':>8}")
    print(row("cache that never hits / no cache", ratios["always_miss"]))
    print(row("reused step / computed step", ratios["hit"]))


if __name__ == "__main__":
    main()
