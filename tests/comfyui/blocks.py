"""Which blocks of a model really run: counted without the help of the pack."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

FLUX_STAGES = ("double_blocks", "single_blocks")
SKIP_LISTS = {"double_blocks": "skip_mmdit", "single_blocks": "skip_dit"}
"""Chroma's lists of block numbers that its loop leaves out."""


def _leaves(module: Any, whole: bool) -> list[torch.nn.Module]:
    """The modules that a model's loop calls; lists are walked. Of a UNet's sequences the loop calls the layers, and the
    first stands for all, unless the whole sequence is asked for."""
    if isinstance(module, torch.nn.ModuleDict):
        return list(module.values())
    if isinstance(module, torch.nn.ModuleList):
        return [leaf for child in module for leaf in _leaves(child, whole)]
    if isinstance(module, torch.nn.Sequential) and not whole:
        return [module[0]]
    return [] if module is None else [module]


def executed_blocks(
    diffusion_model: Any, stages: tuple[str, ...] = FLUX_STAGES, *, whole: bool = False
) -> list[torch.nn.Module]:
    """The blocks the model's own loop calls, in order."""
    found: list[torch.nn.Module] = []
    for stage in stages:
        module = diffusion_model
        for name in stage.split("."):
            module = getattr(module, name)
        skipped = getattr(diffusion_model, SKIP_LISTS.get(stage, ""), ())
        found += [block for number, block in enumerate(_leaves(module, whole)) if number not in skipped]
    return found


class BlockCalls:
    """Counts how often each block runs: with forward hooks, as another node might, or around the method that the model
    calls instead. A skipped block fires none."""

    def __init__(self, diffusion_model: Any, stages: tuple[str, ...], method: str = "") -> None:
        self._counts: Counter[int] = Counter()
        self._undo: list[Callable[[], None]] = []
        self._blocks = executed_blocks(diffusion_model, stages)
        self._method = method

    def counts(self) -> tuple[int, ...]:
        return tuple(self._counts[index] for index in range(len(self._blocks)))

    def __enter__(self) -> BlockCalls:
        for index, block in enumerate(self._blocks):

            def count(*_arguments: Any, index: int = index) -> None:
                self._counts[index] += 1

            if self._method:
                self._undo.append(_count_method(block, self._method, count))
            else:
                self._undo.append(block.register_forward_hook(count).remove)
        return self

    def __exit__(self, *_exception: object) -> None:
        for undo in self._undo:
            undo()


def _count_method(block: torch.nn.Module, method: str, count: Callable[[], None]) -> Callable[[], None]:
    before = block.__dict__.get(method)
    inner = getattr(block, method)

    def counted(*args: Any, **kwargs: Any) -> Any:
        count()
        return inner(*args, **kwargs)

    def undo() -> None:
        assert block.__dict__.pop(method) is counted, f"Something is left over the {method} of a block."
        if before is not None:
            block.__dict__[method] = before

    block.__dict__[method] = counted
    return undo
