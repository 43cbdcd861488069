"""The arithmetic of the cache on tensors: the operators torch.ops.wavespeed.*, and what the extension is given to call.

One meaning, three executors. On the CPU the shim (src/torch/shim.cpp) runs the native kernels in torch's own threads
(docs/kernels.md), and on GPUs of NVIDIA the extension launches those for CUDA (cuda_kernels.py); on every other
device, and where neither can work, the same operators are torch expressions (expressions.py). As operators (and not as
plain functions) they run on torch's stream, are traced by torch.compile, and belong to the process: a second copy of
the pack uses those of the first.

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
from typing import TYPE_CHECKING, NamedTuple

import torch

from . import expressions, streams
from .cuda_kernels import CudaKernels
from .shared_library import missing_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from .streams import Streams

SHIM_FILE = Path(__file__).with_name("_torch_shim.so")


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


# ---- Registration ----------------------------------------------------------------------------------------------------


class _Operator(NamedTuple):
    member: str
    """What Operations calls it."""
    name: str
    signature: str

    @property
    def expression(self) -> Callable[..., torch.Tensor | None]:
        return getattr(expressions, self.name)

    @property
    def fake(self) -> Callable[..., torch.Tensor | None]:
        """Its shapes only."""
        return getattr(expressions, f"fake_{self.name}")

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
    _Operator("distance", "residual_distance", "(Tensor a, Tensor b) -> Tensor"),
    _Operator("finish", "finish_residual_", "(Tensor(a!) base, Tensor end) -> Tensor"),
    _Operator("apply", "apply_residual", "(Tensor hidden, Tensor residual) -> Tensor"),
    _Operator("apply_in_place", "apply_residual_", "(Tensor(a!) hidden, Tensor residual) -> ()"),
    _Operator("moments", "residual_moments", "(Tensor probe, Tensor s1, Tensor s2, Tensor s3) -> Tensor"),
    _Operator("subtract", "subtract_states_", "(Tensor(a!) residual, Tensor start, Tensor end) -> Tensor"),
    _Operator(
        "advance",
        "advance_residual_",
        "(Tensor(a!) residual, Tensor(b!) difference, Tensor start, Tensor end) -> Tensor",
    ),
    _Operator(
        "extrapolate",
        "extrapolate_residual",
        "(Tensor hidden, Tensor residual, Tensor d1, Tensor d2, float w1, float w2) -> Tensor",
    ),
    _Operator(
        "extrapolate_in_place",
        "extrapolate_residual_",
        "(Tensor(a!) hidden, Tensor residual, Tensor d1, Tensor d2, float w1, float w2) -> ()",
    ),
)


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
        members = {operator.member: operator.overload() for operator in OPERATORS}
    except Exception as problem:
        # Whatever a torch release does to registration, the arithmetic works without.
        reason = f"torch does not take the operators of this pack: {str(problem).rstrip('.')}"
        members = {operator.member: operator.expression for operator in OPERATORS}
    if reason:
        executor = f"torch expressions, because {reason}"
    else:
        kernels = "of another copy of this pack" if others_came_first else f"({_level(core)})"
        gpus = "" if cuda is None else ", native CUDA kernels"
        executor = f"native CPU kernels {kernels}{gpus}, and torch expressions on other devices"
    return Operations(
        **members,
        new_difference=expressions.new_difference,
        complete=streams.complete,
        read=read if cuda is None else functools.partial(read, cuda=cuda),
        copy_to_float32=copy_to_float32,
        pack=streams.pack,
        unpack=streams.unpack,
        join=streams.join,
        replace_tokens=streams.replace_tokens,
        finish_part=streams.finish_part,
        take_part=streams.take_part,
        holds=streams.holds,
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
