"""Which modules of a model are compiled: the blocks that its family's descriptor names, else the object as a whole."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import torch

from . import architecture
from .stable_text import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

Block = tuple[torch.nn.Module, "str | None"]
"""A module, and its method that the model calls, where that is not the module itself."""

PLACE_KEYS = ("block", "block_index")
"""In transformer_options: where a UNet's block stands. Core's blocks look it up among the patches and nowhere else."""
FOR_OTHERS = ("wrappers", "callbacks")
"""In transformer_options: functions that run around the model and not in its blocks."""


def find(
    architectures: dict[str, architecture.Architecture], patched: torch.nn.Module
) -> tuple[str, list[Block], bool]:
    """(name for the user, what is compiled, whether that is the object as a whole)."""
    name = type(patched).__name__
    try:
        descriptor = architecture.find(architectures, patched)
        blocks = _described(descriptor, patched) if descriptor is not None else []
    except (architecture.UnsupportedModelError, AttributeError):
        return name, [(patched, None)], True
    return (descriptor.family, blocks, False) if descriptor is not None and blocks else (name, [(patched, None)], True)


def _described(descriptor: architecture.Architecture, patched: torch.nn.Module) -> list[Block]:
    if descriptor.early_exit is not None:
        lists = [architecture.module_at(patched, path) for path in descriptor.early_exit.layers]
        return [(module, None) for module in _called_one_by_one(lists)]
    return [(block, stage.method) for stage in descriptor.stages for _, block in stage.executed_blocks(patched)]


def _called_one_by_one(modules: Iterable[torch.nn.Module | None]) -> list[torch.nn.Module]:
    """What the layers of a UNet are made of. Of a layer with a list of blocks inside it is these blocks, so that one
    form of code serves all of them; a single convolution is fast as it is."""
    found: list[torch.nn.Module] = []
    for module in modules:
        if module is None:
            continue
        lists = [child for child in module.children() if isinstance(child, torch.nn.ModuleList)]
        if isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential)):
            found += _called_one_by_one(module)
        elif lists:
            found += _called_one_by_one(lists)
        elif len(list(module.modules())) > 2:
            found.append(module)
    return found


# ---- The place of a block --------------------------------------------------------------------------------------------


def only_core_code(block: torch.nn.Module) -> bool:
    """Whether all that a block runs is ComfyUI's own and torch's, as far as packs exchange such things."""
    from comfy.ldm.modules import attention

    functions: list[Any] = [attention.optimized_attention, attention.optimized_attention_masked]
    for module in block.modules():
        if module is not block:  # what runs around the block sees the options as they are
            functions += [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        functions.append(vars(module).get("forward", type(module).forward))
    return all(_package(function) in ("comfy", "torch") for function in functions)


def _package(function: Any) -> str:
    return (getattr(function, "__module__", "") or "").partition(".")[0]


class without_place:
    """Takes PLACE_KEYS out of the options of a block's call while it runs, if nothing in them could ask for its place.

    torch compiles anew for every place that it sees looked up, although the answer is always that nothing is there.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.taken: dict[str, Any] = {}

    def __enter__(self) -> None:
        there = [key for key in PLACE_KEYS if key in self.options]
        if there and all(key in FOR_OTHERS or _asks_nothing(value) for key, value in self.options.items()):
            self.taken = {key: self.options.pop(key) for key in there}

    def __exit__(self, *_exception: object) -> None:
        self.options.update(self.taken)


def _asks_nothing(value: Any) -> bool:
    """False for functions, for objects of other classes, and for what holds such."""
    if isinstance(value, (list, tuple)):
        return all(_asks_nothing(item) for item in value)
    if isinstance(value, dict):
        return all(_asks_nothing(item) for item in value.values())
    return isinstance(value, (*PLAIN, torch.Tensor, uuid.UUID))
