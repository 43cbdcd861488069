"""Model families: the descriptors of architectures.json, and how one is bound to the modules of a loaded model."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger("wavespeed")

FILE = Path(__file__).with_name("architectures.json")

BLOCK_PACKAGES = ("comfy", "torch")
"""Where the blocks of a described model come from. A block from elsewhere was put there by another pack."""


@dataclass(frozen=True)
class Stage:
    """One list of blocks, in execution order; the fields are described in docs/architectures.md."""

    path: str
    hidden: tuple[tuple[str, int], ...]
    returns: tuple[str, ...] | None
    main: str | tuple[str, ...]
    form: str = "tensor"
    """How the main streams become one tensor: "tensor", "streams" or "tokens" (src/python/session_object.h)."""
    within: str = "same"
    method: str | None = None
    skip: str | None = None

    def layout(self) -> tuple[Any, ...]:
        """What the native session needs to know about a block of this stage."""
        return self.hidden, self.returns, self.main, self.form, self.within

    def executed_blocks(self, diffusion_model: torch.nn.Module) -> list[tuple[int, torch.nn.Module]]:
        """The blocks the model really runs, with their numbers: some families carry a list of block numbers that their
        loop leaves out."""
        skipped = getattr(diffusion_model, self.skip) if self.skip else ()
        blocks = modules_at(diffusion_model, self.path)
        return [(number, block) for number, block in enumerate(blocks) if number not in skipped]


@dataclass(frozen=True)
class SideModule:
    path: str
    result: str


@dataclass(frozen=True)
class EarlyExit:
    method: str
    layers: tuple[str, ...]
    first_block: tuple[int, int]
    tail: tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """How a family is hooked: by its stages, by an early exit, or (excluded) not at all."""

    family: str
    metric: str = "residual"
    stages: tuple[Stage, ...] = ()
    final: tuple[str, ...] = ()
    final_part: str = "same"
    bypass: tuple[SideModule, ...] = ()
    batch_dim: int = 0
    whole_batch: bool = False
    never_options: tuple[str, ...] = ()
    empty_arguments: tuple[str, ...] = ()
    early_exit: EarlyExit | None = None
    excluded: str = ""


Hook = tuple[torch.nn.Module, str, int, "str | None", str]
"""(module, role, number of its stage, method that is hooked instead of the module's call, what replaces its result);
the roles and replacements are listed in src/python/plan.c."""


@dataclass(frozen=True)
class Plan:
    """A descriptor bound to one model. Holds its modules, so it must not outlive the sampling run."""

    architecture: Architecture
    hooks: tuple[Hook, ...]
    """In execution order, side modules last."""
    last_block: int | None
    """Number of the block whose result is the end of the trunk; None where a head or a tail takes it."""


class UnsupportedModelError(ValueError):
    """The model is left as it is; the text is a sentence for the node."""


# ---- The file --------------------------------------------------------------------------------------------------------


def _stage(raw: dict[str, Any]) -> Stage:
    returns = raw["returns"]
    return Stage(
        path=raw["path"],
        hidden=tuple((name, position) for name, position in raw["hidden"]),
        returns=None if isinstance(returns, str) else tuple(returns),
        main=raw["main"],
        form="streams" if raw.get("streams") == "tuple" else "tensor",
        within=raw.get("within", "same"),
        method=raw.get("method"),
        skip=raw.get("skip"),
    )


def _early_exit(raw: dict[str, Any]) -> EarlyExit:
    begin, end = raw["first_block"]
    return EarlyExit(raw["method"], tuple(raw["layers"]), (begin, end), tuple(raw["tail"]))


def _architecture(raw: dict[str, Any]) -> Architecture:
    if "excluded" in raw:
        return Architecture(raw["family"], excluded=f"{raw['family']} is left alone, because {raw['excluded']}")
    never = raw.get("never", {})
    return Architecture(
        family=raw["family"],
        metric=raw["metric"],
        stages=tuple(_stage(stage) for stage in raw.get("stages", ())),
        final=tuple(raw.get("final", ())),
        final_part=raw.get("final_part", "same"),
        bypass=tuple(SideModule(module["path"], module["result"]) for module in raw.get("bypass", ())),
        batch_dim=raw.get("batch_dim", 0),
        whole_batch=raw.get("rows") == "whole",
        never_options=tuple(never.get("options", ())),
        empty_arguments=tuple(never.get("empty_arguments", ())),
        early_exit=_early_exit(raw["early_exit"]) if "early_exit" in raw else None,
    )


def _refused(raw: Any, sentence: str) -> dict[str, Architecture]:
    """A family whose descriptor has a mistake is left alone: its classes, as far as they can be read."""
    classes = raw.get("classes") if isinstance(raw, dict) else None
    names = [name for name in classes if isinstance(name, str)] if isinstance(classes, list) else []
    excluded = Architecture("refused", excluded=f"the descriptor of its family has a mistake: {sentence.rstrip('.')}")
    return dict.fromkeys(names, excluded)


def load(core: ModuleType) -> dict[str, Architecture]:
    """All descriptors by class name. ValueError when the file is no table; a family with a mistake is told of in the
    log and left alone."""
    text = FILE.read_text(encoding="utf-8")
    refused = dict(core.check_architectures(text))
    found: dict[str, Architecture] = {}
    for number, raw in enumerate(json.loads(text)["architectures"]):
        if number in refused:
            log.warning("WaveSpeed: %s This family passes through unchanged.", refused[number])
            found = {**_refused(raw, refused[number]), **found}
        else:
            found.update(dict.fromkeys(raw["classes"], _architecture(raw)))
    return found


# ---- A model ---------------------------------------------------------------------------------------------------------


def find(architectures: dict[str, Architecture], diffusion_model: object) -> Architecture | None:
    """The descriptor of a model, by the exact name of its class: a subclass may have another loop. None for a class
    without one, whose structure may still be discovered.

    Raises UnsupportedModelError for a model that must be left alone.
    """
    if hasattr(diffusion_model, "_orig_mod"):
        raise UnsupportedModelError(
            "the model was compiled as a whole by another node, which leaves no place for the cache between its blocks"
        )
    architecture = architectures.get(type(diffusion_model).__name__)
    if architecture is not None and architecture.excluded:
        raise UnsupportedModelError(architecture.excluded)
    return architecture


def module_at(module: Any, path: str) -> Any:
    """The attribute that a dotted path names. AttributeError where there is none."""
    for name in path.split("."):
        module = getattr(module, name)
    return module


def modules_at(diffusion_model: torch.nn.Module, path: str) -> list[torch.nn.Module]:
    """The members of a list or dict of modules, or the module itself."""
    found = module_at(diffusion_model, path)
    if isinstance(found, torch.nn.ModuleDict):
        return list(found.values())
    return list(found) if isinstance(found, torch.nn.ModuleList) else [found]


def bind(architecture: Architecture, diffusion_model: torch.nn.Module) -> Plan:
    """Finds the modules that the descriptor names. Raises UnsupportedModelError where this model does not have them."""
    try:
        if architecture.early_exit is not None:
            return _bind_early_exit(architecture, architecture.early_exit, diffusion_model)
        return _bind_blocks(architecture, diffusion_model)
    except AttributeError as problem:
        raise UnsupportedModelError(f"this {architecture.family} model is built differently ({problem})") from problem


def _bind_blocks(architecture: Architecture, diffusion_model: torch.nn.Module) -> Plan:
    blocks = [
        (number, block, index)
        for index, stage in enumerate(architecture.stages)
        for number, block in stage.executed_blocks(diffusion_model)
    ]
    if len(blocks) < 2:
        raise UnsupportedModelError(f"this {architecture.family} model has too few blocks to skip any")
    hooks: list[Hook] = []
    for order, (_, block, index) in enumerate(blocks):
        _check_origin(block, architecture)
        is_end = order == len(blocks) - 1 and not architecture.final
        role = "first" if order == 0 else "last" if is_end else "block"
        hooks.append((block, role, index, architecture.stages[index].method, "argument"))
    hooks += [(module_at(diffusion_model, name), "final", 0, None, "argument") for name in architecture.final]
    hooks += [
        (module, "side", 0, None, side.result)
        for side in architecture.bypass
        for module in modules_at(diffusion_model, side.path)
    ]
    return Plan(architecture, tuple(hooks), None if architecture.final else blocks[-1][0])


def _check_origin(block: torch.nn.Module, architecture: Architecture) -> None:
    package = type(block).__module__.partition(".")[0]
    if package not in BLOCK_PACKAGES:
        raise UnsupportedModelError(
            f"another pack has replaced blocks of this {architecture.family} model by its own {type(block).__name__}"
        )


def _layers(modules: list[torch.nn.Module | None]) -> list[torch.nn.Module]:
    """Lists inside lists become one list; of a sequence whose modules the model calls one by one, the first counts."""
    found: list[torch.nn.Module] = []
    for module in modules:
        if isinstance(module, torch.nn.ModuleList):
            found += _layers(list(module))
        elif isinstance(module, torch.nn.Sequential):
            found.append(module[0])
        elif module is not None:
            found.append(module)
    return found


def _bind_early_exit(architecture: Architecture, exit_: EarlyExit, diffusion_model: torch.nn.Module) -> Plan:
    layers = _layers([module_at(diffusion_model, path) for path in exit_.layers])
    begin, end = exit_.first_block
    if len(layers) <= end:
        raise UnsupportedModelError(f"this {architecture.family} model has too few layers to skip any")
    hooks: list[Hook] = [
        (diffusion_model, "whole", 0, exit_.method, "argument"),
        (layers[begin], "entry", 0, None, "argument"),
        (layers[end], "exit", 0, None, "argument"),
    ]
    tails = [getattr(diffusion_model, name, None) for name in exit_.tail]
    hooks += [(module, "final", 0, None, "argument") for module in tails if module is not None]
    return Plan(architecture, tuple(hooks), None)
