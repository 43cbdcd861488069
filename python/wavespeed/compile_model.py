"""The node "Compile Model+": checks its inputs and hands back a clone that compiles while it is used."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch

from . import compile_allowed, report
from .code_store import user_named_folder, user_store
from .compile_dispatch import COMPILE_KEY, SLOT, CompileRun, outer_sample_wrapper
from .compile_object import CompiledObject
from .compile_regions import Regions, Request
from .run import Engine
from .warm_start import WarmStart

PARTS_MAX = 8
CONTROLNET = "control_model_wrapped"
PATCHER_ATTRIBUTES = ("patcher", CONTROLNET)
"""Where VAE and CLIP, and where ControlNets keep their ModelPatcher."""
WHOLE = "diffusion_model"
"""The usual object_to_patch; a ControlNet's patcher holds its network alone, and so it means all of that."""


def _check_path(path: str) -> None:
    """ValueError for what is no dotted name of a module. Names beginning with _ are Python's own or private."""
    parts = path.split(".")
    if len(parts) > PARTS_MAX or not all(
        part.isascii() and part.replace("_", "").isalnum() and part[0] != "_" for part in parts
    ):
        raise ValueError(
            f"object_to_patch is {path[:48]!r}; it must be names with dots between them, at most {PARTS_MAX}, "
            "none of which begins with _. Use diffusion_model for a diffusion model."
        )


def _check_with_torch(request: Request) -> None:
    """ValueError for options that the torch at hand does not have or has with another type. Compiles nothing."""
    try:
        torch.compile(_check_with_torch, backend=request.backend, options=dict(request.options))
    except (RuntimeError, AttributeError) as problem:
        raise ValueError(
            f"torch {torch.__version__} does not take these options: {str(problem).partition(', known options')[0]}."
        ) from problem


class CompileModel:
    """Implementation of the node EnhancedCompileModel; names and order of the inputs as in Comfy-WaveSpeed."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.regions = Regions(WarmStart(user_store(), on_any_device=user_named_folder()))

    def validate(
        self,
        object_to_patch: str = "diffusion_model",
        compiler: str = "",
        mode: str = "",
        options: str = "",
        backend: str = "",
    ) -> bool | str:
        """Before queueing: True, or the sentence that ComfyUI shows on the node. Linked values arrive as None."""
        try:
            if object_to_patch is not None:
                _check_path(object_to_patch)
            self._request(compiler or "", mode or "", options or "", backend or "", fullgraph=False, dynamic=False)
        except (ValueError, TypeError) as problem:
            return str(problem)
        return True

    def _request(
        self, compiler: str, mode: str, options: str, backend: str, *, fullgraph: bool, dynamic: bool
    ) -> Request:
        found, given, canonical = self.engine.core.compile_request(
            compiler=compiler.strip(),
            backend=backend.strip(),
            mode=mode.strip(),
            options=options,
            fullgraph=fullgraph,
            dynamic=dynamic,
            allowed=compile_allowed.text() if options.strip() else "",
        )
        return Request(backend=found, options=given, fullgraph=fullgraph, dynamic=dynamic, canonical=canonical)

    def run(
        self,
        model: Any,
        is_patcher: bool,
        object_to_patch: str,
        compiler: str,
        fullgraph: bool,
        dynamic: bool,
        mode: str,
        options: str,
        disable: bool,
        backend: str,
        unique_id: str | None = None,
    ) -> tuple[Any]:
        _check_path(object_to_patch)
        request = self._request(compiler, mode, options, backend, fullgraph=bool(fullgraph), dynamic=bool(dynamic))
        if request.options and not disable:
            _check_with_torch(request)
        if not is_patcher:
            return (self._compile_object(model, object_to_patch, request, disable, unique_id),)
        missing = [name for name in ("clone", "add_wrapper_with_key", "get_model_object") if not hasattr(model, name)]
        if missing:
            raise TypeError(
                f"The model input is a {type(model).__name__}, not a diffusion model that ComfyUI can patch. "
                "For a VAE, a CLIP or a ControlNet switch is_patcher off."
            )
        self._module(model, object_to_patch)
        return (self._compile_model(model, object_to_patch, request, disable, unique_id),)

    def _compile_model(
        self, model: Any, object_to_patch: str, request: Request, disable: bool, node_id: str | None
    ) -> Any:
        from comfy.patcher_extension import WrappersMP

        patched = _clone_with_fixed_weights(model)
        # The last of several such nodes wins, also when it says disable.
        patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, COMPILE_KEY)
        if disable:
            report.show_on_node("Off: disable is on.", node_id)
            return patched
        make_run = partial(CompileRun, self.engine.architectures, self.regions, request, object_to_patch, node_id)
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, COMPILE_KEY, outer_sample_wrapper(make_run))
        return patched

    def _compile_object(
        self, owner: Any, object_to_patch: str, request: Request, disable: bool, node_id: str | None
    ) -> Any:
        """A VAE, CLIP or ControlNet: a copy of it whose patcher fills the slot of one module when it is loaded."""
        name = next((name for name in PATCHER_ATTRIBUTES if getattr(owner, name, None) is not None), None)
        if name is None:
            raise TypeError(
                f"is_patcher is off, but the input is a {type(owner).__name__}, which has no model patcher inside. "
                "Connect a VAE, a CLIP or a ControlNet, or switch is_patcher on for a MODEL."
            )
        patched = copy.copy(owner)
        patcher = getattr(owner, name).clone()
        setattr(patched, name, patcher)
        control_net = patcher.model if name == CONTROLNET else None
        if control_net is not None and object_to_patch == WHOLE:
            module, slot = control_net, SLOT
        else:
            module, slot = self._module(patcher, object_to_patch), f"{object_to_patch}.{SLOT}"
        if disable:
            patcher.object_patches.pop(slot, None)
            report.show_on_node("Off: disable is on.", node_id)
            return patched
        patcher.add_object_patch(slot, CompiledObject(self.regions, request, module, control_net, node_id))
        return patched

    @staticmethod
    def _module(patcher: Any, path: str) -> torch.nn.Module:
        try:
            found = patcher.get_model_object(path)
        except AttributeError:
            found = None
        if isinstance(found, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            raise ValueError(
                f"object_to_patch is {path!r}, which is a list of modules and is never called. Name one of them, for "
                f"example {path}.{next((name for name, _ in found.named_children()), 0)}."
            )
        if not isinstance(found, torch.nn.Module):
            names = ", ".join(name for name, _ in patcher.model.named_children())
            raise ValueError(
                f"object_to_patch is {path!r}, which is no module of this {type(patcher.model).__name__}. "
                f"It has: {names}."
            )
        return found


def _clone_with_fixed_weights(model: Any) -> Any:
    """A clone whose weights stay in place while it runs, where ComfyUI can make one.

    Dynamic VRAM moves weights inside the blocks, which torch cannot compile.
    """
    try:
        return model.clone(disable_dynamic=True)
    except (TypeError, RuntimeError):  # an older ComfyUI, or a loader that can make no second model
        return model.clone()
