"""Models of classes that nobody has described: found by watching them, or left alone. Known families stand in for them,
with their descriptors hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import Evaluation, difference_of_norms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from in_process import ComfyUI

FOUND = (
    "flux_dev",
    "chroma",
    "sd35",
    "wan",
    "qwen_image",
    "pixart_sigma",
    "krea2",
    "omnigen2",
    "ernie",
    "hunyuan_dit",
    "stable_audio_1",
    "minimax_h3",
    "hunyuan3d_2_1",
)
"""Families whose loop can be recognised."""
DECLINED = {
    "sdxl": "its longest chain of blocks holds less than half of the weights of all blocks",
    "stable_cascade_c": "it does not hand its hidden states from block to block",
    "hidream_o1": "its blocks return more than the hidden states",
    "triposplat": "it runs other modules between its blocks",
    "wan_vace": "it runs other modules between its blocks",
    "ace_step_1_5": "other blocks follow its longest chain",
}
"""Families whose loop is another one, and the reason the node gives."""
SHORT = 8
ALL = 1.0
"""The highest threshold that the node takes: every step is reused that may be."""


@pytest.fixture
def hidden(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A model whose class the pack does not know during the test."""

    def hide(family: str) -> Any:
        model = comfy.model(family)
        name = type(model.model.diffusion_model).__name__
        monkeypatch.delitem(comfy.engine().architectures, name)
        comfy.engine().discovered.clear()
        return model

    yield hide
    comfy.engine().discovered.clear()


def steps(comfy: ComfyUI, model: Any, family: str) -> Any:
    """A run that reuses two of three steps, whatever the metric says."""
    return comfy.sample(comfy.cached(model, ALL, max_consecutive_cache_hits=2), family, steps=SHORT, cfg=2.0)


@pytest.mark.parametrize("family", FOUND)
def test_a_discovered_model_gives_the_same_bits_as_its_descriptor(
    comfy: ComfyUI, hidden: Callable[[str], Any], family: str
) -> None:
    described = steps(comfy, comfy.model(family), family)
    model = hidden(family)
    while_watched = steps(comfy, model, family)
    discovered = steps(comfy, model, family)
    assert "more were computed to find the model's blocks" in while_watched.text
    assert while_watched.reused > 0
    assert discovered.counts == described.counts
    assert torch.equal(discovered.latent, described.latent)
    assert sum(discovered.calls) == sum(described.calls)


@pytest.mark.parametrize("family", DECLINED)
def test_a_model_with_another_loop_is_left_alone(comfy: ComfyUI, hidden: Callable[[str], Any], family: str) -> None:
    model = hidden(family)
    plain = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    cached = steps(comfy, model, family)
    assert torch.equal(cached.latent, plain.latent)
    name = type(model.model.diffusion_model).__name__
    assert cached.text.startswith(f"Passed through: the class {name} is not known")
    assert DECLINED[family] in cached.text


def test_the_two_calls_that_are_watched_are_the_models_own(comfy: ComfyUI, hidden: Callable[[str], Any]) -> None:
    model = hidden("flux_dev")
    points = [Evaluation(distance=0.1 * step) for step in range(2)]
    plain = comfy.evaluate(model, "flux_dev", points)
    watched = comfy.evaluate(comfy.cached(model), "flux_dev", points)
    for computed, expected in zip(watched.outputs, plain.outputs, strict=True):
        assert torch.equal(computed, expected)


def test_a_model_that_does_not_repeat_itself_is_left_alone(
    comfy: ComfyUI, hidden: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hit on the same input gives must be what was computed; here the head's result depends on the call."""
    model = hidden("wan")
    head = model.model.diffusion_model.head
    calls = []

    def forgetful(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
        calls.append(output)
        return output * (1 + 0.1 * len(calls))

    handle = head.register_forward_hook(forgetful)
    try:
        text = steps(comfy, model, "wan").text
    finally:
        handle.remove()
    assert "a reused call did not reproduce the computed one" in text


def test_a_hit_of_a_discovered_model_reproduces_the_computed_output(
    comfy: ComfyUI, hidden: Callable[[str], Any]
) -> None:
    model = comfy.cached(hidden("sd35"), ALL)
    outputs = comfy.evaluate(model, "sd35", [Evaluation()] * 4).outputs
    assert difference_of_norms(outputs[3], outputs[2]) <= 1e-6


def test_a_set_speedup_does_not_stand_in_the_way_of_the_proof(comfy: ComfyUI, hidden: Callable[[str], Any]) -> None:
    """Its plan computes the first two evaluations whatever they say; the proof needs the second to be reused."""
    model = hidden("flux_dev")
    run = comfy.sample(comfy.cached(model, strategy="forecast", speedup=2.0), steps=SHORT)
    assert "Passed through" not in run.text
    assert run.reused > 0
