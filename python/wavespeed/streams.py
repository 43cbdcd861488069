"""Streams: several hidden states kept as one tensor, and a state of which the head is given a part."""

from __future__ import annotations

from typing import Any

import torch

from .expressions import sum_magnitudes

Streams = tuple[Any, ...]
"""Tensors of any shape with the same batch, or tuples of such; what a block calls its hidden states."""


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
    return sum_magnitudes(base.abs()).reshape(1)


def complete(start: torch.Tensor, end: torch.Tensor, at_tail: bool) -> torch.Tensor | None:
    """end (B, n, width) with the other tokens of start (B, N, width), whose residual is 0; None where it is no part."""
    if take_part(start, end, at_tail).shape != end.shape or start.device != end.device:
        return None
    return replace_tokens(start.to(end.dtype), end, at_tail)
