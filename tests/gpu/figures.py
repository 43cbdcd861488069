"""The CUDA kernels beside torch's expressions and beside the GPU's own copy bandwidth, all measured in one run.

    python tests/gpu/figures.py

For each kernel, dtype and size of the hidden state: the native operator, the torch expression in its place and copying
as many bytes, in turns, by the GPU's clock; operands change from call to call, so that none is in a cache. Then how
long a decision takes from its first launch to numbers in Python on an idle GPU, beside .item() and beside waiting for
nothing. One JSON line per measurement, a table at the end. Nothing fails because of a time.

Targets: at 24 MiB and more, 80 % of the copy bandwidth; a decision within 25 microseconds of an empty synchronisation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))
os.environ["WAVESPEED_CUDA"] = "on"  # read when the extension is loaded

from kernels import DTYPES, KERNELS, MIB, Kernel, Operands, wavespeed_distance
from machine import describe

from wavespeed import _native, operations

if TYPE_CHECKING:
    from collections.abc import Callable

SKIPPED = 77
LARGER_THAN_CACHES = 512 * MIB
CALLS = 20
"""Per measured batch: the GPU's clock and the first launch do not count."""


def milliseconds(calls: list[Callable[[], Any]]) -> float:
    """Per call on the GPU, in a batch that goes through the calls in turn."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for i in range(CALLS):
        calls[i % len(calls)]()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / CALLS


def copies(size: int) -> list[Callable[[], Any]]:
    """Each moves `size` bytes in all: reads half of them and writes as many."""

    def array() -> torch.Tensor:
        return torch.ones(size // 2, dtype=torch.uint8, device="cuda")

    pairs = [(array(), array()) for _ in range(max(2, LARGER_THAN_CACHES // size))]
    return [lambda pair=pair: pair[0].copy_(pair[1]) for pair in pairs]


def measure(kernel: Kernel, name: str, size: int, repeats: int) -> dict[str, Any]:
    dtype = DTYPES[name]
    moved = kernel.bytes_moved(size // dtype.itemsize, dtype)
    native = kernel.native()
    sets = [Operands(dtype, size, "cuda") for _ in range(max(2, LARGER_THAN_CACHES // moved))]
    sides = {
        "native": [lambda of=of: native(*of.of_native(kernel)) for of in sets],
        "eager": [lambda of=of: kernel.expression(*of.of_expression(kernel)) for of in sets],
        "copy": copies(moved),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats + 1):
        for side, calls in sides.items():
            taken[side].append(milliseconds(calls))
    median = {side: statistics.median(times[1:]) for side, times in taken.items()}  # the first ones warm up
    return {
        "measurement": kernel.name,
        "dtype": name,
        "mib": size // MIB,
        "milliseconds": median,
        "gigabytes_per_second": moved / median["native"] / 1e6,
        "share_of_copy_bandwidth": median["copy"] / median["native"],
        "times_faster_than_eager": median["eager"] / median["native"],
        "repeats": repeats,
    }


def latencies(mib: int, repeats: int) -> dict[str, Any]:
    """Microseconds on the host's clock, each time with an idle GPU."""
    loaded = operations.load(_native.core)
    a, b = (torch.randn(mib * MIB // 2, device="cuda").bfloat16() for _ in range(2))

    def by_mailbox() -> bool:
        difference, reference = loaded.read([loaded.distance(a, b)])
        return difference < 0.1 * reference

    def by_list() -> bool:
        difference, reference = loaded.distance(a, b).tolist()
        return difference < 0.1 * reference

    sides: dict[str, Callable[[], Any]] = {
        "nothing": torch.cuda.synchronize,
        "decision": by_mailbox,
        "decision, tolist()": by_list,
        "expression of Comfy-WaveSpeed, item()": lambda: bool(wavespeed_distance(a, b).item() < 0.1),
    }
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats * 30):
        for side, call in sides.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            taken[side].append(1e6 * (time.perf_counter() - start))
    return {
        "measurement": "latency",
        "mib": mib,
        "microseconds": {side: statistics.median(times[10:]) for side, times in taken.items()},
        "repeats": repeats * 30,
    }


def row(line: dict[str, Any]) -> str:
    if line["measurement"] == "latency":
        each = ", ".join(f"{side}: {value:.1f}" for side, value in line["microseconds"].items())
        return f"latency at {line['mib']} MiB in microseconds: {each}"
    return (
        f"{line['measurement']:17}{line['dtype']:>5}{line['mib']:>5}{line['milliseconds']['native']:10.4f}"
        f"{line['gigabytes_per_second']:9.0f}{line['share_of_copy_bandwidth']:8.0%}{line['times_faster_than_eager']:9.1f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 24, 256])
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("SKIPPED: no CUDA device")
        return SKIPPED
    where = describe("cuda")
    lines = []
    with torch.inference_mode():
        for kernel in KERNELS:
            for name in DTYPES:
                for mib in chosen.mib:
                    lines.append(measure(kernel, name, mib * MIB, chosen.repeats))
                    print(json.dumps({**lines[-1], "machine": where}), flush=True)
        for mib in chosen.mib:
            lines.append(latencies(mib, chosen.repeats))
            print(json.dumps({**lines[-1], "machine": where}), flush=True)
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    print(f"CUDA kernels: {_native.core.status()['cuda_kernels']}")
    print(f"{'kernel':17}{'dtype':>5}{'MiB':>5}{'ms':>10}{'GB/s':>9}{'of copy':>8}{'x eager':>9}")
    for line in lines:
        print(row(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
