"""Compile Model+ in the real ComfyUI: how often torch compiles, and that the picture stays what it is.

Counted with the backend "eager", which compiles nothing to machine code and so computes the very same bits.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import NEVER, USUAL, relative_difference
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def _fresh_compiler(comfy: ComfyUI) -> Iterator[None]:
    """Each test begins with nothing compiled."""
    import torch._dynamo

    torch._dynamo.reset()
    node = comfy.nodes[NODE]
    regions = node.run.__self__.regions
    regions._regions.clear()
    yield


def sized(comfy: ComfyUI, height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.zeros((batch, 16, height, width))


def sample(comfy: ComfyUI, model: Any, *, size: tuple[int, int] = (16, 16), batch: int = 1, tokens: int = 6, cfg: float = 1.0) -> torch.Tensor:
    import comfy.sample

    empty = sized(comfy, *size, batch)
    positive, negative = conditioning("flux_dev", seed=1), conditioning("flux_dev", seed=2)
    for cond in (positive, negative):
        cond[0][0] = cond[0][0][:, :1].expand(-1, tokens, -1).clone()
    with torch.inference_mode():
        return comfy_sample(model, empty, positive, negative, cfg)


def comfy_sample(model: Any, empty: torch.Tensor, positive: Any, negative: Any, cfg: float) -> torch.Tensor:
    import comfy.sample

    noise = comfy.sample.prepare_noise(empty, 1)
    return comfy.sample.sample(
        model, noise, STEPS, cfg, "euler", "simple", positive, negative, empty, denoise=1.0, disable_pbar=True, seed=1
    )


ELEVEN: list[tuple[str, dict[str, Any]]] = [
    ("first", {}),
    ("same", {}),
    ("wider", {"size": (16, 24)}),
    ("higher", {"size": (32, 16)}),
    ("larger", {"size": (40, 40)}),
    ("longer prompt", {"tokens": 12}),
    ("longest prompt", {"tokens": 20}),
    ("cfg", {"cfg": 3.0}),
    ("batch 2", {"batch": 2}),
    ("batch 3", {"batch": 3}),
    ("back", {}),
]


@pytest.mark.parametrize("dynamic", [False, True])
def test_eleven_runs_compile_four_regions(comfy: ComfyUI, dynamic: bool) -> None:
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model, dynamic=dynamic)
    counts = {}
    for name, how in ELEVEN:
        plain = sample(comfy, model, **how)
        with Compiles() as compiles:
            latent = sample(comfy, behind, **how)
        counts[name] = compiles.graphs
        assert compiles.breaks == 0
        assert torch.equal(latent, plain), name
    assert counts == {name: {"first": 2, "cfg": 2}.get(name, 0) for name, _ in ELEVEN}
