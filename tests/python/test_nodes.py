"""Node classes: made by the native module from nodes.json, and the same ones where there is no native module."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from wavespeed import _native, fallback_nodes, first_block_cache, report
from wavespeed.compile_model import CompileModel
from wavespeed.demo_model import DemoPrompt
from wavespeed.run import Engine
from wavespeed.xy_node import FirstBlockCacheXY

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

SCHEMA = (Path(__file__).resolve().parents[2] / "python/wavespeed/nodes.json").read_text(encoding="utf-8")
CACHE = "ApplyFBCacheOnModel"
SPEEDUP = "WaveSpeedFirstBlockCache"
XY = "WaveSpeedFirstBlockCacheXY"
COMPILE = "EnhancedCompileModel"
ATTRIBUTES = (
    "CATEGORY", "DESCRIPTION", "FUNCTION", "OUTPUT_NODE", "RETURN_TYPES", "RETURN_NAMES", "OUTPUT_TOOLTIPS",
    "__module__",
)  # fmt: skip


@pytest.fixture(scope="module")
def implementations() -> dict[str, Any]:
    engine = Engine(core=_native.core, operations=None, architectures={})
    return {
        CACHE: first_block_cache.ApplyFirstBlockCache(engine),
        SPEEDUP: first_block_cache.FirstBlockCache(engine),
        XY: FirstBlockCacheXY(engine),
        COMPILE: CompileModel(engine),
        "WaveSpeedDemoPrompt": DemoPrompt(),
    }


@pytest.fixture(scope="module")
def native(implementations: dict[str, Any]) -> dict[str, type]:
    """The module makes its classes once, so all tests of a process share them."""
    with pytest.raises(ValueError, match=r"\S"):
        _native.core.node_classes("{", implementations)
    classes, names = _native.core.node_classes(SCHEMA, implementations)
    assert names == {
        CACHE: "Apply First Block Cache",
        SPEEDUP: "First Block Cache",
        XY: "First Block Cache XY",
        COMPILE: "Compile Model+",
        "WaveSpeedDemoPrompt": "Demo Prompt",
    }
    return classes


@pytest.fixture(scope="module")
def fallback(implementations: dict[str, Any]) -> dict[str, type]:
    choices = {CACHE: first_block_cache.CHOICES, SPEEDUP: first_block_cache.CHOICES_WITH_SPEEDUP}
    reason = "The native module has not been built."
    passing = {name: fallback_nodes.PassThrough(reason, some) for name, some in choices.items()}
    replaced = implementations | passing | {XY: fallback_nodes.Unavailable(reason)}
    return fallback_nodes.node_classes(SCHEMA, replaced)[0]


@pytest.mark.parametrize("node_id", [node["id"] for node in json.loads(SCHEMA)["nodes"]])
def test_both_makers_give_the_same_class(native: dict[str, type], fallback: dict[str, type], node_id: str) -> None:
    left, right = native[node_id], fallback[node_id]
    assert {name: getattr(left, name) for name in ATTRIBUTES} == {name: getattr(right, name) for name in ATTRIBUTES}
    assert left.__name__ == right.__name__ == node_id
    assert left.INPUT_TYPES() == right.INPUT_TYPES()
    for group in ("required", "optional"):
        assert list(left.INPUT_TYPES()[group]) == list(right.INPUT_TYPES()[group]), "old workflows rely on the order"
        for name, (_, options) in left.INPUT_TYPES()[group].items():
            kinds = {option: type(value) for option, value in options.items()}
            other = {option: type(value) for option, value in right.INPUT_TYPES()[group][name][1].items()}
            assert kinds == other, "ComfyUI tells 1 from 1.0"


def test_the_cache_node_keeps_the_contract_of_comfy_wavespeed(native: dict[str, type]) -> None:
    inputs = native[CACHE].INPUT_TYPES()
    assert list(inputs["required"]) == ["model", "object_to_patch", "residual_diff_threshold"]
    optional = ["start", "end", "max_consecutive_cache_hits", "strategy", "speedup", "cache_device"]
    assert list(inputs["optional"]) == optional
    kinds = {name: kind for group in ("required", "optional") for name, (kind, _) in inputs[group].items()}
    assert kinds == {
        "model": "MODEL",
        "object_to_patch": "STRING",
        "residual_diff_threshold": "FLOAT",
        "start": "FLOAT",
        "end": "FLOAT",
        "max_consecutive_cache_hits": "INT",
        "strategy": ["classic", "forecast"],
        "speedup": "FLOAT",
        "cache_device": ["gpu", "cpu"],
    }
    assert inputs["optional"]["speedup"][1]["default"] == 0.0, "old workflows stay with their threshold"
    assert inputs["required"]["object_to_patch"][1]["default"] == "diffusion_model"
    assert native[CACHE].RETURN_TYPES == ("MODEL",)
    assert native[CACHE].CATEGORY == "wavespeed"


def test_input_types_may_be_changed_by_the_caller(native: dict[str, type]) -> None:
    native[CACHE].INPUT_TYPES()["required"].clear()
    native[CACHE].INPUT_TYPES()["optional"]["start"][1]["default"] = 99
    assert native[CACHE].INPUT_TYPES()["optional"]["start"][1]["default"] == 0.0


def test_demo_prompt_lists_its_subjects(native: dict[str, type]) -> None:
    choices, options = native["WaveSpeedDemoPrompt"].INPUT_TYPES()["required"]["subject"]
    assert choices == DemoPrompt().choices["subject"]
    assert options["tooltip"]


def test_classes_exist_only_for_what_has_an_implementation(implementations: dict[str, Any]) -> None:
    classes, names = fallback_nodes.node_classes(SCHEMA, {CACHE: implementations[CACHE]})
    assert list(classes) == list(names) == [CACHE]


def test_comfyui_can_inspect_and_call_validate_inputs(native: dict[str, type]) -> None:
    """ComfyUI passes the inputs that the signature names, constants as typed and links as None."""
    specification = inspect.getfullargspec(native[CACHE].VALIDATE_INPUTS)
    assert set(specification.args) - {"self"} == {
        "residual_diff_threshold", "start", "end", "max_consecutive_cache_hits", "speedup",
    }  # fmt: skip
    assert specification.varkw is None, "with **kwargs ComfyUI would skip its own checks of every input"
    validate = native[CACHE]().VALIDATE_INPUTS
    assert validate(residual_diff_threshold=0.12, start=0.0, end=1.0, max_consecutive_cache_hits=-1) is True
    assert validate(residual_diff_threshold=0.12) is True
    assert validate(residual_diff_threshold=None, start=None, end=None, max_consecutive_cache_hits=None) is True


@pytest.mark.parametrize(
    ("name", "value", "shown", "limits"),
    [
        ("residual_diff_threshold", -0.5, "-0.5", ("0", "1")),
        ("residual_diff_threshold", 1.5, "1.5", ("0", "1")),
        ("residual_diff_threshold", float("nan"), "not a number", ("0", "1")),
        ("residual_diff_threshold", float("inf"), "inf", ("0", "1")),
        ("start", -0.1, "-0.1", ("0", "1")),
        ("end", 2.0, "2", ("0", "1")),
        ("max_consecutive_cache_hits", -2, "-2", ("-1",)),
        ("speedup", 0.5, "0.5", ("1", "10", "0")),
        ("speedup", float("nan"), "not a number", ("1", "10", "0")),
        ("speedup", 11.0, "11", ("1", "10", "0")),
    ],
)
def test_values_outside_their_limits_are_named(
    native: dict[str, type], name: str, value: float, shown: str, limits: tuple[str, ...]
) -> None:
    message = native[CACHE].VALIDATE_INPUTS(**{name: value})
    assert isinstance(message, str)
    assert name in message
    assert shown in message.replace(name, "")
    assert all(limit in message for limit in limits)
    assert message.endswith(".")
    values = {"residual_diff_threshold": 0.1, "start": 0.0, "end": 1.0, "max_consecutive_cache_hits": -1, name: value}
    with pytest.raises(ValueError, match=r"\S") as caught:
        _native.core.check_options(**values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "enabled"),
    [
        ((0.12, 0.0, 1.0, -1), True),
        ((0.0, 0.0, 1.0, -1), False),
        ((0.12, 0.0, 1.0, 0), False),
        ((1, 0, 1, 1), True),
        ((0.0, 0.0, 1.0, -1, 2.0), True),
        ((0.0, 0.0, 1.0, 0, 2.0), False),
    ],
)
def test_options_say_whether_the_cache_is_on(values: tuple[Any, ...], enabled: bool) -> None:
    assert _native.core.check_options(*values) is enabled


@pytest.mark.parametrize("value", ["0.1", [0.1], 1 << 70])
def test_a_value_of_another_type_is_a_sentence_and_not_a_crash(native: dict[str, type], value: Any) -> None:
    assert isinstance(native[CACHE].VALIDATE_INPUTS(max_consecutive_cache_hits=value), str)


def test_the_node_with_a_speedup_is_useful_as_it_is_dropped(native: dict[str, type]) -> None:
    inputs = native[SPEEDUP].INPUT_TYPES()
    assert list(inputs["required"]) == ["model", "speedup"]
    assert inputs["required"]["speedup"][1]["default"] == 2.0
    assert inputs["optional"]["strategy"][0][0] == "forecast", "the first choice is the default"
    assert all(options["advanced"] is True for _, options in inputs["optional"].values())


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.99, "0.99"), (10.5, "10.5"), (float("nan"), "not a number"), (float("inf"), "inf"), (-2.0, "-2")],
)
def test_a_speedup_outside_its_limits_is_refused_before_queueing(
    native: dict[str, type], value: float, shown: str
) -> None:
    sentence = f"speedup is {shown}; it must be between 1 and 10."
    assert native[SPEEDUP].VALIDATE_INPUTS(speedup=value) == sentence
    with pytest.raises(ValueError, match=r"must be between 1 and 10\.$"):
        native[SPEEDUP]().run(model=object(), speedup=value)


def test_the_node_with_a_speedup_checks_its_other_numbers_too(native: dict[str, type]) -> None:
    validate = native[SPEEDUP].VALIDATE_INPUTS
    assert validate(speedup=2.0) is True
    assert validate(speedup=None, start=None, end=None, max_consecutive_cache_hits=None) is True
    assert isinstance(validate(speedup="two"), str)
    assert validate(speedup=2.0, start=2.0) == "start is 2; it must be between 0 and 1."


def test_a_model_that_is_none_is_refused_with_advice(native: dict[str, type]) -> None:
    with pytest.raises(TypeError, match="Connect the MODEL output"):
        native[CACHE]().run(model=object(), object_to_patch="diffusion_model", residual_diff_threshold=0.1)


def test_without_the_native_module_the_model_passes_through_and_says_why(
    fallback: dict[str, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str | None]] = []
    monkeypatch.setattr(report, "tell", lambda text, node_id: said.append((text, node_id)))
    model = object()
    inputs = {"object_to_patch": "diffusion_model", "residual_diff_threshold": 0.1, "start": 0.0}
    assert fallback[CACHE]().run(model=model, unique_id="5", **inputs) == (model,)
    assert said == [("Passed through: The native module has not been built.", "5")]
    assert not hasattr(fallback[CACHE], "VALIDATE_INPUTS")


def test_without_the_native_module_the_grid_says_why_there_is_none(fallback: dict[str, type]) -> None:
    with pytest.raises(RuntimeError, match=r"^This node needs the native module\. The native module has not"):
        fallback[XY]().run(model=object())


def test_the_grid_alone_runs_without_a_node_behind_it(native: dict[str, type]) -> None:
    assert [name for name, node in native.items() if node.OUTPUT_NODE] == [XY]
    assert native[XY].RETURN_TYPES == ("IMAGE", "STRING")


def test_the_compile_node_keeps_the_contract_of_comfy_wavespeed(native: dict[str, type]) -> None:
    node = native[COMPILE]
    inputs = node.INPUT_TYPES()
    assert {name: kind for name, (kind, _) in inputs["required"].items()} == {
        "model": "*",
        "is_patcher": "BOOLEAN",
        "object_to_patch": "STRING",
        "compiler": "STRING",
        "fullgraph": "BOOLEAN",
        "dynamic": "BOOLEAN",
        "mode": "STRING",
        "options": "STRING",
        "disable": "BOOLEAN",
        "backend": "STRING",
    }
    defaults = [options["default"] for _, options in list(inputs["required"].values())[1:]]
    assert defaults == [True, "diffusion_model", "torch.compile", False, False, "", "", False, "inductor"]
    assert node.RETURN_TYPES == ("*",)
    assert node.CATEGORY == "wavespeed"


def test_the_compile_node_refuses_before_queueing(native: dict[str, type]) -> None:
    validate = native[COMPILE].VALIDATE_INPUTS
    assert validate(
        object_to_patch="diffusion_model", compiler="torch.compile", mode="", options="", backend="inductor"
    )
    assert validate(object_to_patch=None, compiler=None, mode=None, options=None, backend=None) is True
    assert 'compiler is "os.system"' in validate(compiler="os.system")
    assert "object_to_patch is 'a.__class__'" in validate(object_to_patch="a.__class__")
