"""Values and models that make no sense are answered with a sentence on the node."""

from __future__ import annotations

import dataclasses
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import NODE

if TYPE_CHECKING:
    from pathlib import Path

    from in_process import ComfyUI

NAN, INFINITY = float("nan"), float("inf")
OUT_OF_RANGE = [
    ("residual_diff_threshold", -0.1),
    ("residual_diff_threshold", 1.5),
    ("residual_diff_threshold", NAN),
    ("residual_diff_threshold", INFINITY),
    ("start", -0.01),
    ("start", NAN),
    ("end", 1.01),
    ("end", -INFINITY),
    ("max_consecutive_cache_hits", -2),
    ("max_consecutive_cache_hits", 2**70),
]
WRONG_TYPES = [
    ("residual_diff_threshold", "a lot"),
    ("start", [0.5]),
    ("end", {}),
    ("max_consecutive_cache_hits", "five"),
    ("max_consecutive_cache_hits", 1.5),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_an_error_with_a_sentence(comfy: ComfyUI, name: str, value: float) -> None:
    with pytest.raises((ValueError, OverflowError)) as caught:
        comfy.cached(comfy.model("flux_dev"), **{name: value})
    if abs(value) < 2**63 or value != value:
        assert name in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_an_error(comfy: ComfyUI, name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        comfy.cached(comfy.model("flux_dev"), **{name: value})


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE + WRONG_TYPES)
def test_validation_before_queueing_gives_a_sentence_and_never_raises(comfy: ComfyUI, name: str, value: Any) -> None:
    node: Any = comfy.pack.nodes[NODE]
    given = {"residual_diff_threshold": 0.1, "start": 0.0, "end": 1.0, "max_consecutive_cache_hits": -1}
    assert node.VALIDATE_INPUTS(**given) is True
    answer = node.VALIDATE_INPUTS(**{**given, name: value})
    assert isinstance(answer, str)
    assert answer


def test_values_that_come_over_a_link_are_not_judged_before_they_are_known(comfy: ComfyUI) -> None:
    node: Any = comfy.pack.nodes[NODE]
    assert (
        node.VALIDATE_INPUTS(residual_diff_threshold=None, start=None, end=None, max_consecutive_cache_hits=None)
        is True
    )


@pytest.mark.parametrize("name", ["nope", "", "diffusion_model.nope", "model.diffusion_model"])
def test_an_object_that_the_model_does_not_have_is_named_in_the_error(comfy: ComfyUI, name: str) -> None:
    with pytest.raises(ValueError, match="object_to_patch") as caught:
        comfy.cached(comfy.model("flux_dev"), object_to_patch=name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["model_sampling", "diffusion_model.double_blocks"])
def test_an_object_that_is_no_diffusion_model_passes_through(comfy: ComfyUI, name: str) -> None:
    model = comfy.model("flux_dev")
    assert comfy.cached(model, object_to_patch=name) is model
    assert comfy.texts.last().startswith("Passed through: object_to_patch names a Mod")
    assert comfy.texts.last().endswith("which is no diffusion model.")


@pytest.mark.parametrize(
    "model", [None, "a string", torch.zeros(1), SimpleNamespace(first_stage_model=None)], ids=lambda m: type(m).__name__
)
def test_a_model_input_that_is_no_model_is_an_error_that_names_what_it_is(comfy: ComfyUI, model: Any) -> None:
    with pytest.raises(TypeError, match=f"is a {type(model).__name__}, not a diffusion model"):
        comfy.cached(model)


def test_a_model_compiled_as_a_whole_passes_through(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    compiled = torch.compile(model.model.diffusion_model, backend="eager")
    model.add_object_patch("diffusion_model", compiled)
    assert comfy.cached(model) is model
    assert "compiled as a whole" in comfy.texts.last()


def test_a_model_with_too_few_blocks_passes_through_bit_for_bit(comfy: ComfyUI) -> None:
    import tiny_models

    model = tiny_models.build("chroma")
    model.model.diffusion_model.skip_mmdit = [0, 1, 2]
    model.model.diffusion_model.skip_dit = [0, 1, 2]
    plain = comfy.sample(model, "chroma", steps=4)
    cached = comfy.sample(comfy.cached(model, 1.0), "chroma", steps=4)
    assert torch.equal(cached.latent, plain.latent)
    assert "Passed through" in cached.text


class FasterBlock(torch.nn.Module):
    """What another pack may put in the place of a block."""

    __module__ = "faster_pack.blocks"

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def test_a_model_whose_blocks_another_pack_replaced_passes_through_and_names_them(comfy: ComfyUI) -> None:
    import tiny_models

    model = tiny_models.build("sd3")
    blocks = model.model.diffusion_model.joint_blocks
    for number, block in enumerate(blocks):
        blocks[number] = FasterBlock(block)
    plain = comfy.sample(model, "sd3", steps=4)
    cached = comfy.sample(comfy.cached(model, 1.0), "sd3", steps=4)
    assert torch.equal(cached.latent, plain.latent)
    assert cached.text == (
        "Passed through: another pack has replaced blocks of this Stable Diffusion 3 model by its own FasterBlock."
    )


def test_a_family_whose_descriptor_has_a_mistake_passes_through_and_says_where(
    comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = comfy.engine()
    architecture = sys.modules[type(engine.architectures["Flux"]).__module__]
    raw = json.loads(architecture.FILE.read_text(encoding="utf-8"))
    described = next(entry for entry in raw["architectures"] if entry["family"] == "Flux")
    described["stages"][1]["main"] = "picture"
    changed = tmp_path / "architectures.json"
    changed.write_text(json.dumps(raw), encoding="utf-8")
    monkeypatch.setattr(architecture, "FILE", changed)
    for name, descriptor in architecture.load(engine.core).items():
        monkeypatch.setitem(engine.architectures, name, descriptor)
    model = comfy.model("flux_dev")
    assert comfy.cached(model) is model
    assert comfy.texts.last() == (
        'Passed through: the descriptor of its family has a mistake: architectures.json, family "Flux", '
        'stage "single_blocks": the field "main" has "picture", which "hidden" does not name.'
    )
    assert comfy.sample(comfy.cached(comfy.model("sd3")), "sd3", steps=10).reused > 0


def test_a_path_that_the_model_does_not_have_is_named(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = comfy.engine()
    described = engine.architectures["Flux"]
    elsewhere = dataclasses.replace(described, final=("last_layer",))
    monkeypatch.setitem(engine.architectures, "Flux", elsewhere)
    cached = comfy.sample(comfy.cached(comfy.model("flux_dev")), steps=4)
    assert cached.text.startswith("Passed through: this Flux model is built differently")
    assert "last_layer" in cached.text
