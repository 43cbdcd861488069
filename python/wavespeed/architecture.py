"""Model families: the descriptors of architectures.json, and how one is bound to the modules of a loaded model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    import torch

FILE = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Stage:
    """One list of blocks, in execution order; the fields are described in docs/architectures.md."""

    path: str
    hidden: tuple[tuple[str, int], ...]
    returns: tuple[str, ...] | None
    main: str
    skip: str | None

    def layout(self) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...] | None, str]:
        """What the native session needs to know about a block of this stage."""
        return self.hidden, self.returns, self.main

    def executed_blocks(self, diffusion_model: torch.nn.Module) -> list[torch.nn.Module]:
        """The blocks the model really runs: some families carry a list of block numbers that their loop leaves out."""
        skipped = getattr(diffusion_model, self.skip) if self.skip else ()
        return [block for number, block in enumerate(getattr(diffusion_model, self.path)) if number not in skipped]


@dataclass(frozen=True)
class Architecture:
    family: str
    metric: str
    stages: tuple[Stage, ...]
    final: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A descriptor bound to one model. Holds its modules, so it must not outlive the sampling run."""

    architecture: Architecture
    hooks: tuple[tuple[torch.nn.Module, str, int], ...]
    """(module, "first" | "block" | "final", number of its stage), in execution order."""


class UnsupportedModelError(ValueError):
    """The model is left as it is; the text is a sentence for the node."""


def _stage(raw: dict[str, Any]) -> Stage:
    returns = raw["returns"]
    return Stage(
        path=raw["path"],
        hidden=tuple((name, position) for name, position in raw["hidden"]),
        returns=None if isinstance(returns, str) else tuple(returns),
        main=raw["main"],
        skip=raw.get("skip"),
    )


def load(core: ModuleType) -> dict[str, Architecture]:
    """All descriptors by class name. ValueError with family and field when the file is broken."""
    text = FILE.read_text(encoding="utf-8")
    core.check_architectures(text)
    found: dict[str, Architecture] = {}
    for raw in json.loads(text)["architectures"]:
        architecture = Architecture(
            family=raw["family"],
            metric=raw["metric"],
            stages=tuple(_stage(stage) for stage in raw["stages"]),
            final=tuple(raw["final"]),
        )
        found.update(dict.fromkeys(raw["classes"], architecture))
    return found


def find(architectures: dict[str, Architecture], diffusion_model: object) -> Architecture:
    """The descriptor of a model, by the exact name of its class: a subclass may have another loop.

    Raises UnsupportedModelError.
    """
    if hasattr(diffusion_model, "_orig_mod"):
        raise UnsupportedModelError(
            "the model was compiled as a whole by another node, which leaves no place for the cache between its blocks"
        )
    name = type(diffusion_model).__name__
    architecture = architectures.get(name)
    if architecture is None:
        known = ", ".join(sorted({entry.family for entry in architectures.values()}))
        raise UnsupportedModelError(f"models of class {name} are not supported yet (supported: {known})")
    return architecture


def bind(architecture: Architecture, diffusion_model: torch.nn.Module) -> Plan:
    """Finds the modules that the descriptor names. Raises UnsupportedModelError where this model does not have them."""
    hooks: list[tuple[torch.nn.Module, str, int]] = []
    try:
        for number, stage in enumerate(architecture.stages):
            for block in stage.executed_blocks(diffusion_model):
                hooks.append((block, "block" if hooks else "first", number))
        hooks.extend((getattr(diffusion_model, name), "final", 0) for name in architecture.final)
    except AttributeError as problem:
        raise UnsupportedModelError(f"this {architecture.family} model is built differently ({problem})") from problem
    if len(hooks) < 2 + len(architecture.final):
        raise UnsupportedModelError(f"this {architecture.family} model has too few blocks to skip any")
    return Plan(architecture, tuple(hooks))
