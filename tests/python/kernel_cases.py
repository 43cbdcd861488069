"""Operands of the kernels from a short description, and what every operator makes of them; run as a program, it answers
for the level of the vector units that its environment asks for."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch

from wavespeed import _native, expressions, operations


@dataclass(frozen=True)
class Case:
    dtype: str
    n: int
    begin: int
    """Elements that lie before the first one, which decide how it is aligned."""
    step: int
    """More than 1: the operands are strided views."""
    seed: int
    values: tuple[float, ...]
    """Repeated in every operand in another order; empty: as random as hidden states are."""


def operands(case: Case, count: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(case.seed)

    def operand() -> torch.Tensor:
        view = torch.zeros(case.begin + case.n * case.step, dtype=dtype)[case.begin :: case.step]
        if not case.values:
            return view.copy_(torch.randn(case.n, generator=generator))
        chosen = torch.randint(len(case.values), (case.n,), generator=generator)
        return view.copy_(torch.tensor(case.values, dtype=torch.float32)[chosen])

    return [operand() for _ in range(count)]


def digest(result: torch.Tensor) -> str:
    """Of the bits; which NaN a NaN is may differ."""
    if result.is_floating_point():
        result = result.masked_fill(result.isnan(), float("nan"))
    return hashlib.sha256(result.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def digests(native: Any, case: Case) -> dict[str, str]:
    """By operator, those that write with "written" behind their name."""
    states = operands(case, 4, getattr(torch, case.dtype))
    residuals = operands(case, 3, torch.float32)
    found = {
        "distance": native.distance(*states[:2]),
        "moments": native.moments(*states),
        "apply": native.apply(states[0], residuals[0]),
    }
    for name, written, more in (
        ("finish", residuals[0].clone(), (states[0],)),
        ("subtract", residuals[1].clone(), tuple(states[:2])),
        ("apply_in_place", states[1].clone(), (residuals[0],)),
    ):
        result = getattr(native, name)(written, *more)
        found |= {f"{name} written": written} | ({} if result is None else {name: result})
    residual, difference = residuals[2].clone(), torch.zeros_like(expressions.new_difference(residuals[2]))
    found["advance"] = native.advance(residual, difference, *states[:2])
    scales = len(difference) - (case.n + 3) // 4
    found |= {
        "advance written": residual,
        "scales": difference[:scales],
        "values": difference[scales:].view(torch.int8),
    }
    found["extrapolate"] = native.extrapolate(states[3], residuals[0], difference, difference, 1.5, -0.75)
    native.extrapolate_in_place(states[3], residuals[0], difference, difference, 1.5, -0.75)
    found["extrapolate_in_place written"] = states[3]
    return {name: digest(result) for name, result in found.items()}


def main() -> None:
    """One JSON request a line, {"threads": ..., "case": {...}}; one JSON answer a line."""
    native = operations.load(_native.core)
    print(json.dumps(_native.core.status()["cpu_kernels"]), flush=True)
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        case = Case(**request["case"] | {"values": tuple(request["case"]["values"])})
        torch.set_num_threads(request["threads"])
        print(json.dumps(digests(native, case)), flush=True)


def request(case: Case, threads: int) -> str:
    return json.dumps({"threads": threads, "case": asdict(case)}) + "\n"


if __name__ == "__main__":
    main()
