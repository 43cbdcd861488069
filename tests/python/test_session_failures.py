"""What the native Session does when something fails, or when the model is not what its descriptor says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from block_model import COMPUTED, DOUBLE, REUSED, SIGMA, SINGLE, Model, evaluate, open_session, picture, real_operations

from wavespeed import _native

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)


# ---- errors --------------------------------------------------------------------------------------------------------


class PlannedError(Exception):
    pass


@pytest.mark.parametrize("block", range(5))
def test_an_exception_restores_everything(model: Model, block: int) -> None:
    def fail() -> None:
        raise PlannedError

    x = picture()
    plain = model(x)
    session = open_session(model)
    model.blocks()[block].during = fail
    with pytest.raises(PlannedError):
        evaluate(session, model, x)
    model.blocks()[block].during = None
    assert model.slots() == ["absent"] * len(model.slots())
    model.calls()
    assert torch.equal(evaluate(session, model, x), plain), "an interrupted call must leave no entry behind"
    assert model.calls() == COMPUTED
    evaluate(session, model, x)
    assert model.calls() == REUSED
    assert session.statistics()["disabled"] is None


def test_an_exception_during_a_hit_keeps_the_entries(model: Model) -> None:
    x = picture()
    session = open_session(model)
    evaluate(session, model, x)

    def fail() -> None:
        raise PlannedError

    model.double_blocks[0].during = fail
    with pytest.raises(PlannedError):
        evaluate(session, model, x)
    model.double_blocks[0].during = None
    model.calls()
    evaluate(session, model, x)
    assert model.calls() == REUSED


@pytest.mark.parametrize("metric", ["output", "residual"])
@pytest.mark.parametrize(
    ("operation", "failing_call"),
    [
        ("copy_to_float32", 1),
        ("finish", 1),
        ("distance", 1),
        ("read", 1),
        ("apply", 1),
        ("apply_in_place", 1),
        ("apply_in_place", 2),
    ],
)
def test_out_of_memory_drops_the_cache_and_the_run_goes_on(
    model: Model, metric: str, operation: str, failing_call: int
) -> None:
    native = getattr(real_operations(), operation)
    left = failing_call

    def fail(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise torch.OutOfMemoryError("planned")
        return native(*args)

    conds, batch = ((0, 1), 2) if operation == "apply_in_place" else ((0,), 1)
    x = picture(batch=batch)
    plain = model(x)
    session = open_session(model, metric=metric, operations=real_operations(**{operation: fail}))
    for _ in range(3):
        assert torch.allclose(evaluate(session, model, x, conds=conds), plain, rtol=0, atol=1e-6)
        assert model.slots() == ["absent"] * len(model.slots())
    assert left <= 0, "the planned failure never came"
    statistics = session.statistics()
    assert statistics["disabled"] == "there was not enough memory for the cache, so it was dropped"
    assert statistics["bytes"] == 0


def test_out_of_memory_at_the_end_of_a_later_evaluation_drops_the_cache(model: Model) -> None:
    def full(*_args: Any) -> None:
        raise torch.OutOfMemoryError("planned")

    session = open_session(model, threshold=1e-9, operations=real_operations(subtract=full))
    for seed in (1, 2, 3):
        plain = model(picture(seed))
        assert torch.equal(evaluate(session, model, picture(seed)), plain)
    assert session.statistics()["disabled"] == "there was not enough memory for the cache, so it was dropped"


def test_out_of_memory_of_the_model_is_not_ours(model: Model) -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("planned")

    session = open_session(model)
    model.double_blocks[2].during = fail
    with pytest.raises(torch.OutOfMemoryError):
        evaluate(session, model, picture())
    assert session.statistics()["disabled"] is None


@pytest.mark.parametrize("operation", ["copy_to_float32", "finish", "distance", "read", "apply"])
@pytest.mark.parametrize("problem", [PlannedError, KeyboardInterrupt])
def test_other_exceptions_of_operators_are_raised(model: Model, operation: str, problem: type[BaseException]) -> None:
    def fail(*_args: Any) -> Any:
        raise problem

    session = open_session(model, operations=real_operations(**{operation: fail}))

    def run() -> None:
        for _ in range(2):
            evaluate(session, model, picture())

    with pytest.raises(problem):
        run()
    assert model.slots() == ["absent"] * len(model.slots())


# ---- models that are not what their descriptor says ------------------------------------------------------------------


def without_head(model: Model, x: torch.Tensor) -> torch.Tensor:
    img, txt = model.double_blocks[0](model.img_in(x), model.txt_in(x[:, :2]), torch.zeros(1))
    return img + model.single_blocks[0](txt, torch.zeros(1)).mean()


def head_twice(model: Model, x: torch.Tensor) -> torch.Tensor:
    img, _ = model.double_blocks[0](model.img_in(x), model.txt_in(x[:, :2]), torch.zeros(1))
    img = model.single_blocks[0](img, torch.zeros(1))
    return model.final_layer(img, img) + model.final_layer(img, -img)


def first_block_twice(model: Model, x: torch.Tensor) -> torch.Tensor:
    img, txt = model.double_blocks[0](model.img_in(x), model.txt_in(x[:, :2]), torch.zeros(1))
    img, _ = model.double_blocks[0](img, txt, torch.zeros(1))
    img = model.single_blocks[0](img, torch.zeros(1))
    return model.final_layer(img, img)


def shape_changes(model: Model, x: torch.Tensor) -> torch.Tensor:
    img, _ = model.double_blocks[0](model.img_in(x), model.txt_in(x[:, :2]), torch.zeros(1))
    img = model.single_blocks[0](img, torch.zeros(1))[:, ::2]
    return model.final_layer(img, img)


def list_left_out(model: Model, x: torch.Tensor) -> torch.Tensor:
    img, _ = model.double_blocks[0](model.img_in(x), model.txt_in(x[:, :2]), torch.zeros(1))
    return model.final_layer(img, img)


@pytest.mark.parametrize(
    ("forward", "sentence"),
    [
        (without_head, "its last layer was never called"),
        (head_twice, "its last layer is called several times in one evaluation"),
        (first_block_twice, "its first block is called several times in one evaluation"),
        (shape_changes, "its hidden state changes its shape between the first block and the last layer"),
        (list_left_out, "a whole list of its blocks was never called"),
    ],
)
def test_an_unexpected_structure_switches_the_cache_off(
    model: Model, forward: Callable[[Model, torch.Tensor], torch.Tensor], sentence: str
) -> None:
    x = picture()
    plain = forward(model, x)
    session = open_session(model)
    for _ in range(3):
        assert torch.equal(evaluate(session, lambda value: forward(model, value), x), plain)
    statistics = session.statistics()
    assert statistics["disabled"] == sentence
    assert statistics["reused"] == 0


def test_a_first_block_that_returns_something_else_switches_the_cache_off(model: Model) -> None:
    session = open_session(model, stages=((*DOUBLE[:1], ("img",), "img"), SINGLE))
    x = picture()
    assert torch.equal(evaluate(session, model, x), model(x))
    assert session.statistics()["disabled"] == "the first block returned something this pack does not know"


def test_a_hit_that_does_not_reach_the_head_is_run_again(model: Model) -> None:
    """The head of a later call gets another shape than the cached state has: never a wrong picture."""
    x = picture()
    shorter = False

    def forward(value: torch.Tensor) -> torch.Tensor:
        img, _ = model.double_blocks[0](model.img_in(value), model.txt_in(value[:, :2]), torch.zeros(1))
        img = model.single_blocks[0](img, torch.zeros(1))
        img = img[:, ::2] if shorter else img
        return model.final_layer(img, img)

    session = open_session(model)
    evaluate(session, forward, x)
    shorter = True
    plain = forward(x)
    assert torch.equal(evaluate(session, forward, x), plain)
    assert session.statistics()["disabled"] == "the reused state did not reach its last layer"


# ---- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.0},
        {"threshold": float("nan")},
        {"max_consecutive_hits": -2},
        {"stages": ()},
        {"stages": ((DOUBLE[0], ("img", "other"), "img"),)},
        {"stages": ((DOUBLE[0], ("txt",), "img"),)},
        {"stages": (((), None, "x"),)},
        {"stages": (SINGLE,)},
    ],
)
def test_settings_that_make_no_sense_are_refused(model: Model, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w+ .*\w"):
        open_session(model, **settings)


def test_arguments_of_other_types_are_refused(model: Model) -> None:
    with pytest.raises(TypeError):
        open_session(model, threshold="high")
    with pytest.raises(AttributeError):
        open_session(model, operations=object())
    session = open_session(model)
    with pytest.raises(TypeError):
        session.open_call([(0, 0, 0, 0, 0)], SIGMA)
    with pytest.raises(TypeError):
        session.open_call(((0, 0),), SIGMA)
    assert model.slots() == ["absent"] * len(model.slots())
