"""Tells torch which sizes change between calls: tokens, sides of pictures and, from two on, the batch.

Without it each new picture size or prompt length compiles again. Only these are marked: a size that never changes,
such as that of an attention head, makes faster code as a constant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def mark(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """args and kwargs of a block. Hidden states are (B, tokens, C), or of convolutions (B, C, height, width) and more;
    positions and masks have tokens anywhere.

    A size counts as a number of tokens when a hidden state has it in its middle dimension, or when it is the sum of
    those of two hidden states, which models with two streams join.
    """
    tensors = [tensor for tensor in (*_tensors(args), *_tensors(kwargs.values())) if tensor.dim() >= 2]
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
                torch._dynamo.maybe_mark_dynamic(tensor, dimension)
