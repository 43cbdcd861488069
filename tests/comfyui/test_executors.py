"""Who does the arithmetic: torch's expressions, as on GPUs of AMD and Apple, and nobody while a graph is recorded."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from checks import SHORT
from in_process import NEVER, NODE, USUAL, relative_difference

if TYPE_CHECKING:
    from in_process import ComfyUI


def operations_module(comfy: ComfyUI) -> Any:
    return sys.modules[type(comfy.engine().operations).__module__]


@pytest.fixture
def _expressions(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor of devices without native kernels, on the CPU."""
    module = operations_module(comfy)
    by_torch = {operator.member: operator.expression for operator in module.OPERATORS}
    expressions = dataclasses.replace(comfy.engine().operations, **by_torch)
    node = comfy.nodes[NODE].run.__self__  # type: ignore[attr-defined]
    monkeypatch.setattr(node, "engine", dataclasses.replace(node.engine, operations=expressions))


@pytest.mark.usefixtures("_expressions")
@pytest.mark.parametrize("family", ["flux_dev", "sdxl", "wan"])
def test_a_miss_is_exact_with_expressions(comfy: ComfyUI, family: str) -> None:
    model = comfy.model(family)
    plain = comfy.sample(model, family, steps=SHORT)
    assert torch.equal(comfy.sample(comfy.cached(model, NEVER), family, steps=SHORT).latent, plain.latent)


@pytest.mark.parametrize("strategy", ["classic", "forecast"])
@pytest.mark.parametrize("family", ["flux_dev", "sdxl", "wan"])
def test_expressions_and_kernels_decide_alike(
    comfy: ComfyUI, request: pytest.FixtureRequest, family: str, strategy: str
) -> None:
    """Their sums differ in the last bits, since torch adds in another order."""
    model = comfy.model(family)
    native = comfy.sample(comfy.cached(model, USUAL, strategy=strategy), family)
    request.getfixturevalue("_expressions")
    expressed = comfy.sample(comfy.cached(model, USUAL, strategy=strategy), family)
    assert native.reused > 0
    assert expressed.counts == native.counts
    assert relative_difference(expressed.latent, native.latent) < 1e-4


def test_while_a_graph_is_recorded_the_model_runs_alone(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded, what the cache does would be repeated with the graph. A recorder sees nothing but the model."""
    model = comfy.model("flux_dev")
    plain = comfy.sample(model)
    monkeypatch.setattr(operations_module(comfy), "is_capturing", lambda: True)
    recorded = comfy.sample(comfy.cached(model, 1.0))
    assert torch.equal(recorded.latent, plain.latent)
    assert recorded.calls == plain.calls
    answers = itertools.chain([True] * 9, itertools.repeat(False))
    monkeypatch.setattr(operations_module(comfy), "is_capturing", lambda: next(answers))
    afterwards = comfy.sample(comfy.cached(model, 1.0))
    assert afterwards.calls[-1] == 10, "nine evaluations recorded, one computed for the cache, the others reused"
