"""One sampling run with compiled blocks: while the model is being called, and only then, its blocks call compiled code.

The module tree, the names of weights and LoRA patching never see it: a block's compiled form sits in the slot that
torch.nn.Module.__call__ looks at first. First Block Cache fills the same slots after this module and calls what it
finds there, so its decisions stay outside of compiled code whichever of the two nodes comes first.
"""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from . import architecture, block_signature, compile_report, report
from .compile_regions import Region, Regions, Request
from .run import WRAPPER_KEY

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .compile_regions import Compile

COMPILE_KEY = "wavespeed_compile"
SLOT = "_compiled_call_impl"
WHOLE_AND_CACHED = "this model could only be compiled as a whole, and First Block Cache works between its layers"


class CompiledModel:
    """The blocks of one base model and their regions, for one run."""

    def __init__(self, name: str, blocks: dict[torch.nn.Module, Region], left_out: Counter[str]) -> None:
        self.name = name
        self.blocks = blocks
        self.left_out = left_out
        self.compiled_calls = self.eager_calls = 0
        self.regions = list(dict.fromkeys(blocks.values()))
        self.before = {
            region: (len(region.compiles), len(region.loads), len(region.remarks)) for region in self.regions
        }

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
            self.name, len(self.regions), len(self.blocks), self.compiled_calls, self.eager_calls, compiles, loads
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
            if id(base_model) not in self.models:
                self.models[id(base_model)] = self._bind(base_model, transformer_options)
            return self.models[id(base_model)]

    def _bind(self, base_model: Any, transformer_options: dict[str, Any]) -> CompiledModel:
        """Once per run, when the weights lie where they will be during the run."""
        from comfy.patcher_extension import WrappersMP

        patched = architecture.module_at(base_model, self.object_to_patch)
        name, modules = self._blocks(patched)
        blocks: dict[torch.nn.Module, Region] = {}
        left_out: Counter[str] = Counter()
        wrappers = (transformer_options.get("wrappers") or {}).get(WrappersMP.APPLY_MODEL, {})
        whole = WRAPPER_KEY in wrappers and modules == [patched]
        for block in modules:
            why = WHOLE_AND_CACHED if whole else block_signature.is_left_out(block)
            if why:
                left_out[why] += 1
            else:
                signature = block_signature.of_block(block)
                forward = type(block).forward
                blocks[block] = self.regions.get(type(block).__name__, forward, self.request, signature)
        return CompiledModel(name, blocks, left_out)

    def _blocks(self, patched: torch.nn.Module) -> tuple[str, list[torch.nn.Module]]:
        """The blocks of a model whose family is described, else the object as a whole."""
        name = type(patched).__name__
        try:
            descriptor = architecture.find(self.architectures, patched)
            # Blocks that the model calls by a method have no slot.
            stages = [stage for stage in descriptor.stages if stage.method is None] if descriptor is not None else []
            blocks = [block for stage in stages for _, block in stage.executed_blocks(patched)]
            return (descriptor.family, blocks) if descriptor is not None and blocks else (name, [patched])
        except (architecture.UnsupportedModelError, AttributeError):
            return name, [patched]

    def call_block(self, model: CompiledModel, block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What a block's slot calls."""
        from comfy import model_management

        # Compiled code has no place where ComfyUI would look whether the user pressed cancel.
        model_management.throw_exception_if_processing_interrupted()
        if "forward" in vars(block):  # another node's; it may do anything
            model.eager_calls += 1
            return block._call_impl(*args, **kwargs)
        region = model.blocks[block]
        if not block._forward_hooks and not block._forward_pre_hooks:
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
            for block in model.blocks:
                if vars(block).get(SLOT) is None:  # else another node compiled this block in place
                    vars(block)[SLOT] = partial(self.call_block, model, block)
                    filled.append(block)
            return executor(*args, **kwargs)
        finally:
            for block in filled:
                vars(block).pop(SLOT, None)

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
