"""Compile Model+ on a GPU: compiled steps beside eager ones, with and without the cache, and starts of processes.

    python tests/gpu/compile_figures.py

All sides run in one process on the demo model in the real ComfyUI and take turns; a ratio is the median over the turns
of a side's time by the eager time of the same turn. What a process needs for its first compiled step is measured cold,
with nothing kept, and warm, with what Compile Model+ has kept and torch's own folder empty. One JSON line per
measurement, a table at the end. Nothing fails because of a time. --device cpu tries the script out.

Target: compiled at most 1.0 times the eager time, or the node says what runs as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
os.environ["WAVESPEED_CUDA"] = "on"  # read when the extension is loaded

from machine import describe

from comfyui_here import ComfyUIHere
from compiled_start import start

if TYPE_CHECKING:
    from collections.abc import Iterator

SKIPPED = 77
MODES = ("", "max-autotune-no-cudagraphs")
SPEEDUP = 2.0
WARM_UPS = 2
"""Runs of each side that are not counted: the first compiles, and the trial of both ways may reach into the second."""


def compare_steps(comfyui: ComfyUIHere, sizes: list[int], steps: int, pairs: int) -> Iterator[dict[str, Any]]:
    def seconds(model: Any, size: int, seed: int) -> float:
        """The latent comes back to the CPU, so the GPU has done all of it."""
        begin = time.perf_counter()
        comfyui.sample(model, steps=steps, cfg=1.0, size=size, subject="apple", seed=seed)
        return time.perf_counter() - begin

    for mode in MODES:
        compiled = comfyui.with_compile(mode=mode)
        sides = {
            "eager": comfyui.model,
            "compiled": compiled,
            "cache": comfyui.with_speedup(SPEEDUP),
            "cache and compiled": comfyui.with_speedup(SPEEDUP, compiled),
        }
        for size in sizes:
            taken: dict[str, list[float]] = {side: [] for side in sides}
            said: list[str] = []
            for seed in range(WARM_UPS + pairs):
                for side, model in sides.items():
                    with comfyui.texts.kept(said):
                        taken[side].append(seconds(model, size, seed))
            turns = {side: times[WARM_UPS:] for side, times in taken.items()}
            ratios = {
                side: [mine / eager for mine, eager in zip(times, turns["eager"], strict=True)]
                for side, times in turns.items()
            }
            yield {
                "measurement": "steps",
                "mode": mode or "default",
                "size": size,
                "steps": steps,
                "seconds": {side: statistics.median(times) for side, times in turns.items()},
                "first_run_seconds": {side: times[0] for side, times in taken.items()},
                "times_eager": {side: statistics.median(values) for side, values in ratios.items()},
                "times_eager_from_to": {side: [min(values), max(values)] for side, values in ratios.items()},
                "node": next((text for text in reversed(said) if "regions" in text), ""),
                "pairs": pairs,
            }


def compare_starts(device: str, starts: int) -> Iterator[dict[str, Any]]:
    for _ in range(starts):
        with tempfile.TemporaryDirectory() as folder:
            folders = {"WAVESPEED_CACHE_DIR": f"{folder}/compiled", "XDG_CONFIG_HOME": f"{folder}/key"}
            cold, warm = (
                start(device, {**folders, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/{name}"}) for name in ("torch", "empty")
            )
        for name, measured in (("cold", cold), ("warm", warm)):
            first = measured["first step"]
            yield {"measurement": "start", "start": name, **measured, "times_cold": first / cold["first step"]}


def row(line: dict[str, Any]) -> str:
    if line["measurement"] == "start":
        return f"{line['start']} start: first step {line['first step']:.2f} s, {line['times_cold']:.3f} of cold"
    ratios = ", ".join(f"{side} {ratio:.2f}" for side, ratio in line["times_eager"].items() if side != "eager")
    return f"{line['mode']}, {line['size']} pixels, {line['seconds']['eager']:.3f} s eager; times eager: {ratios}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512], help="pixels per side")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--starts", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("SKIPPED: no CUDA device")
        return SKIPPED
    where = describe(chosen.device)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": folder, "WAVESPEED_CACHE_DIR": "0"}
        comfyui = ComfyUIHere(device=chosen.device)
        for line in compare_steps(comfyui, chosen.sizes, chosen.steps, chosen.pairs):
            lines.append(line)
            print(json.dumps({**line, "machine": where}), flush=True)
    for line in compare_starts(chosen.device, chosen.starts):
        lines.append(line)
        print(json.dumps({**line, "machine": where}), flush=True)
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    for line in lines:
        print(row(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
