"""What comparing the probes takes of one step of a large model: is it worth looking at some of the tokens only?

    build/venv/bin/python tests/bench/compare_share.py

A step is at least the multiplications with the weights of the model's blocks; attention comes on top. One linear layer
is timed on some tokens, in the dtype in which this machine is faster, and the step is reckoned from it by the weights
of the blocks and the number of tokens. The comparison is timed whole, in bfloat16. One JSON line per model, a table at
the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from wavespeed import _native, operations

if TYPE_CHECKING:
    from collections.abc import Callable

SKETCH = 16
"""A sketch would look at one of so many tokens."""


@dataclass(frozen=True)
class Model:
    name: str
    tokens: int
    width: int
    weights: int
    """In the linear layers of the blocks that each of these tokens passes."""


# FLUX.1 at 1024 x 1024: 19 double blocks (qkv, projection, MLP of 4 widths) and 38 single ones (to 7 widths, from 5).
# Wan 14B, 81 frames of 720p: 40 blocks (self-attention, query and output of the cross-attention, MLP of 13824).
MODELS = (
    Model("FLUX.1, 1024 x 1024", 4096, 3072, (19 * (3 + 1 + 8) + 38 * (7 + 5)) * 3072**2),
    Model("Wan 14B, 720p, 81 frames", 75600, 5120, 40 * (6 * 5120**2 + 2 * 5120 * 13824)),
)


def seconds(call: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure(model: Model, threads: int, tokens_timed: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    native = operations.load(_native.core)
    some, weight = torch.randn(tokens_timed, model.width), torch.randn(model.width, model.width)
    narrow, narrow_weight = some.bfloat16(), weight.bfloat16()
    layer = min(seconds(lambda: some @ weight.T, 3), seconds(lambda: narrow @ narrow_weight.T, 3))
    step = layer * model.tokens / tokens_timed * model.weights / weight.numel()
    state = torch.ones(model.tokens, model.width, dtype=torch.bfloat16)
    states = [state, *(torch.full_like(state, value) for value in (2, 3, 4))]
    taken = {
        "distance": seconds(lambda: native.distance(*states[:2]), 5),
        "moments": seconds(lambda: native.moments(*states), 5),
    }
    return {
        "model": model.name,
        "threads": threads,
        "mib": state.nbytes // 2**20,
        "gigaflops_per_second": 2 * some.numel() * model.width / layer / 1e9,
        "step_seconds_at_least": step,
        "milliseconds": {name: 1000 * value for name, value in taken.items()},
        "per_cent_of_a_step_at_most": {name: 100 * value / step for name, value in taken.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=512, help="on which the linear layer is timed")
    chosen = parser.parse_args()
    lines = []
    with torch.inference_mode():
        for model in MODELS:
            for threads in chosen.threads:
                lines.append(measure(model, threads, chosen.tokens))
                print(json.dumps(lines[-1]), flush=True)
    print(f"torch {torch.__version__}, with {operations.load(_native.core).executor}")
    for line in lines:
        print(
            f"{line['model']} ({line['mib']} MiB, {line['threads']} threads): a step takes at least"
            f" {line['step_seconds_at_least']:.0f} s"
        )
        for name, share in line["per_cent_of_a_step_at_most"].items():
            print(
                f"    {name}: {line['milliseconds'][name]:.1f} ms, at most {share:.4f} % of it;"
                f" a sketch of one token in {SKETCH} would save {share * (1 - 1 / SKETCH):.4f} %"
            )


if __name__ == "__main__":
    main()
