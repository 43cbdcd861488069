"""The operators of operations.py as torch expressions, for every device, and their shapes for torch.compile.

All arithmetic is done in float32 or better and rounded once.
"""

from __future__ import annotations

import torch

from .difference import DIFFERENCE_GROUP, count_groups, difference_size

SUPPORTED_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})

LARGEST_VALUE = 127
SMALLEST_DIFFERENCE = 2.0**-100
PART = DIFFERENCE_GROUP << 15
"""Elements of which the expressions for differences make float32 copies at a time."""

DEVICES_WITH_FLOAT64 = frozenset({"cpu", "cuda", "meta"})


def sum_dtype(device: torch.device) -> torch.dtype:
    """float64 where the device has it: MPS and many XPU devices do not."""
    return torch.float64 if device.type in DEVICES_WITH_FLOAT64 else torch.float32


# ---- The operators as torch expressions ------------------------------------------------------------------------------


def _check(first: torch.Tensor, second: torch.Tensor) -> None:
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise RuntimeError(f"both tensors must have the same shape, and these have {shapes}.")
    for tensor in (first, second):
        if tensor.dtype not in SUPPORTED_DTYPES:
            raise RuntimeError(f"the dtype must be float32, bfloat16, float16 or float64, and not {tensor.dtype}.")


def _check_float32(tensor: torch.Tensor, name: str) -> None:
    if tensor.dtype is not torch.float32:
        raise RuntimeError(f"the tensor '{name}' must be float32, and it is {tensor.dtype}.")


def _check_distance(a: torch.Tensor, b: torch.Tensor) -> None:
    _check(a, b)
    if a.dtype != b.dtype:
        raise RuntimeError(f"both tensors must have the same dtype, and these have {a.dtype} and {b.dtype}.")


def _check_finish(base: torch.Tensor, end: torch.Tensor) -> None:
    _check(base, end)
    _check_float32(base, "base")


def _check_apply(hidden: torch.Tensor, residual: torch.Tensor) -> None:
    _check(hidden, residual)
    _check_float32(residual, "residual")


def _check_subtract(residual: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> None:
    _check(residual, start)
    _check_float32(residual, "residual")
    _check(start, end)
    if start.dtype != end.dtype:
        raise RuntimeError(f"both states must have the same dtype, and these have {start.dtype} and {end.dtype}.")


def _check_difference(difference: torch.Tensor, like: torch.Tensor) -> None:
    _check_float32(difference, "difference")
    size = difference_size(like.numel())
    if difference.shape != (size,) or not difference.is_contiguous():
        shape = tuple(difference.shape)
        raise RuntimeError(f"a difference of this tensor has the shape ({size}), and this one has {shape}.")


def _check_advance(residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> None:
    _check_subtract(residual, start, end)
    _check_difference(difference, residual)


def _check_extrapolate(hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor) -> None:
    _check_apply(hidden, residual)
    _check_difference(d1, hidden)
    _check_difference(d2, hidden)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


def sum_magnitudes(magnitudes: torch.Tensor) -> torch.Tensor:
    """Sum of all elements, shape ().

    In float32 along the last dimension and in sum_dtype() across: summing everything in float64 at once would first
    make a float64 copy of the whole tensor.
    """
    return magnitudes.sum(-1, dtype=_wide(magnitudes.dtype)).sum(dtype=sum_dtype(magnitudes.device))


def residual_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    _check_distance(a, b)
    # One float32 tensor is all the memory this takes: it is written in place and gone before b's magnitudes are formed.
    difference = sum_magnitudes(a.to(_wide(a.dtype), copy=True).sub_(b).abs_())
    return torch.stack((difference, sum_magnitudes(b.abs())))


def finish_residual_(base: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_finish(base, end)
    torch.sub(end, base, out=base)
    return sum_magnitudes(base.abs()).reshape(1)


# In the two below, type promotion makes torch add in float32 and round to the dtype of the target when it stores: once.


def apply_residual(hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    _check_apply(hidden, residual)
    return torch.add(hidden, residual, out=torch.empty_like(hidden, memory_format=torch.contiguous_format))


def apply_residual_(hidden: torch.Tensor, residual: torch.Tensor) -> None:
    _check_apply(hidden, residual)
    hidden.add_(residual)


def residual_moments(probe: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor, s3: torch.Tensor) -> torch.Tensor:
    for stored in (s1, s2, s3):
        _check_distance(probe, stored)
    wide = _wide(probe.dtype)
    newest, middle = s1.to(wide), s2.to(wide)
    e, d1, d2 = probe.to(wide) - newest, newest - middle, middle - s3.to(wide)
    products = (e * e, e * d1, e * d2, d1 * d1, d1 * d2, d2 * d2)
    return torch.stack([sum_magnitudes(part) for part in (e.abs(), newest.abs(), *products)])


def subtract_states_(residual: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_subtract(residual, start, end)
    return finish_residual_(residual.copy_(start), end)


def _values(difference: torch.Tensor, n: int) -> torch.Tensor:
    return difference[count_groups(n) :].view(torch.int8)[:n]


def _parts(n: int) -> list[tuple[slice, slice]]:
    """Of n elements and of their groups."""
    return [
        (slice(i, min(i + PART, n)), slice(count_groups(i), count_groups(min(i + PART, n)))) for i in range(0, n, PART)
    ]


def _pack(change: torch.Tensor, scales: torch.Tensor, values: torch.Tensor) -> None:
    """change (n,) becomes scales (groups,) and values (n,)."""
    n = len(change)
    rows = torch.nn.functional.pad(change, (0, count_groups(n) * DIFFERENCE_GROUP - n)).view(-1, DIFFERENCE_GROUP)
    largest = rows.abs().amax(-1)
    finite = largest.isfinite()
    used = finite & (largest >= SMALLEST_DIFFERENCE)
    unused = torch.where(finite, 0.0, float("nan"))
    # Quotients of tensors: with a number torch may take the reciprocal and multiply, which rounds twice.
    most = torch.full_like(largest, LARGEST_VALUE)
    scales.copy_(torch.where(used, largest / most, unused))
    rounded = (rows * (most / largest)[:, None]).round_()
    values.copy_(torch.where(used[:, None], rounded, 0.0).flatten()[:n])


def advance_residual_(
    residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    _check_advance(residual, difference, start, end)
    work = residual.contiguous()
    flat, before, after = work.view(-1), start.reshape(-1), end.reshape(-1)
    values, total = _values(difference, len(flat)), residual.new_zeros((), dtype=sum_dtype(residual.device))
    for part, groups in _parts(len(flat)):
        now = after[part].float() - before[part].float()
        _pack(now - flat[part], difference[groups], values[part])
        flat[part] = now
        total += sum_magnitudes(now.abs_())
    if work is not residual:
        residual.copy_(work)
    return total.reshape(1)


def extrapolate_residual(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> torch.Tensor:
    out = hidden.clone(memory_format=torch.contiguous_format)
    extrapolate_residual_(out, residual, d1, d2, w1, w2)
    return out


def extrapolate_residual_(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> None:
    _check_extrapolate(hidden, residual, d1, d2)
    work = hidden.contiguous()
    flat, change = work.view(-1), residual.reshape(-1)
    for part, groups in _parts(len(flat)):
        total = flat[part].to(_wide(hidden.dtype)) + change[part]
        for difference, weight in ((d1, w1), (d2, w2)):
            factors = (difference[groups] * weight).repeat_interleave(DIFFERENCE_GROUP)[: len(total)]
            total += _values(difference, len(flat))[part] * factors
        flat[part] = total
    if work is not hidden:
        hidden.copy_(work)


# ---- Their shapes, for torch.compile and the meta device -------------------------------------------------------------


def fake_residual_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    _check_distance(a, b)
    return a.new_empty((2,), dtype=sum_dtype(a.device))


def fake_finish_residual_(base: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_finish(base, end)
    return base.new_empty((1,), dtype=sum_dtype(base.device))


def fake_apply_residual(hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    _check_apply(hidden, residual)
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


def fake_apply_residual_(hidden: torch.Tensor, residual: torch.Tensor) -> None:
    _check_apply(hidden, residual)


def fake_residual_moments(probe: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor, s3: torch.Tensor) -> torch.Tensor:
    for stored in (s1, s2, s3):
        _check_distance(probe, stored)
    return probe.new_empty((8,), dtype=sum_dtype(probe.device))


def fake_subtract_states_(residual: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_subtract(residual, start, end)
    return residual.new_empty((1,), dtype=sum_dtype(residual.device))


def fake_advance_residual_(
    residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    _check_advance(residual, difference, start, end)
    return residual.new_empty((1,), dtype=sum_dtype(residual.device))


def fake_extrapolate_residual(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> torch.Tensor:
    _check_extrapolate(hidden, residual, d1, d2)
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


def fake_extrapolate_residual_(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> None:
    _check_extrapolate(hidden, residual, d1, d2)


# ---- Memory ----------------------------------------------------------------------------------------------------------


def new_difference(like: torch.Tensor) -> torch.Tensor:
    """Memory for a difference of residuals of this shape, on their device."""
    return like.new_empty((difference_size(like.numel()),), dtype=torch.float32)
