"""Whether compiled code is worth it: a few calls of a block are run both ways, and the quicker way stays.

The eager result of such a call is thrown away, so a trial changes no picture.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_CALLS = 3
PAIRS = 6


def _copy(value: Any) -> Any:
    """Blocks write into their hidden states; the trial's call must not."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)(_copy(item) for item in value)
    return value


def _device(values: Any) -> torch.device | None:
    return next((value.device for value in values if isinstance(value, torch.Tensor)), None)


def _seconds(function: Callable[[], Any], device: torch.device | None) -> tuple[Any, float]:
    synchronize = torch.cuda.synchronize if device is not None and device.type == "cuda" else None
    if synchronize is not None:
        synchronize(device)
    begin = time.perf_counter()
    result = function()
    if synchronize is not None:
        synchronize(device)
    return result, time.perf_counter() - begin


class SpeedTrial:
    """Compares the best of PAIRS calls each way, after WARM_CALLS calls that only warm up."""

    def __init__(self) -> None:
        self.calls = 0
        self.eager = self.compiled = float("inf")

    @property
    def done(self) -> bool:
        return self.calls >= WARM_CALLS + PAIRS

    @property
    def lost(self) -> bool:
        return self.done and self.compiled > self.eager

    def call(
        self, eager: Callable[..., Any], compiled: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.calls += 1
        if self.calls <= WARM_CALLS:
            return compiled(*args, **kwargs)
        device = _device((*args, *kwargs.values()))
        copies = tuple(_copy(value) for value in args)
        named_copies = {name: _copy(value) for name, value in kwargs.items()}
        _, seconds = _seconds(lambda: eager(*copies, **named_copies), device)
        self.eager = min(self.eager, seconds)
        result, seconds = _seconds(lambda: compiled(*args, **kwargs), device)
        self.compiled = min(self.compiled, seconds)
        return result

    def restart(self) -> None:
        """A call that compiled says nothing about speed."""
        self.__init__()
