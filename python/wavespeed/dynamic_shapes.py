"""Tells torch which sizes change between calls: tokens, sides of pictures and, from two on, the batch.

Without it each new picture size or prompt length compiles again. Only these are marked: a size that never changes,
such as that of an attention head, makes faster code as a constant.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = ("_dynamo_weak_dynamic_indices", "_has_dynamo_dim_marking")
"""Attributes of a tensor in which torch keeps the marks."""


def tensors_in(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def _changing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[torch.Tensor, int]]:
    """Tensors of a call with each dimension whose size changes between calls.

    args and kwargs of a block: hidden states are (B, tokens, C), or of convolutions (B, C, height, width) and more;
    positions and masks have tokens anywhere.

    A size counts as a number of tokens when a hidden state has it in its middle dimension, or when it is the sum of
    those of two hidden states, which models with two streams join.
    """
    tensors = [tensor for tensor in (*tensors_in(args), *tensors_in(kwargs.values())) if tensor.dim() >= 2]
    hidden = [tensor for tensor in tensors if tensor.dim() == 3 and tensor.is_floating_point()]
    counts = {tensor.shape[1] for tensor in hidden}
    counts |= {first + second for first in counts for second in counts}
    batch = hidden[0].shape[0] if hidden else 0
    picture = tensors[0].shape if tensors and tensors[0].dim() >= 4 else ()
    if picture:
        batch = picture[0]
    for tensor in tensors:
        is_picture = bool(picture) and tensor.dim() >= 4
        for dimension, size in enumerate(tensor.shape):
            # Sizes of 1 are constants for torch whatever we say.
            is_batch = dimension == 0 and size == batch
            is_tokens = size in counts and (dimension < tensor.dim() - 1 or tensor.dim() == 4)
            if size > 1 and (is_batch or is_tokens or (is_picture and dimension >= 2)):
                yield tensor, dimension


@contextmanager
def marked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[None]:
    """For a call that may compile. The marks are taken off again: code that was loaded from a file would not take a
    marked tensor, and positions are given to all blocks.
    """
    changing = list(_changing(args, kwargs))
    without = [tensor for tensor, _ in changing if not any(name in vars(tensor) for name in MARKS)]
    for tensor, dimension in changing:
        torch._dynamo.maybe_mark_dynamic(tensor, dimension)
    try:
        yield
    finally:
        for tensor in without:
            for name in MARKS:
                vars(tensor).pop(name, None)


def layout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Kinds and sizes of all tensors of a call; a size that changes between calls counts as more than one."""
    changing = {(id(tensor), dimension) for tensor, dimension in _changing(args, kwargs)}

    def of_tensor(tensor: torch.Tensor) -> str:
        sizes = [
            "n" if (id(tensor), dimension) in changing else str(size) for dimension, size in enumerate(tensor.shape)
        ]
        # Memory order, without strides of dimensions of size 1, which mean nothing.
        strides = [(-stride, i) for i, stride in enumerate(tensor.stride()) if tensor.shape[i] > 1]
        order = "".join(str(i) for _, i in sorted(strides))
        return f"{tensor.dtype} {tensor.device} ({', '.join(sizes)}) {order} {tensor.is_contiguous()}"

    def of(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return of_tensor(value)
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(of(item) for item in value)}]"
        return type(value).__name__

    named = [f"{name}={of(value)}" for name, value in kwargs.items()]
    return "; ".join([*(of(value) for value in args), *named])
