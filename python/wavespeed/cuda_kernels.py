"""The operators of operations.py on GPUs of NVIDIA: native kernels where they can run, and expressions where not.

The kernels are the extension's (docs/kernels.md); this says which tensors they are given, and in which stream. What
they decline is done by the expression: tensors that are not contiguous, float64, a GPU on which they have not proved
themselves, and everything after the extension has turned them off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from .difference import difference_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

log = logging.getLogger("wavespeed")

DISTANCE, MOMENTS, FINISH, SUBTRACT, ADVANCE, APPLY, EXTRAPOLATE = range(7)
"""enum ws_cuda_kernel"""

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""enum ws_dtype"""

MOST_READ, MOST_VALUES = 128, 511
"""Tensors, and values of all of them, in one reading (include/wavespeed/cuda.h)."""

DECLINED = object()
"""What the methods named like operators return where the expression must do it."""


def find_stream(tensor: torch.Tensor) -> tuple[int, int]:
    """Index of a tensor's GPU and the handle of the stream that torch uses there now; never kept, since it changes."""
    return tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream


class CudaKernels:
    def __init__(self, core: ModuleType, find_stream: Callable[[torch.Tensor], tuple[int, int]] = find_stream) -> None:
        self._core = core
        self._find_stream = find_stream
        self.is_on: bool = core.status()["uses_cuda"]

    def _notice_refusal(self) -> None:
        """Says it, once, when the extension has turned the kernels off."""
        status = self._core.status()
        if self.is_on and not status["uses_cuda"]:
            self.is_on = False
            log.warning("WaveSpeed: torch does the work of the CUDA kernels. They are %s.", status["cuda_kernels"])

    def _suit(
        self,
        states: tuple[torch.Tensor, ...],
        wides: tuple[torch.Tensor, ...] = (),
        differences: tuple[torch.Tensor, ...] = (),
    ) -> bool:
        """Whether these can be given to a kernel: states, all of one dtype, and what goes with them in float32."""
        first = states[0]
        size = (difference_size(first.numel()),)
        return (
            self.is_on
            and first.dtype in DTYPES
            and first.numel() > 0
            and all(tensor.dtype is first.dtype for tensor in states)
            and all(tensor.dtype is torch.float32 for tensor in (*wides, *differences))
            and all(tensor.shape == size for tensor in differences)
            and all(tensor.shape == first.shape for tensor in (*states, *wides))
            and all(
                tensor.device == first.device and tensor.is_contiguous() for tensor in (*states, *wides, *differences)
            )
        )

    def _launch(
        self,
        kernel: int,
        inputs: tuple[torch.Tensor, ...],
        out: torch.Tensor | None = None,
        difference: torch.Tensor | None = None,
        sums: torch.Tensor | None = None,
        weights: tuple[float, float] = (0.0, 0.0),
    ) -> bool:
        """False when nothing was launched. The first input has the dtype of the states."""
        first = inputs[0]
        n = first.numel()
        # Freed when this returns, and used again in the order of the stream, as all memory of torch.
        workspace = first.new_empty(self._core.cuda_workspace_bytes(kernel, n) // 8, dtype=torch.float64)
        sources = [tensor.data_ptr() for tensor in inputs] + [0] * (4 - len(inputs))
        targets = [0 if tensor is None else tensor.data_ptr() for tensor in (out, difference, workspace, sums)]
        device, stream = self._find_stream(first)
        launched: bool = self._core.cuda_launch(
            kernel, device, stream, DTYPES[first.dtype], n, *sources, *targets, *weights
        )
        if not launched:
            self._notice_refusal()
        return launched

    def _sums(
        self,
        kernel: int,
        count: int,
        states: tuple[torch.Tensor, ...],
        out: torch.Tensor | None = None,
        difference: torch.Tensor | None = None,
    ) -> Any:
        """Shape (count,), or DECLINED."""
        if not self._suit(states, () if out is None else (out,), () if difference is None else (difference,)):
            return DECLINED
        sums = states[0].new_empty(count, dtype=torch.float64)
        return sums if self._launch(kernel, states, out, difference, sums) else DECLINED

    def residual_distance(self, a: torch.Tensor, b: torch.Tensor) -> Any:
        return self._sums(DISTANCE, 2, (a, b))

    def residual_moments(self, probe: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor, s3: torch.Tensor) -> Any:
        return self._sums(MOMENTS, 8, (probe, s1, s2, s3))

    def finish_residual_(self, base: torch.Tensor, end: torch.Tensor) -> Any:
        return self._sums(FINISH, 1, (end,), base)

    def subtract_states_(self, residual: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> Any:
        return self._sums(SUBTRACT, 1, (start, end), residual)

    def advance_residual_(
        self, residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor
    ) -> Any:
        return self._sums(ADVANCE, 1, (start, end), residual, difference)

    def apply_residual(self, hidden: torch.Tensor, residual: torch.Tensor) -> Any:
        if not self._suit((hidden,), (residual,)):
            return DECLINED
        out = torch.empty_like(hidden)
        return out if self._launch(APPLY, (hidden, residual), out) else DECLINED

    def apply_residual_(self, hidden: torch.Tensor, residual: torch.Tensor) -> Any:
        done = self._suit((hidden,), (residual,)) and self._launch(APPLY, (hidden, residual), hidden)
        return None if done else DECLINED

    def extrapolate_residual(
        self, hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
    ) -> Any:
        if not self._suit((hidden,), (residual,), (d1, d2)):
            return DECLINED
        out = torch.empty_like(hidden)
        return out if self._launch(EXTRAPOLATE, (hidden, residual, d1, d2), out, weights=(w1, w2)) else DECLINED

    def extrapolate_residual_(
        self, hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
    ) -> Any:
        done = self._suit((hidden,), (residual,), (d1, d2)) and self._launch(
            EXTRAPOLATE, (hidden, residual, d1, d2), hidden, weights=(w1, w2)
        )
        return None if done else DECLINED

    def operator(self, name: str, expression: Callable[..., Any]) -> Callable[..., Any]:
        """The operator of this name. The expression also refuses what nobody can do."""
        kernel = getattr(self, name)

        def operator(*arguments: Any) -> Any:
            result = kernel(*arguments)
            return expression(*arguments) if result is DECLINED else result

        return operator

    def read(self, tensors: list[torch.Tensor]) -> list[float] | None:
        """All elements of some small tensors on one GPU, without a copy; None where torch must do it."""
        suitable = (
            self.is_on
            and len(tensors) <= MOST_READ
            and sum(tensor.numel() for tensor in tensors) <= MOST_VALUES
            and all(tensor.dtype in (torch.float32, torch.float64) and tensor.is_contiguous() for tensor in tensors)
        )
        if not suitable:
            return None
        device, stream = self._find_stream(tensors[0])
        parts = tuple((tensor.data_ptr(), tensor.numel(), tensor.dtype is torch.float64) for tensor in tensors)
        values: list[float] | None = self._core.cuda_read(device, stream, parts)
        if values is None:
            self._notice_refusal()
        return values
