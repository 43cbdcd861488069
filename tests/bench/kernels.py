"""The CPU kernels beside torch's expressions and beside the speed of the memory, all measured in one run.

    build/venv/bin/python tests/bench/kernels.py

For each kernel, dtype, size of the hidden state and number of threads: the native operator, the expression of
Comfy-WaveSpeed, that expression under torch.compile (for distance), what gives the same result from the same tensors
without the kernel ("instead"), and plain reading (memcmp of two equal arrays) and copying (memcpy) of as many bytes.
They take turns, so that a busy machine slows all of them. One JSON line per measurement, a table at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from wavespeed import _native, expressions, operations

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SHORTEST_BATCH = 0.004
"""Seconds. Something faster is repeated until it takes this long, so that the clock and Python do not count."""

LIBC = ctypes.CDLL(None)
LIBC.memcmp.argtypes = LIBC.memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
LIBC.memcpy.restype = ctypes.c_void_p


# ---- What is compared ------------------------------------------------------------------------------------------------


def wavespeed_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The expression of Comfy-WaveSpeed."""
    return (a - b).abs().mean() / a.abs().mean()


def difference(base: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    return end - base


def addition(hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return hidden + residual


def addition_in_place(hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return hidden.add_(residual)


def exact_extrapolation(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> torch.Tensor:
    """With differences as large as the residual."""
    return hidden.add_(residual).add_(d1, alpha=w1).add_(d2, alpha=w2)


def copy_and_difference(kept: torch.Tensor, hidden: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    kept.copy_(hidden)
    return end - hidden


def store(residual: torch.Tensor, kept: torch.Tensor, hidden: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """What a computed evaluation stores: the copy of its probe is also what the residual is measured from."""
    kept.copy_(hidden)
    return operations.load(_native.core).subtract(residual, kept, end)


def store_apart(residual: torch.Tensor, kept: torch.Tensor, hidden: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """The same with a copy for each of the two."""
    kept.copy_(hidden)
    residual.copy_(hidden)
    return operations.load(_native.core).finish(residual, end)


@dataclass(frozen=True)
class Kernel:
    """states, wides, bytes: tensors of the model's dtype, of float32, of 8 bits that move through memory per call."""

    name: str
    expression: Callable[..., Any]
    """Of Comfy-WaveSpeed, where it has one. Its residual is in the model's dtype, so fewer bytes move."""
    instead: Callable[..., Any]
    states: int
    wides: int
    limit: str
    """Whether it can be as fast as reading or as copying."""
    bytes: int = 0

    def native(self) -> Callable[..., Any]:
        return store if self.name == "store" else getattr(operations.load(_native.core), self.name)

    def bytes_moved(self, n: int, dtype: torch.dtype) -> int:
        return n * (self.states * dtype.itemsize + self.wides * 4 + self.bytes)


# For the forecast, which Comfy-WaveSpeed does not have, the first takes differences in the model's dtype.
KERNELS = (
    Kernel("distance", wavespeed_distance, expressions.residual_distance, 2, 0, "read"),
    Kernel("moments", expressions.residual_moments, expressions.residual_moments, 4, 0, "read"),
    Kernel("finish", difference, expressions.finish_residual_, 1, 2, "copy"),
    Kernel("store", copy_and_difference, store_apart, 4, 1, "copy"),
    Kernel("apply", addition, expressions.apply_residual, 2, 1, "copy"),
    Kernel("apply_in_place", addition_in_place, expressions.apply_residual_, 2, 1, "copy"),
    Kernel("advance", difference, expressions.advance_residual_, 2, 2, "copy", 1),
    Kernel("extrapolate_in_place", exact_extrapolation, expressions.extrapolate_residual_, 2, 1, "copy", 2),
)


class Operands:
    """Tensors for one dtype and size. Values shrink in no kernel, so that repeating it meets no denormals."""

    def __init__(self, dtype: torch.dtype, size: int, device: str = "cpu") -> None:
        self.n = size // dtype.itemsize
        self.states = [self.random().to(device, dtype) for _ in range(4)]
        self.residuals = [torch.zeros(self.n, device=device) for _ in range(3)]
        self.differences = [torch.zeros_like(expressions.new_difference(self.residuals[0])) for _ in range(2)]
        self.narrow = torch.zeros(self.n, dtype=dtype, device=device)
        self.target = torch.zeros(self.n, dtype=dtype, device=device)

    def random(self) -> torch.Tensor:
        return torch.randn(min(self.n, MIB)).repeat(self.n // MIB + 1)[: self.n]

    def of_native(self, kernel: Kernel) -> tuple[Any, ...]:
        return {
            "distance": tuple(self.states[:2]),
            "moments": tuple(self.states),
            "finish": (self.residuals[0], self.states[0]),
            "store": (self.residuals[2], self.states[2], *self.states[:2]),
            "apply": (self.states[0], self.residuals[0]),
            "apply_in_place": (self.target, self.residuals[1]),
            "advance": (self.residuals[2], self.differences[1], *self.states[:2]),
            "extrapolate_in_place": (self.target, self.residuals[1], *self.differences[:1] * 2, 1.0, 1.0),
        }[kernel.name]

    def of_expression(self, kernel: Kernel) -> tuple[Any, ...]:
        return {
            "finish": (self.states[1], self.states[0]),
            "store": (self.states[2], *self.states[:2]),
            "apply": (self.states[0], self.narrow),
            "apply_in_place": (self.target, self.narrow),
            "advance": tuple(self.states[:2]),
            "extrapolate_in_place": (self.target, self.narrow, self.narrow, self.narrow, 1.0, 1.0),
        }.get(kernel.name) or self.of_native(kernel)


# ---- Measuring -------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], Any]) -> float:
    """Per call, in a batch that is long enough."""
    calls = 0
    start = time.perf_counter()
    while (taken := time.perf_counter() - start) < SHORTEST_BATCH:
        call()
        calls += 1
    return taken / calls


class Memory:
    """Reads and copies through the C library, the same number of bytes in each thread."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        self.function = {"read": LIBC.memcmp, "copy": LIBC.memcpy}

    def bandwidth(self, how: str, size: int) -> float:
        """Bytes per second, where size bytes in all are moved by one pass: half of them in each of two arrays."""
        part = size // 2 // self.threads
        arrays = [
            (torch.ones(part, dtype=torch.uint8), torch.ones(part, dtype=torch.uint8)) for _ in range(self.threads)
        ]
        passes = max(1, 64 * MIB // size)

        def work(a: torch.Tensor, b: torch.Tensor) -> None:
            for _ in range(passes):
                self.function[how](a.data_ptr(), b.data_ptr(), part)

        start = time.perf_counter()
        list(self.pool.map(lambda pair: work(*pair), arrays))
        return passes * 2 * part * self.threads / (time.perf_counter() - start)


def bytes_allocated(call: Callable[[], Any]) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    return sum(max(0, event.self_cpu_memory_usage) for event in profile.events())


def compiled_distance() -> tuple[Callable[..., Any] | None, str]:
    """The expression under torch.compile for the current number of threads, or why there is none."""
    torch._dynamo.reset()
    compiled = torch.compile(wavespeed_distance, dynamic=True)
    try:
        for dtype in DTYPES.values():
            compiled(torch.ones(64, 64, dtype=dtype).flatten(), torch.ones(64, 64, dtype=dtype).flatten())
    except Exception as problem:
        return None, f"torch.compile does not work here: {str(problem).splitlines()[0]}"
    return compiled, ""


def measure(kernel: Kernel, name: str, size: int, threads: int, repeats: int, compiled: Any) -> dict[str, Any]:
    dtype = DTYPES[name]
    operands = Operands(dtype, size)
    native = kernel.native()
    ours, theirs = operands.of_native(kernel), operands.of_expression(kernel)
    sides: dict[str, Callable[[], Any]] = {
        "native": lambda: native(*ours),
        "eager": lambda: kernel.expression(*theirs),
    }
    if kernel.instead is not kernel.expression:
        sides["instead"] = lambda: kernel.instead(*ours)
    if compiled is not None and kernel.name == "distance":
        sides["compiled"] = lambda: compiled(*theirs)
    allocated = bytes_allocated(sides["native"])
    moved = kernel.bytes_moved(operands.n, dtype)
    memory = Memory(threads)
    taken: dict[str, list[float]] = {side: [] for side in sides}
    bandwidth: list[float] = []
    for call in sides.values():
        call()
    for _ in range(repeats * (3 if size <= 32 * MIB else 1)):
        bandwidth.append(memory.bandwidth(kernel.limit, moved))
        for side, call in sides.items():
            taken[side].append(seconds(call))
    median = {side: statistics.median(times) for side, times in taken.items()}
    median.setdefault("instead", median["eager"])
    tenths = statistics.quantiles(taken["native"], n=10, method="inclusive")
    return {
        "measurement": kernel.name,
        "dtype": name,
        "mib": size // MIB,
        "threads": threads,
        "milliseconds": {side: 1000 * value for side, value in median.items()},
        "native_ms_10_to_90_percent": [1000 * tenths[0], 1000 * tenths[-1]],
        "gigabytes_per_second": moved / median["native"] / 1e9,
        "limit": kernel.limit,
        "limit_gigabytes_per_second": statistics.median(bandwidth) / 1e9,
        "share_of_limit": moved / median["native"] / statistics.median(bandwidth),
        "share_of_limit_best_of_each": moved / min(taken["native"]) / max(bandwidth),
        "times_faster": {side: value / median["native"] for side, value in median.items() if side != "native"},
        "allocated_bytes": allocated,
        "repeats": len(bandwidth),
    }


# ---- The table -------------------------------------------------------------------------------------------------------


def row(line: dict[str, Any]) -> str:
    low, high = line["native_ms_10_to_90_percent"]
    faster = line["times_faster"]
    compiled = faster.get("compiled")
    return (
        f"{line['measurement']:21}{line['dtype']:>5}{line['mib']:>5}{line['threads']:>3}"
        f"{line['milliseconds']['native']:10.3f}{f'{low:.3f} to {high:.3f}':>20}"
        f"{line['gigabytes_per_second']:8.1f}{line['limit_gigabytes_per_second']:8.1f} {line['limit']:5}"
        f"{line['share_of_limit']:6.0%}{line['share_of_limit_best_of_each']:6.0%}{faster['eager']:9.1f}"
        f"{f'{compiled:.1f}' if compiled else '-':>10}{faster['instead']:10.2f}{line['allocated_bytes']:>12}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats", type=int, default=7, help="for the largest size, at least 2; three times as many for the others"
    )
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 24, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kernels", nargs="+", default=[kernel.name for kernel in KERNELS])
    chosen = parser.parse_args()
    if chosen.repeats < 2:
        parser.error(f"--repeats {chosen.repeats} is too few: the spread of the times takes at least 2")
    executor = operations.load(_native.core).executor
    load = os.getloadavg()[0]
    lines = []
    reasons = set()
    with torch.inference_mode():
        for threads in chosen.threads:
            torch.set_num_threads(threads)
            compiled, reason = compiled_distance()
            reasons.add(reason)
            for kernel in (kernel for kernel in KERNELS if kernel.name in chosen.kernels):
                for name in DTYPES:
                    for mib in chosen.mib:
                        lines.append(measure(kernel, name, mib * MIB, threads, chosen.repeats, compiled))
                        print(json.dumps(lines[-1]), flush=True)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, with {executor}")
    print(f"load of the machine {load:.2f} at the beginning, {os.getloadavg()[0]:.2f} at the end (1 minute)")
    for reason in reasons - {""}:
        print(reason)
    print(
        f"{'kernel':21}{'dtype':>5}{'MiB':>5}{'th':>3}{'ms':>10}{'10 to 90 %':>20}{'GB/s':>8}{'limit':>8} {'of':5}"
        f"{'share':>6}{'best':>6}{'x eager':>9}{'x compile':>10}{'x instead':>10}{'allocated':>12}"
    )
    for line in lines:
        print(row(line))


if __name__ == "__main__":
    main()
