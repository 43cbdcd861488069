"""Descriptors of model families, and how one is bound to the modules of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wavespeed import _native, architecture

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

TEXT = architecture.FILE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def known() -> dict[str, architecture.Architecture]:
    return architecture.load(_native.core)


def blocks(count: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Identity() for _ in range(count))


def model_of_class(name: str, **parts: Any) -> nn.Module:
    """A module tree that looks like a model of ComfyUI's class `name`."""
    model = type(name, (nn.Module,), {})()
    for part, value in parts.items():
        setattr(model, part, value)
    return model


def flux(**changed: Any) -> nn.Module:
    parts = {"double_blocks": blocks(2), "single_blocks": blocks(3), "final_layer": nn.Identity()}
    return model_of_class("Flux", **(parts | changed))


def test_every_class_of_the_file_has_its_descriptor(known: dict[str, architecture.Architecture]) -> None:
    raw = json.loads(TEXT)["architectures"]
    assert set(known) == {name for entry in raw for name in entry["classes"]}
    assert _native.core.check_architectures(TEXT) == []


def test_flux_is_bound_in_execution_order(known: dict[str, architecture.Architecture]) -> None:
    model = flux()
    plan = architecture.bind(architecture.find(known, model), model)
    assert plan.architecture.family == "Flux"
    expected = [*model.double_blocks, *model.single_blocks, model.final_layer]
    assert [hook[0] for hook in plan.hooks] == expected
    assert [hook[1] for hook in plan.hooks] == ["first", "block", "block", "block", "block", "final"]
    assert [hook[2] for hook in plan.hooks] == [0, 0, 1, 1, 1, 0]


def test_the_layout_is_what_the_native_session_takes(known: dict[str, architecture.Architecture]) -> None:
    assert [stage.layout() for stage in known["Flux"].stages] == [
        ((("img", 0), ("txt", 1)), ("img", "txt"), "img", "tensor", "same"),
        ((("x", 0),), None, "x", "tensor", "same"),
    ]


def test_blocks_that_a_model_leaves_out_are_not_hooked(known: dict[str, architecture.Architecture]) -> None:
    model = model_of_class(
        "Chroma",
        double_blocks=blocks(3),
        single_blocks=blocks(3),
        final_layer=nn.Identity(),
        skip_mmdit=[0],
        skip_dit=[2],
    )
    plan = architecture.bind(architecture.find(known, model), model)
    executed = [*list(model.double_blocks)[1:], *list(model.single_blocks)[:2], model.final_layer]
    assert [hook[0] for hook in plan.hooks] == executed
    assert plan.hooks[0][1] == "first"


def test_a_first_list_left_out_completely_makes_the_next_one_decide(
    known: dict[str, architecture.Architecture],
) -> None:
    model = model_of_class(
        "Chroma",
        double_blocks=blocks(1),
        single_blocks=blocks(2),
        final_layer=nn.Identity(),
        skip_mmdit=[0],
        skip_dit=[],
    )
    plan = architecture.bind(architecture.find(known, model), model)
    assert [hook[1:3] for hook in plan.hooks] == [("first", 1), ("block", 1), ("final", 0)]


def unsupported(known: dict[str, architecture.Architecture], model: nn.Module) -> str:
    try:
        descriptor = architecture.find(known, model)
        assert descriptor is not None
        architecture.bind(descriptor, model)
    except architecture.UnsupportedModelError as problem:
        return str(problem)
    pytest.fail("the model is supported")


def test_a_class_without_a_descriptor_has_none_and_a_subclass_is_another_class(
    known: dict[str, architecture.Architecture],
) -> None:
    assert architecture.find(known, model_of_class("NobodysTransformer")) is None
    assert architecture.find(known, type("FluxChild", (type(flux()),), {})()) is None


def test_blocks_of_another_pack_are_named(known: dict[str, architecture.Architecture]) -> None:
    theirs = type("FasterBlock", (nn.Identity,), {"__module__": "faster_pack.blocks"})
    model = flux(double_blocks=nn.ModuleList([theirs(), theirs()]))
    sentence = unsupported(known, model)
    assert sentence == "another pack has replaced blocks of this Flux model by its own FasterBlock"


def test_a_model_compiled_as_a_whole_is_left_alone(known: dict[str, architecture.Architecture]) -> None:
    compiled = torch.compile(flux(), backend="eager")
    assert "compiled as a whole" in unsupported(known, compiled)


@pytest.mark.parametrize("part", ["double_blocks", "single_blocks", "final_layer"])
def test_a_missing_part_is_named(known: dict[str, architecture.Architecture], part: str) -> None:
    model = flux()
    delattr(model, part)
    sentence = unsupported(known, model)
    assert sentence.startswith("this Flux model is built differently")
    assert part in sentence


@pytest.mark.parametrize(("double", "single", "fits"), [(0, 0, False), (1, 0, False), (0, 1, False), (1, 1, True)])
def test_a_model_needs_a_block_to_skip(
    known: dict[str, architecture.Architecture], double: int, single: int, fits: bool
) -> None:
    model = flux(double_blocks=blocks(double), single_blocks=blocks(single))
    if fits:
        assert len(architecture.bind(known["Flux"], model).hooks) == 3
    else:
        assert unsupported(known, model) == "this Flux model has too few blocks to skip any"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metric", "fastest"),
        ("stages", []),
        ("final", None),
        ("family", 3),
        ("finall", ["final_layer"]),
    ],
)
def test_a_family_with_a_mistake_is_left_alone_and_the_others_work(
    field: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw = json.loads(TEXT)
    raw["architectures"][0][field] = value
    changed = tmp_path / "architectures.json"
    changed.write_text(json.dumps(raw), encoding="utf-8")
    monkeypatch.setattr(architecture, "FILE", changed)
    found = architecture.load(_native.core)
    sentence = unsupported(found, flux())
    assert sentence.startswith("the descriptor of its family has a mistake: architectures.json, family")
    assert field in sentence
    assert field in caplog.text
    assert not found["Chroma"].excluded


def test_an_excluded_family_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"family": "Upscaler", "classes": ["Flux"], "excluded": "it has one step", "source": "s", "verified": "v"}
    changed = tmp_path / "architectures.json"
    changed.write_text(json.dumps({"architectures": [entry]}), encoding="utf-8")
    monkeypatch.setattr(architecture, "FILE", changed)
    assert unsupported(architecture.load(_native.core), flux()) == "Upscaler is left alone, because it has one step"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"architectures": 3}', "\x00"])
def test_a_text_that_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        _native.core.check_architectures(text)
