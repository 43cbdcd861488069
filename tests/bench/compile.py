"""What Compile Model+ costs and gains on the demo model in ComfyUI's own code.

    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/compile.py

Both sides run in one process and take turns, so that a busy machine slows both. torch's own cache folder is emptied for
the first run.
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
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from comfyui_here import ComfyUIHere


def seconds(comfyui: ComfyUIHere, model: Any, steps: int, seed: int) -> float:
    begin = time.perf_counter()
    comfyui.sample(model, steps=steps, cfg=1.0, size=128, subject="apple", seed=seed)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        comfyui = ComfyUIHere()
        behind = comfyui.with_compile()
        seconds(comfyui, comfyui.model, 1, 0)
        print(json.dumps({"first run": seconds(comfyui, behind, options.steps, 0), "node": comfyui.texts.last_text}))
        ratios = []
        for seed in range(options.pairs):
            eager = seconds(comfyui, comfyui.model, options.steps, seed)
            compiled = seconds(comfyui, behind, options.steps, seed)
            ratios.append(compiled / eager)
            print(json.dumps({"eager": eager, "compiled": compiled}))
        print(f"compiled / eager: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
        print(comfyui.texts.last_text)


if __name__ == "__main__":
    main()
