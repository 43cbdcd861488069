"""The arithmetic of the cache on tensors: the operators torch.ops.wavespeed.*, and what the extension is given to call.

One meaning, three executors. On the CPU the shim (src/torch/shim.cpp) runs the native kernels in torch's own threads
(docs/kernels.md), and on GPUs of NVIDIA the extension launches those for CUDA (cuda_kernels.py); on every other
device, and where neither can work, the same operators are the torch expressions below. As operators (and not as plain
functions) they run on torch's stream, are traced by torch.compile, and belong to the process: a second copy of the
pack uses those of the first.

    residual_distance(a, b)            [sum|a-b|, sum|b|], shape (2,)
    finish_residual_(base!, end)       base (float32) becomes end - base; returns sum|base| of the result, shape (1,)
    apply_residual(hidden, residual)   hidden + residual (float32) in hidden's dtype: a new contiguous tensor
    apply_residual_(hidden!, residual) the same in place
    residual_moments(probe, s1, s2, s3)
        sums about the probe and three stored ones, newest first, shape (8,): the members of ws_moments in kernels.h
    subtract_states_(residual!, start, end)
        residual (float32) becomes end - start; returns sum|residual|, shape (1,)
    advance_residual_(residual!, difference!, start, end)
        the same where residual holds the residual before; difference becomes how it changed
    extrapolate_residual(hidden, residual, d1, d2, w1, w2)
        hidden + residual + w1 d1 + w2 d2 in hidden's dtype: a new contiguous tensor
    extrapolate_residual_(hidden!, residual, d1, d2, w1, w2)
        the same in place

A difference is kept in 8 bits with a scale per DIFFERENCE_GROUP elements, in one float32 tensor that new_difference()
makes: the scales, then the values, four in the place of a float (difference.py).
Both tensors have the same shape. Dtypes: float32, bfloat16, float16, float64. All arithmetic is done in float32 or
better and rounded once. Sums have the dtype sum_dtype(device).
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .cuda_kernels import CudaKernels
from .difference import DIFFERENCE_GROUP, count_groups, difference_size
from .shared_library import missing_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SHIM_FILE = Path(__file__).with_name("_torch_shim.so")

SUPPORTED_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16, torch.float64})

Streams = tuple[Any, ...]
"""Tensors of any shape with the same batch, or tuples of such; what a block calls its hidden states."""

LARGEST_VALUE = 127
SMALLEST_DIFFERENCE = 2.0**-100
PART = DIFFERENCE_GROUP << 15
"""Elements of which the expressions for differences make float32 copies at a time."""

DEVICES_WITH_FLOAT64 = frozenset({"cpu", "cuda", "meta"})


@dataclass(frozen=True)
class Operations:
    """What the extension calls, always with positional arguments, and who does the work."""

    distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    finish: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    apply_in_place: Callable[[torch.Tensor, torch.Tensor], None]
    moments: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    subtract: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    advance: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    extrapolate: Callable[..., torch.Tensor]
    extrapolate_in_place: Callable[..., None]
    new_difference: Callable[[torch.Tensor], torch.Tensor]
    complete: Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor | None]
    read: Callable[[list[torch.Tensor]], list[float]]
    copy_to_float32: Callable[[torch.Tensor], torch.Tensor]
    pack: Callable[[Streams], torch.Tensor]
    unpack: Callable[[torch.Tensor, Streams], Streams]
    join: Callable[[tuple[torch.Tensor, ...]], torch.Tensor]
    replace_tokens: Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
    finish_part: Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor | None]
    take_part: Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
    holds: Callable[[torch.Tensor, torch.Tensor, bool], bool]
    offload: Callable[[torch.Tensor], torch.Tensor]
    fetch: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    sketch: Callable[[torch.Tensor], tuple[int, bytes]]
    out_of_memory: type[Exception]
    """What torch raises when a device has no memory left."""
    executor: str
    """For the status and the log, to be read after the word "with"."""


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


def _total(magnitudes: torch.Tensor) -> torch.Tensor:
    """Sum of all elements, shape ().

    In float32 along the last dimension and in sum_dtype() across: summing everything in float64 at once would first
    make a float64 copy of the whole tensor.
    """
    return magnitudes.sum(-1, dtype=_wide(magnitudes.dtype)).sum(dtype=sum_dtype(magnitudes.device))


def residual_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    _check_distance(a, b)
    # One float32 tensor is all the memory this takes: it is written in place and gone before b's magnitudes are formed.
    difference = _total(a.to(_wide(a.dtype), copy=True).sub_(b).abs_())
    return torch.stack((difference, _total(b.abs())))


def finish_residual_(base: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_finish(base, end)
    torch.sub(end, base, out=base)
    return _total(base.abs()).reshape(1)


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
    return torch.stack([_total(part) for part in (e.abs(), newest.abs(), *products)])


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
    scales.copy_(torch.where(used, largest / LARGEST_VALUE, unused))
    rounded = (rows * (LARGEST_VALUE / largest)[:, None]).round_()
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
        total += _total(now.abs_())
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


def _fake_residual_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    _check_distance(a, b)
    return a.new_empty((2,), dtype=sum_dtype(a.device))


def _fake_finish_residual_(base: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_finish(base, end)
    return base.new_empty((1,), dtype=sum_dtype(base.device))


def _fake_apply_residual(hidden: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    _check_apply(hidden, residual)
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


def _fake_apply_residual_(hidden: torch.Tensor, residual: torch.Tensor) -> None:
    _check_apply(hidden, residual)


def _fake_residual_moments(probe: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor, s3: torch.Tensor) -> torch.Tensor:
    for stored in (s1, s2, s3):
        _check_distance(probe, stored)
    return probe.new_empty((8,), dtype=sum_dtype(probe.device))


def _fake_subtract_states_(residual: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    _check_subtract(residual, start, end)
    return residual.new_empty((1,), dtype=sum_dtype(residual.device))


def _fake_advance_residual_(
    residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    _check_advance(residual, difference, start, end)
    return residual.new_empty((1,), dtype=sum_dtype(residual.device))


def _fake_extrapolate_residual(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> torch.Tensor:
    _check_extrapolate(hidden, residual, d1, d2)
    return torch.empty_like(hidden, memory_format=torch.contiguous_format)


def _fake_extrapolate_residual_(
    hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
) -> None:
    _check_extrapolate(hidden, residual, d1, d2)


# ---- Registration ----------------------------------------------------------------------------------------------------


class _Operator(NamedTuple):
    name: str
    signature: str
    expression: Callable[..., torch.Tensor | None]
    fake: Callable[..., torch.Tensor | None]

    @property
    def qualified_name(self) -> str:
        return f"wavespeed::{self.name}"

    def overload(self) -> torch._ops.OpOverload | None:
        """The operator as this process has it, or None."""
        try:
            return getattr(torch.ops.wavespeed, self.name).default
        except AttributeError:
            return None

    def has_kernel(self, key: str) -> bool:
        return torch._C._dispatch_has_kernel_for_dispatch_key(self.qualified_name, key)


# The signatures are those of src/torch/shim.cpp.
OPERATORS = (
    _Operator("residual_distance", "(Tensor a, Tensor b) -> Tensor", residual_distance, _fake_residual_distance),
    _Operator("finish_residual_", "(Tensor(a!) base, Tensor end) -> Tensor", finish_residual_, _fake_finish_residual_),
    _Operator("apply_residual", "(Tensor hidden, Tensor residual) -> Tensor", apply_residual, _fake_apply_residual),
    _Operator("apply_residual_", "(Tensor(a!) hidden, Tensor residual) -> ()", apply_residual_, _fake_apply_residual_),
    _Operator(
        "residual_moments",
        "(Tensor probe, Tensor s1, Tensor s2, Tensor s3) -> Tensor",
        residual_moments,
        _fake_residual_moments,
    ),
    _Operator(
        "subtract_states_",
        "(Tensor(a!) residual, Tensor start, Tensor end) -> Tensor",
        subtract_states_,
        _fake_subtract_states_,
    ),
    _Operator(
        "advance_residual_",
        "(Tensor(a!) residual, Tensor(b!) difference, Tensor start, Tensor end) -> Tensor",
        advance_residual_,
        _fake_advance_residual_,
    ),
    _Operator(
        "extrapolate_residual",
        "(Tensor hidden, Tensor residual, Tensor d1, Tensor d2, float w1, float w2) -> Tensor",
        extrapolate_residual,
        _fake_extrapolate_residual,
    ),
    _Operator(
        "extrapolate_residual_",
        "(Tensor(a!) hidden, Tensor residual, Tensor d1, Tensor d2, float w1, float w2) -> ()",
        extrapolate_residual_,
        _fake_extrapolate_residual_,
    ),
)


MEMBERS = (
    "distance",
    "finish",
    "apply",
    "apply_in_place",
    "moments",
    "subtract",
    "advance",
    "extrapolate",
    "extrapolate_in_place",
)
"""What Operations calls each of OPERATORS, in their order."""


def _load_shim(core: ModuleType | None) -> str:
    """Registers the operators with native CPU kernels. Returns why that is impossible, or an empty text."""
    if core is None:
        return "the native module is missing"
    if not SHIM_FILE.is_file():
        return f"{SHIM_FILE.name} has not been built (it needs torch 2.10 and a C++ compiler)"
    if torch.__version__ < (2, 10):
        return f"torch {torch.__version__} is older than 2.10"
    try:
        if lacking := missing_bytes(SHIM_FILE):
            return f"{SHIM_FILE.name} is cut off: it lacks its last {lacking} bytes"
        answer = core.load_torch_shim(str(SHIM_FILE))
    except (OSError, RuntimeError) as problem:
        return f"{SHIM_FILE.name} does not load: {str(problem).rstrip('.')}"
    if answer == "taken":
        return "something else in this process has operators named wavespeed"
    return ""


def _cuda_kernels(core: ModuleType | None) -> CudaKernels | None:
    """None where they are not built or not wanted, and where torch's devices named cuda are none of NVIDIA's."""
    if core is None or torch.version.cuda is None or torch.version.hip is not None:
        return None
    kernels = CudaKernels(core)
    return kernels if kernels.is_on else None


def _register(core: ModuleType | None, cuda: CudaKernels | None) -> str:
    """Sees to it that the process has the operators, complete.

    Looking first is what lets a second copy of the pack in: torch refuses, loudly, to register anything twice.
    Registrations made without a Library object stay for the life of the process, whatever becomes of this module.
    """
    before = [operator.overload() is not None for operator in OPERATORS]
    if all(before):
        native = OPERATORS[0].has_kernel("CPU")
        reason = "" if native else "another copy of this pack has registered them"
    else:
        reason = _load_shim(core)
    for operator in OPERATORS:
        if operator.overload() is None:
            torch.library.define(operator.qualified_name, operator.signature)
        if str(operator.overload()._schema) != operator.qualified_name + operator.signature:
            raise RuntimeError(f"another {operator.qualified_name} is registered: {operator.overload()._schema}")
        if not operator.has_kernel("CompositeExplicitAutograd"):
            torch.library.impl(operator.qualified_name, "CompositeExplicitAutograd", operator.expression)
        if cuda is not None and not operator.has_kernel("CUDA"):
            torch.library.impl(operator.qualified_name, "CUDA", cuda.operator(operator.name, operator.expression))
        if not operator.has_kernel("Meta"):
            torch.library.register_fake(operator.qualified_name, operator.fake)
    return reason


def _level(core: ModuleType) -> str:
    """The level of the CPU's vector units in use, and what became of the user's wish for another."""
    level = core.status()["cpu_kernels"]
    wanted = os.environ.get("WAVESPEED_CPU_LEVEL") or level
    return level if wanted == level else f"{level}; this machine has no {wanted}, which WAVESPEED_CPU_LEVEL asks for"


@functools.cache
def load(core: ModuleType | None) -> Operations:
    """The operators for the extension module `core`. Never raises: without native kernels the work is done by torch."""
    others_came_first = all(operator.overload() is not None for operator in OPERATORS)
    cuda = _cuda_kernels(core)
    try:
        reason = _register(core, cuda)
        functions = [operator.overload() for operator in OPERATORS]
    except Exception as problem:
        # Whatever a torch release does to registration, the arithmetic works without.
        reason = f"torch does not take the operators of this pack: {str(problem).rstrip('.')}"
        functions = [operator.expression for operator in OPERATORS]
    if reason:
        executor = f"torch expressions, because {reason}"
    else:
        kernels = "of another copy of this pack" if others_came_first else f"({_level(core)})"
        gpus = "" if cuda is None else ", native CUDA kernels"
        executor = f"native CPU kernels {kernels}{gpus}, and torch expressions on other devices"
    return Operations(
        **dict(zip(MEMBERS, functions, strict=True)),
        new_difference=new_difference,
        complete=complete,
        read=read if cuda is None else functools.partial(read, cuda=cuda),
        copy_to_float32=copy_to_float32,
        pack=pack,
        unpack=unpack,
        join=join,
        replace_tokens=replace_tokens,
        finish_part=finish_part,
        take_part=take_part,
        holds=holds,
        offload=offload,
        fetch=fetch,
        sketch=sketch,
        out_of_memory=getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError),
        executor=executor,
    )


# ---- Beside the operators --------------------------------------------------------------------------------------------


def read(tensors: list[torch.Tensor], cuda: CudaKernels | None = None) -> list[float]:
    """All elements of some small one-dimensional tensors. Waits for the device once."""
    if tensors and all(tensor.device == tensors[0].device for tensor in tensors) and not tensors[0].is_cpu:
        values = cuda.read(tensors) if cuda is not None and tensors[0].is_cuda else None
        return torch.cat(tensors).tolist() if values is None else values
    return [value for tensor in tensors for value in tensor.tolist()]


def is_capturing() -> bool:
    """Whether a CUDA graph is being recorded. What a cache does then would be repeated with the graph: nothing."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def copy_to_float32(hidden: torch.Tensor) -> torch.Tensor:
    """A new contiguous float32 tensor, also when hidden is one already."""
    return hidden.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def new_difference(like: torch.Tensor) -> torch.Tensor:
    """Memory for a difference of residuals of this shape, on their device."""
    return like.new_empty((difference_size(like.numel()),), dtype=torch.float32)


# ---- Streams: several hidden states kept as one tensor ---------------------------------------------------------------


def _tensors(streams: Streams) -> list[torch.Tensor]:
    """All tensors, in order."""
    return [tensor for part in streams for tensor in (_tensors(part) if isinstance(part, (tuple, list)) else [part])]


def pack(streams: Streams) -> torch.Tensor:
    """(B, elements of a row of every stream)"""
    return torch.cat([tensor.flatten(1) for tensor in _tensors(streams)], 1)


def unpack(packed: torch.Tensor, streams: Streams) -> Streams:
    """The streams that were packed, as new tensors in the structure, shapes and dtypes of `streams`."""
    rest = iter(packed.split([tensor[0].numel() for tensor in _tensors(streams)], 1))

    def take(part: Any) -> Any:
        if isinstance(part, (tuple, list)):
            return type(part)(take(item) for item in part)
        return next(rest).reshape(part.shape).to(part.dtype)

    return tuple(take(part) for part in streams)


def join(streams: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """(B, all tokens, width), as a model joins its streams before its single-stream blocks."""
    return torch.cat(streams, 1)


def replace_tokens(joint: torch.Tensor, state: torch.Tensor, at_tail: bool) -> torch.Tensor:
    """joint (B, N, width) with its first or last n tokens replaced by those of state (B, n, width); a new tensor."""
    others = joint.shape[1] - state.shape[1]
    state = state.to(joint.dtype)
    parts = (joint[:, :others], state) if at_tail else (state, joint[:, state.shape[1] :])
    return torch.cat(parts, 1)


def take_part(state: torch.Tensor, end: torch.Tensor, at_tail: bool) -> torch.Tensor:
    """A view of the first or last tokens of state (B, N, width), as many as end (B, n, width) has."""
    count = min(end.shape[1], state.shape[1])
    return state.narrow(1, state.shape[1] - count if at_tail else 0, count)


def holds(joint: torch.Tensor, stream: torch.Tensor, at_tail: bool) -> bool:
    """Whether the first or last tokens of joint (B, N, width) are stream (B, n, width). Waits for the device."""
    part = take_part(joint, stream, at_tail)
    return part.shape == stream.shape and torch.equal(part, stream)


def finish_part(base: torch.Tensor, end: torch.Tensor, at_tail: bool) -> torch.Tensor | None:
    """finish_residual_ where the head is given only the first or last tokens; the residual of the others is 0.

    None, with base untouched, where end is no such part of it.
    """
    part = take_part(base, end, at_tail)
    if part.shape != end.shape or base.device != end.device:
        return None
    difference = torch.sub(end, part)
    base.zero_()
    part.copy_(difference)
    return _total(base.abs()).reshape(1)


def complete(start: torch.Tensor, end: torch.Tensor, at_tail: bool) -> torch.Tensor | None:
    """end (B, n, width) with the other tokens of start (B, N, width), whose residual is 0; None where it is no part."""
    if take_part(start, end, at_tail).shape != end.shape or start.device != end.device:
        return None
    return replace_tokens(start.to(end.dtype), end, at_tail)


# ---- Where the cache rests -------------------------------------------------------------------------------------------


def offload(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in host memory; page-locked for a GPU, so that fetching it runs at the speed of the bus."""
    if tensor.is_cpu:
        return tensor.clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda).copy_(tensor)


def fetch(stored: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A copy of an offloaded tensor on the device of `like`, ordered with what that device does next."""
    return stored.to(like.device, non_blocking=True)


# ---- Traces ----------------------------------------------------------------------------------------------------------

SKETCH = 1 << 16
"""Elements of a sketch at most: WS_TRACE_SKETCH in trace.h."""


def sketch(tensor: torch.Tensor) -> tuple[int, bytes]:
    """How many elements a tensor (..., width) has, and rows at even distances as float32, as many as a sketch holds."""
    rows = tensor.reshape(-1, tensor.shape[-1])
    step = max(1, -(-tensor.numel() // SKETCH))
    values = rows[::step].flatten()[:SKETCH].to("cpu", torch.float32)
    return tensor.numel(), values.numpy().tobytes()
