"""The embedded demo model: its node, and that its files are what the node believes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors import safe_open

from wavespeed import demo_model

FLUX = demo_model.FOLDER / "diffusion_models/wavespeed_demo_flux.safetensors"
VAE = demo_model.FOLDER / "vae/wavespeed_demo_vae.safetensors"
CLASSES = json.loads((demo_model.FOLDER / "classes.json").read_text(encoding="utf-8"))


def test_choices_are_the_classes_and_nothing_in_particular() -> None:
    prompt = demo_model.DemoPrompt()
    assert prompt.choices["subject"] == [*CLASSES["classes"], demo_model.NOTHING]
    assert len(set(prompt.choices["subject"])) == len(prompt.choices["subject"])


def test_guidance_numbers_stay_where_half_precision_is_exact_enough() -> None:
    """Flux multiplies guidance by 1000 in the inference dtype; fp16 ends at 65504."""
    assert max(demo_model.DemoPrompt().guidance.values()) < 65
    assert CLASSES["null_class"] not in range(len(CLASSES["classes"]))


@pytest.mark.parametrize("number", [0, len(CLASSES["classes"]) - 1])
def test_a_subject_becomes_its_guidance(number: int) -> None:
    ((conditioning,),) = demo_model.DemoPrompt().run(CLASSES["classes"][number])
    tensor, extra = conditioning
    assert extra["guidance"] == float(number)
    assert tensor.shape == demo_model.CONTEXT_SHAPE
    assert not tensor.any()
    assert extra["pooled_output"].shape == (1, demo_model.POOLED_WIDTH)


def test_nothing_in_particular_is_the_null_class() -> None:
    assert demo_model.DemoPrompt().run(demo_model.NOTHING)[0][0][1]["guidance"] == float(CLASSES["null_class"])


def test_an_unknown_subject_is_refused() -> None:
    with pytest.raises(KeyError):
        demo_model.DemoPrompt().run("spaceship")


@pytest.mark.parametrize(("value", "offered"), [(None, True), ("1", True), ("", True), ("0", False)])
def test_an_environment_variable_hides_it(monkeypatch: pytest.MonkeyPatch, value: str | None, offered: bool) -> None:
    if value is None:
        monkeypatch.delenv("WAVESPEED_DEMO", raising=False)
    else:
        monkeypatch.setenv("WAVESPEED_DEMO", value)
    assert demo_model.is_offered() is offered


def test_without_its_files_it_is_not_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("WAVESPEED_DEMO", raising=False)
    monkeypatch.setattr(demo_model, "FOLDER", tmp_path)
    assert demo_model.is_offered() is False


def test_the_diffusion_model_has_the_shape_that_comfyui_detects_as_flux() -> None:
    with safe_open(FLUX, "pt") as file:
        names = set(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        text_input = file.get_tensor("txt_in.weight")
    assert {"double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.weight"} <= names
    assert shapes["txt_in.weight"][1] == demo_model.CONTEXT_SHAPE[2]
    assert not torch.count_nonzero(text_input), "the content of the prompt tensor must not matter"
    assert not [name for name in names if name.startswith("vector_in")], "the pooled output must not matter"


def test_weights_are_finite_and_small_to_download() -> None:
    total = 0
    for path in (FLUX, VAE):
        total += path.stat().st_size
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (safe_open is not a dict)
                assert torch.isfinite(file.get_tensor(name)).all(), name
    assert total < 25 << 20
