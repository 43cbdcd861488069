"""One module of a VAE, CLIP or ControlNet, compiled as a whole: what its slot calls.

No sampling run of ours lies around these, so whether compiled code fits is found out at each call, and for a
ControlNet, which is called at each step, once per node that uses it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from . import block_signature, compile_report, report

if TYPE_CHECKING:
    from .compile_regions import Region, Regions, Request


def weights_are_at(base_model: Any) -> tuple[Any, ...]:
    """Changes when ComfyUI moves weights in or out, or patches them: also in the midst of a run, to make room."""
    names = ("model_loaded_weight_memory", "lowvram_patch_counter", "current_weight_patches_uuid")
    return tuple(getattr(base_model, name, None) for name in names)


def _executing_node() -> Any:
    """Stands for one execution of one node; None outside of ComfyUI's executor, or where it does not say."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:  # an older ComfyUI
        return None
    return get_executing_context()


class CompiledObject:
    """Called in place of the module."""

    def __init__(
        self, regions: Regions, request: Request, module: torch.nn.Module, base_model: Any, node_id: str | None
    ) -> None:
        """base_model: what ComfyUI loads the module with, if nothing changes the module while one node runs; else None,
        and it is looked at again at each call."""
        self.regions = regions
        self.request = request
        self.module = module
        self.base_model = base_model
        self.node_id = node_id
        self._known: tuple[Any, Region] | None = None

    def _region(self) -> Region:
        node = _executing_node() if self.base_model is not None else None
        if node is None:
            return self._find_region()
        now = (node, weights_are_at(self.base_model))
        if self._known is None or self._known[0] != now:
            self._known = now, self._find_region()
        return self._known[1]

    def _find_region(self) -> Region:
        # Where the signature could not say all, torch checks the module itself, and nothing is kept on disk.
        signed = not block_signature.is_left_out(self.module)
        signature = block_signature.of_block(self.module) if signed else None
        return self.regions.get(type(self.module).__name__, type(self.module).forward, self.request, signature)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module = self.module
        if torch.is_grad_enabled() or module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return module._call_impl(*args, **kwargs)
        region = self._region()
        before = len(region.compiles), len(region.loads), len(region.remarks)
        result, _ = region.call(module, args, kwargs, partial(compile_report.progress, node_id=self.node_id))
        if before != (len(region.compiles), len(region.loads), len(region.remarks)) or region.stopped:
            report.show_on_node(_text(region), self.node_id)
        return result


def _text(region: Region) -> str:
    compiles = [(region.name, compile_) for compile_ in region.compiles]
    parts = [region.name, compile_report.starts_text(compiles, region.loads)]
    return " · ".join([*parts, region.stopped] if region.stopped else [*parts, *dict.fromkeys(region.remarks)])
