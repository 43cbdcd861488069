"""Compile Model+ in tests: the node with its usual inputs, and how often torch compiles meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from in_process import ComfyUI

NODE = "EnhancedCompileModel"
STEPS = 4
WIDGETS: dict[str, Any] = {
    "is_patcher": True,
    "object_to_patch": "diffusion_model",
    "compiler": "torch.compile",
    "fullgraph": False,
    "dynamic": False,
    "mode": "",
    "options": "",
    "disable": False,
    "backend": "eager",
    "unique_id": "compile",
}


def compiled(comfy: ComfyUI, model: Any, **inputs: Any) -> Any:
    return comfy.call(NODE, model=model, **{**WIDGETS, **inputs})


class Compiles:
    """Counts what torch compiles meanwhile."""

    def __enter__(self) -> Compiles:
        import torch._dynamo

        self._counters = torch._dynamo.utils.counters
        self._graphs, self._breaks = self._now()
        return self

    def _now(self) -> tuple[int, int]:
        return self._counters["stats"]["unique_graphs"], sum(self._counters["graph_break"].values())

    @property
    def graphs(self) -> int:
        return self._now()[0] - self._graphs

    @property
    def breaks(self) -> int:
        return self._now()[1] - self._breaks

    def __exit__(self, *_exception: object) -> None:
        pass


def forget(comfy: ComfyUI) -> None:
    """What was compiled, as a new start does; what is kept in files stays."""
    import torch._dynamo

    torch._dynamo.reset()
    node = comfy.nodes[NODE]
    regions = node.run.__self__.regions
    regions._regions.clear()


@pytest.fixture(autouse=True)
def fresh_compiler(comfy: ComfyUI) -> None:
    """Each test begins with nothing compiled."""
    forget(comfy)
