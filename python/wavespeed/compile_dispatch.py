"""One sampling run with compiled blocks: while the model is being called, and only then, its blocks call compiled code.

The module tree, the names of weights and LoRA patching never see it: a block's compiled form sits in the slot that
torch.nn.Module.__call__ looks at first. First Block Cache fills the same slots after this module and calls what it
finds there, so its decisions stay outside of compiled code whichever of the two nodes comes first.
"""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from . import architecture, block_signature, compile_blocks, compile_report, offloaded_lora, report
from .compile_object import weights_are_at
from .compile_regions import Region, Regions, Request
from .run import WRAPPER_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .compile_regions import Compile

COMPILE_KEY = "wavespeed_compile"
SLOT = "_compiled_call_impl"
WHOLE_AND_CACHED = "this model could only be compiled as a whole, and First Block Cache works between its layers"


def _is_taken(block: torch.nn.Module, method: str | None) -> str:
    """Half a sentence when another node has put something of its own in the block's place."""
    attributes = vars(block)
    if attributes.get(SLOT) is not None:
        return "another node has compiled them"
    return "another node runs them in its own way" if attributes.get("forward") or attributes.get(method) else ""


def _replacements(block: torch.nn.Module) -> offloaded_lora.Replacements:
    try:
        return offloaded_lora.replacements(block)
    except offloaded_lora.NotReplaceableError:
        return {}


class CompiledBlock(NamedTuple):
    region: Region | None
    """None for a block that is left out."""
    slot: str
    """The attribute of the block's instance that its compiled form sits in."""


class CompiledModel:
    """The blocks of one base model and their regions, for one run."""

    def __init__(self, name: str, weights_are_at: tuple[Any, ...]) -> None:
        self.name = name
        self.weights_are_at = weights_are_at
        self.blocks: dict[torch.nn.Module, CompiledBlock] = {}
        self.left_out: Counter[str] = Counter()
        """How many blocks, by half a sentence that says why."""
        self.replacements: offloaded_lora.Replacements = {}
        self.compiled_calls = self.eager_calls = 0

    def begin(self) -> None:
        """When all blocks are there."""
        compiled = {block: found.region for block, found in self.blocks.items() if found.region is not None}
        self.without_place = {block for block in compiled if compile_blocks.only_core_code(block)}
        self.regions = list(dict.fromkeys(compiled.values()))
        self.before = {
            region: (len(region.compiles), len(region.loads), len(region.remarks)) for region in self.regions
        }
        self.compiled_blocks = len(compiled)

    def go_on_from(self, earlier: CompiledModel) -> CompiledModel:
        """The same model in the same run, after its weights were moved."""
        self.compiled_calls, self.eager_calls = earlier.compiled_calls, earlier.eager_calls
        self.before |= earlier.before
        self.regions = list(dict.fromkeys(earlier.regions + self.regions))
        return self

    def progress(self, text: str, node_id: str | None) -> AbstractContextManager[None]:
        """What is being done for one of the regions, and how many are left."""
        ready = sum(region.is_warm for region in self.regions)
        place = f" ({ready + 1} of {len(self.regions)})" if ready < len(self.regions) else ""
        return compile_report.progress(f"{text}{place}", node_id)

    def text(self) -> str:
        compiles: list[tuple[str, Compile]] = []
        loads: list[float] = []
        remarks: list[str] = []
        for region, (compiled, loaded, remarked) in self.before.items():
            compiles += [(region.name, compile_) for compile_ in region.compiles[compiled:]]
            loads += region.loads[loaded:]
            remarks += region.remarks[remarked:] if not region.stopped else []
        line = compile_report.run_line(
            self.name, len(self.regions), self.compiled_blocks, self.compiled_calls, self.eager_calls, compiles, loads
        )
        stopped = [region.stopped for region in self.regions if region.stopped]
        left_out = [
            f"not compiled: {compile_report.count(n, 'block')}, because {why}" for why, n in self.left_out.items()
        ]
        return " · ".join([line, *stopped, *left_out, *dict.fromkeys(remarks)])


class CompileRun:
    """State of one sampling run; several base models may take part in it."""

    def __init__(
        self,
        architectures: dict[str, architecture.Architecture],
        regions: Regions,
        request: Request,
        object_to_patch: str,
        node_id: str | None,
    ) -> None:
        self.architectures = architectures
        self.regions = regions
        self.request = request
        self.object_to_patch = object_to_patch
        self.node_id = node_id
        self.models: dict[int, CompiledModel] = {}
        self.lock = threading.Lock()

    def model_for(self, base_model: Any, transformer_options: dict[str, Any]) -> CompiledModel:
        with self.lock:
            known = self.models.get(id(base_model))
            if known is None or known.weights_are_at != weights_are_at(base_model):
                found = self._bind(base_model, transformer_options)
                self.models[id(base_model)] = found if known is None else found.go_on_from(known)
            return self.models[id(base_model)]

    def _bind(self, base_model: Any, transformer_options: dict[str, Any]) -> CompiledModel:
        """When the weights have been loaded, and again when they are moved: usually once per run."""
        from comfy.patcher_extension import WrappersMP

        patched = architecture.module_at(base_model, self.object_to_patch)
        name, found, whole = compile_blocks.find(self.architectures, patched)
        wrappers = (transformer_options.get("wrappers") or {}).get(WrappersMP.APPLY_MODEL, {})
        model = CompiledModel(name, weights_are_at(base_model))
        if whole and WRAPPER_KEY in wrappers:
            model.left_out[WHOLE_AND_CACHED] += 1
            found = []
        for block, method in found:
            replacements = _replacements(block)
            with offloaded_lora.replaced(replacements):
                why = _is_taken(block, method) or block_signature.is_left_out(block)
                region = None if why else self._region(block, method)
            if why:
                model.left_out[why] += 1
            else:
                model.replacements.update(replacements)
            model.blocks[block] = CompiledBlock(region, method or SLOT)
        model.begin()
        return model

    def _region(self, block: torch.nn.Module, method: str | None) -> Region:
        forward = getattr(type(block), method or "forward")
        return self.regions.get(type(block).__name__, forward, self.request, block_signature.of_block(block))

    def call_block(self, model: CompiledModel, block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What a block's slot calls."""
        from comfy import model_management

        # Compiled code has no place where ComfyUI would look whether the user pressed cancel.
        model_management.throw_exception_if_processing_interrupted()
        region, slot = model.blocks[block]
        if region is None or "forward" in vars(block):  # another node's forward; it may do anything
            model.eager_calls += 1
            return (
                block._call_impl(*args, **kwargs)
                if slot == SLOT
                else getattr(type(block), slot)(block, *args, **kwargs)
            )
        if slot != SLOT or not (block._forward_hooks or block._forward_pre_hooks):
            return self._call_region(model, region, block, *args, **kwargs)
        # Hooks of other nodes run around the compiled code and not in it.
        vars(block)["forward"] = partial(self._call_region, model, region, block)
        try:
            return block._call_impl(*args, **kwargs)
        finally:
            del vars(block)["forward"]

    def _call_region(
        self, model: CompiledModel, region: Region, block: torch.nn.Module, *args: Any, **kwargs: Any
    ) -> Any:
        options = kwargs.get("transformer_options") if block in model.without_place else None
        with compile_blocks.without_place(options or {}):
            result, compiled = region.call(block, args, kwargs, partial(model.progress, node_id=self.node_id))
        if compiled:
            model.compiled_calls += 1
        else:
            model.eager_calls += 1
        return result

    def apply_model(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """APPLY_MODEL wrapper, outermost: one call of the diffusion model."""
        if torch.is_grad_enabled():
            return executor(*args, **kwargs)
        # args: x (B, C, ...), sigma (B,), c_concat, c_crossattn, control, transformer_options.
        model = self.model_for(executor.class_obj, args[5])
        filled = []
        try:
            for block, (_, slot) in model.blocks.items():
                if vars(block).get(slot) is None:  # else it is another node's
                    vars(block)[slot] = partial(self.call_block, model, block)
                    filled.append((block, slot))
            with offloaded_lora.replaced(model.replacements):
                return executor(*args, **kwargs)
        finally:
            for block, slot in filled:
                vars(block).pop(slot, None)

    def text(self) -> str:
        return " | ".join(model.text() for model in self.models.values()) or "The model was never called."


def outer_sample_wrapper(make_run: Callable[[], CompileRun]) -> Callable[..., Any]:
    """OUTER_SAMPLE wrapper: one sampling run from beginning to end."""

    def outer_sample(executor: Any, *args: Any, **kwargs: Any) -> Any:
        from comfy.patcher_extension import WrappersMP

        run = make_run()
        wrappers = executor.class_obj.model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        others = wrappers.get(WrappersMP.APPLY_MODEL, {})
        # The first is the outermost: First Block Cache must fill the slots after us and empty them before us.
        wrappers[WrappersMP.APPLY_MODEL] = {COMPILE_KEY: [run.apply_model], **others}
        try:
            return executor(*args, **kwargs)
        finally:
            wrappers[WrappersMP.APPLY_MODEL] = others
            report.tell(run.text(), run.node_id, "Compile Model+")

    return outer_sample
