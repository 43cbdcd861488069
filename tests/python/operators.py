"""The operators of the cache and their expressions, and the layouts of tensors that the tests give them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from wavespeed import _native, expressions, operations
from wavespeed.difference import DIFFERENCE_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

LOADED = operations.load(_native.core)
HAS_SHIM = LOADED.executor.startswith("native CPU kernels")
IS_TORCH_NEW = torch.__version__ >= (2, 10)
needs_shim = pytest.mark.skipif(not HAS_SHIM, reason=f"no native operators here: {LOADED.executor}")

EXPRESSIONS = SimpleNamespace(**{operator.member: operator.expression for operator in operations.OPERATORS})
EXECUTORS = [pytest.param(LOADED, id="native", marks=needs_shim), pytest.param(EXPRESSIONS, id="expressions")]

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "contiguous": lambda: numbers(2, 5, 8),
    "transposed": lambda: numbers(2, 8, 5).transpose(1, 2),
    "sliced": lambda: numbers(2, 9, 8)[:, 4:],
    "every second": lambda: numbers(4, 16)[:, ::2],
    "channels last": lambda: numbers(2, 4, 3, 5).contiguous(memory_format=torch.channels_last),
    "more than a chunk": lambda: numbers(3, 70000),
    "no rows": lambda: numbers(0, 8),
    "no columns": lambda: numbers(8, 0),
    "scalar": lambda: numbers(),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
executors = pytest.mark.parametrize("executor", EXECUTORS)


def cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Keeps the strides of slices, which Tensor.to() would not."""
    whole = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype)
    return whole.copy_(tensor)


def distance_in_float64(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.double(), b.double()
    return torch.stack(((a - b).abs().sum(), b.abs().sum()))


def difference_of(newer: torch.Tensor, older: torch.Tensor) -> torch.Tensor:
    """newer - older in 8 bits."""
    difference = expressions.new_difference(newer)
    EXPRESSIONS.advance(older.clone(), difference, torch.zeros_like(newer), newer)
    return difference


def in_float64(difference: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    n = math.prod(shape)
    groups = -(-n // DIFFERENCE_GROUP)
    scales = difference[:groups].double().repeat_interleave(DIFFERENCE_GROUP)[:n]
    return (difference[groups:].view(torch.int8)[:n] * scales).view(shape)
