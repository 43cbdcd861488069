"""What Compile Model+ costs and gains on the demo model in ComfyUI's own code.

    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/compile.py
    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/compile.py --starts 3

The first compares steps: both sides run in one process and take turns, so that a busy machine slows both. The second
compares starts of processes, which take turns as well (tools/compiled_start.py): cold, with nothing kept, and warm,
with what Compile Model+ keeps and torch's own folder empty; and the same with torch's own folder and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from comfyui_here import ComfyUIHere
from compiled_start import start


def seconds(comfyui: ComfyUIHere, model: Any, steps: int, seed: int) -> float:
    begin = time.perf_counter()
    comfyui.sample(model, steps=steps, cfg=1.0, size=128, subject="apple", seed=seed)
    return time.perf_counter() - begin


def compare_steps(steps: int, pairs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
            "WAVESPEED_CACHE_DIR": f"{folder}/compiled",
            "XDG_CONFIG_HOME": f"{folder}/key",
        }
        comfyui = ComfyUIHere()
        behind = comfyui.with_compile()
        seconds(comfyui, comfyui.model, 1, 0)
        print(json.dumps({"first run": seconds(comfyui, behind, steps, 0), "node": comfyui.texts.last_text}))
        ratios = []
        for seed in range(pairs):
            eager = seconds(comfyui, comfyui.model, steps, seed)
            compiled = seconds(comfyui, behind, steps, seed)
            ratios.append(compiled / eager)
            print(json.dumps({"eager": eager, "compiled": compiled}))
        print(f"compiled / eager: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
        print(comfyui.texts.last_text)


def compare_starts(starts: int) -> None:
    first_steps: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        torchs, ours, first, second = (str(Path(folder) / name) for name in ("torch", "compiled", "first", "second"))
        kinds = {
            "cold": {"TORCHINDUCTOR_CACHE_DIR": first, "WAVESPEED_CACHE_DIR": ours},
            "warm": {"TORCHINDUCTOR_CACHE_DIR": second, "WAVESPEED_CACHE_DIR": ours},
            "cold, torch alone": {"TORCHINDUCTOR_CACHE_DIR": torchs, "WAVESPEED_CACHE_DIR": "0"},
            "warm, torch alone": {"TORCHINDUCTOR_CACHE_DIR": torchs, "WAVESPEED_CACHE_DIR": "0"},
        }
        for _ in range(starts):
            for path in (torchs, ours, first, second):
                shutil.rmtree(path, ignore_errors=True)
            for kind, folders in kinds.items():
                measured = start("cpu", {**folders, "XDG_CONFIG_HOME": str(Path(folder) / "key")})
                print(json.dumps({"start": kind, **measured}), flush=True)
                first_steps.setdefault(kind, []).append(measured["first step"])
    cold = first_steps["cold"]
    for kind, found in first_steps.items():
        ratio = statistics.median(first / second for first, second in zip(cold, found, strict=True))
        spread = f"{statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f})"
        print(f"{kind}: first compiled step without imports of the compiler, median {spread}; cold / this {ratio:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--starts", type=int, default=0, help="compare so many starts of each kind instead of steps")
    options = parser.parse_args()
    if options.starts:
        compare_starts(options.starts)
    else:
        compare_steps(options.steps, options.pairs)


if __name__ == "__main__":
    main()
