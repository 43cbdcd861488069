"""Which share of a sampling step of the demo model is spent in the blocks that First Block Cache can leave out.

    OMP_NUM_THREADS=1 python tools/block_share.py --cfg 3

Prints one line of JSON. The demo runs it in a process of its own, because it imports ComfyUI.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from comfyui_here import ComfyUIHere

STEPS = 28
RUNS = 4


class Stopwatch:
    """Adds up the seconds spent in the blocks behind the first, per evaluation of the model."""

    def __init__(self, diffusion_model: Any) -> None:
        self.starts: list[float] = []
        self.in_blocks: list[float] = []
        self._entered = 0.0
        self._handles = [diffusion_model.register_forward_pre_hook(self._evaluation_starts)]
        blocks = [*diffusion_model.double_blocks, *diffusion_model.single_blocks]
        for block in blocks[1:]:
            self._handles.append(block.register_forward_pre_hook(self._block_starts))
            self._handles.append(block.register_forward_hook(self._block_ends))

    def _evaluation_starts(self, _module: Any, _args: Any) -> None:
        self.starts.append(time.perf_counter())
        self.in_blocks.append(0.0)

    def _block_starts(self, _module: Any, _args: Any) -> None:
        self._entered = time.perf_counter()

    def _block_ends(self, _module: Any, _args: Any, _result: Any) -> None:
        self.in_blocks[-1] += time.perf_counter() - self._entered

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def shares(self) -> list[float]:
        """Of every evaluation but the last: blocks' seconds / seconds until the next evaluation starts."""
        steps = zip(self.starts[:-1], self.starts[1:], self.in_blocks[:-1], strict=True)
        return [inside / (end - start) for start, end, inside in steps]


def measure(cfg: float, size: int) -> dict[str, float]:
    comfyui = ComfyUIHere()
    options = {"cfg": cfg, "size": size, "subject": "apple"}
    comfyui.sample(comfyui.model, steps=2, seed=0, **options)
    shares: list[float] = []
    for seed in range(RUNS):
        stopwatch = Stopwatch(comfyui.diffusion_model())
        comfyui.sample(comfyui.model, steps=STEPS, seed=seed, **options)
        stopwatch.remove()
        shares += stopwatch.shares()
    tenths = statistics.quantiles(shares, n=10)
    return {"share": statistics.median(shares), "share_10": tenths[0], "share_90": tenths[-1], "steps": len(shares)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=128)
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.cfg, chosen.size)))


if __name__ == "__main__":
    main()
