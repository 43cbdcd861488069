"""Decisions of the native Session and what comes out, with a small real model of torch modules and without ComfyUI.

The model is built like Flux: double blocks, single blocks and a head, all of which write into their inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from block_model import (
    COMPUTED,
    REUSED,
    SIGMA,
    WIDTH,
    Model,
    call,
    evaluate,
    keys,
    open_session,
    picture,
    real_operations,
    watching,
)

from wavespeed import _native

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)


# ---- decisions and what comes out ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["output", "residual"])
@pytest.mark.parametrize("by_keyword", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_same_input_is_reused_and_gives_the_same_output(
    model: Model, metric: str, by_keyword: bool, dtype: torch.dtype
) -> None:
    model.to(dtype).by_keyword = by_keyword
    x = picture().to(dtype)
    plain = model(x)
    session = open_session(model, metric=metric)
    model.calls()
    assert torch.equal(evaluate(session, model, x), plain)
    assert model.calls() == COMPUTED
    reused = evaluate(session, model, x)
    assert model.calls() == REUSED
    assert torch.allclose(reused, plain, rtol=0, atol=1e-6)
    statistics = session.statistics()
    assert (statistics["evaluations"], statistics["computed"], statistics["reused"]) == (2, 1, 1)
    assert statistics["reasons"]["no_entry"] == 1


@pytest.mark.parametrize("metric", ["output", "residual"])
def test_every_miss_is_bit_equal_and_every_hit_leaves_the_blocks_out(model: Model, metric: str) -> None:
    session = open_session(model, metric=metric, threshold=0.05)
    start, direction = picture(1), picture(2)
    seen = set()
    for step in range(12):
        x = start + 0.03 * step * direction
        plain = model(x)
        model.calls()
        out = evaluate(session, model, x)
        counted = model.calls()
        assert counted in (COMPUTED, REUSED)
        seen.add(tuple(counted))
        if counted == COMPUTED:
            assert torch.equal(out, plain)
    statistics = session.statistics()
    assert len(seen) == 2, "the inputs should give both hits and misses"
    assert statistics["computed"] + statistics["reused"] == statistics["evaluations"] == 12
    assert statistics["change_min"] < 0.05 <= statistics["change_max"]


def test_a_hit_is_first_block_output_plus_stored_residual(model: Model) -> None:
    """The definition of First Block Cache, written out."""
    first_input, second_input = picture(1), picture(1) + 0.001
    ends: list[torch.Tensor] = []
    firsts: list[torch.Tensor] = []
    with (
        watching(model.final_layer, lambda args, _result: ends.append(args[0].clone())),
        watching(model.double_blocks[0], lambda _args, result: firsts.append(result[0].clone())),
    ):
        model(first_input)
        model(second_input)
    expected = firsts[1] + (ends[0] - firsts[0])
    vec = model.img_in(second_input).mean(1, keepdim=True)
    session = open_session(model)
    evaluate(session, model, first_input)
    assert torch.allclose(evaluate(session, model, second_input), model.final_layer(expected, vec), rtol=0, atol=1e-6)
    assert session.statistics()["reused"] == 1


def watched_operations(called: list[tuple[str, tuple[Any, ...]]]) -> Any:
    """The operators, each of which notes its name and its arguments."""

    def watch(name: str) -> Callable[..., Any]:
        native = getattr(real_operations(), name)

        def noted(*args: Any) -> Any:
            called.append((name, args))
            return native(*args)

        return noted

    return real_operations(**{name: watch(name) for name in ("copy_to_float32", "finish", "subtract", "distance")})


@pytest.mark.parametrize("conds", [(0,), (0, 1)])
def test_the_copy_of_an_output_is_also_what_its_residual_is_measured_from(model: Model, conds: tuple[int, ...]) -> None:
    """The first computed evaluation makes the residual's memory; from then on two passes are enough."""
    called: list[tuple[str, tuple[Any, ...]]] = []
    session = open_session(model, threshold=1e-9, operations=watched_operations(called))
    for seed in (1, 2, 3):
        x = picture(seed, len(conds))
        plain = model(x)
        assert torch.equal(evaluate(session, model, x, conds=conds), plain)
    first = ["copy_to_float32", "finish"] * len(conds)
    later = ["distance"] * len(conds) + ["subtract"] * len(conds)
    assert [name for name, _ in called] == first + later + later
    ends: list[torch.Tensor] = []
    firsts: list[torch.Tensor] = []
    with (
        watching(model.final_layer, lambda args, _result: ends.append(args[0].clone())),
        watching(model.double_blocks[0], lambda _args, result: firsts.append(result[0].clone())),
    ):
        model(picture(3, len(conds)))
    residuals = torch.cat([args[0] for name, args in called[-len(conds) :]])
    assert torch.equal(residuals, ends[0] - firsts[0])


def test_the_residual_of_the_first_block_is_kept_and_not_copied(model: Model) -> None:
    called: list[tuple[str, tuple[Any, ...]]] = []
    session = open_session(model, metric="residual", operations=watched_operations(called))
    evaluate(session, model, picture())
    evaluate(session, model, picture())
    assert session.statistics()["reused"] == 1
    made = next(args[0] for name, args in called if name == "finish")
    stored = next(args[1] for name, args in called if name == "distance")
    assert stored is made


@pytest.mark.parametrize("metric", ["output", "residual"])
def test_a_head_in_another_dtype_is_measured_from_the_same_state(model: Model, metric: str) -> None:
    """Some models cast between their trunk and their head."""
    model.to(torch.bfloat16)
    model.final_layer.float()
    forward = model.final_layer.forward
    model.final_layer.forward = lambda x, vec: forward(x, vec.float())

    def with_cast(x: torch.Tensor) -> torch.Tensor:
        img, _ = model.double_blocks[0](model.img_in(x), model.txt_in(x[:, :2]), torch.zeros(1))
        img = model.single_blocks[0](img, torch.zeros(1))
        return model.final_layer(img.float(), torch.zeros(1))

    session = open_session(model, metric=metric, threshold=1e-9)
    for seed in (1, 2, 2):
        x = picture(seed).bfloat16()
        plain = with_cast(x)
        assert torch.allclose(evaluate(session, with_cast, x), plain, rtol=0, atol=1e-6)
    assert (session.statistics()["computed"], session.statistics()["reused"]) == (2, 1)


def test_additions_between_blocks_are_not_applied_twice(model: Model) -> None:
    """A ControlNet's addition is in the stored residual already; on a hit it lands in a tensor nobody reads."""
    model.control = torch.full((1, 6, WIDTH), 0.25)
    x = picture()
    plain = model(x)
    session = open_session(model)
    assert torch.equal(evaluate(session, model, x), plain)
    assert torch.allclose(evaluate(session, model, x), plain, rtol=0, atol=1e-6)
    assert session.statistics()["reused"] == 1


def test_nan_is_never_reused(model: Model) -> None:
    session = open_session(model)
    x = picture()
    evaluate(session, model, x * float("nan"))
    model.calls()
    assert torch.equal(evaluate(session, model, x), model(x))
    statistics = session.statistics()
    assert (statistics["computed"], statistics["reused"]) == (2, 0)
    assert statistics["reasons"]["not_finite"] == 1


def test_sigma_outside_start_and_end_is_computed(model: Model) -> None:
    session = open_session(model, sigma_start=0.8, sigma_end=0.2)
    x = picture()
    for sigma in (0.9, 0.9, 0.5, 0.1):
        evaluate(session, model, x, sigma=torch.tensor([sigma]))
    statistics = session.statistics()
    assert (statistics["reused"], statistics["reasons"]["sigma"]) == (1, 2)


def test_consecutive_hits_are_limited(model: Model) -> None:
    session = open_session(model, max_consecutive_hits=2)
    for _ in range(7):
        evaluate(session, model, picture())
    statistics = session.statistics()
    assert (statistics["computed"], statistics["reused"], statistics["reasons"]["hits"]) == (3, 4, 2)


def test_another_shape_is_computed_and_then_reused(model: Model) -> None:
    session = open_session(model)
    small, large = picture(), torch.cat((picture(1), picture(2)), 1)
    for x, counted in ((small, COMPUTED), (large, COMPUTED), (large, REUSED), (small, COMPUTED)):
        plain = model(x)
        model.calls()
        assert torch.allclose(evaluate(session, model, x), plain, rtol=0, atol=1e-6)
        assert model.calls() == counted


# ---- several conds -------------------------------------------------------------------------------------------------


def test_a_batch_that_is_split_later_finds_its_entries(model: Model) -> None:
    both = picture(batch=4)
    plain = model(both)
    session = open_session(model)
    model.calls()
    assert torch.equal(evaluate(session, model, both, conds=(0, 1)), plain)
    session.begin_evaluation()
    model.calls()
    parts = [call(session, model, both[2:], conds=(1,)), call(session, model, both[:2], conds=(0,))]
    assert model.calls() == [2, 0, 0, 0, 0]
    assert torch.allclose(torch.cat(parts[::-1]), plain, rtol=0, atol=1e-6)
    assert torch.allclose(evaluate(session, model, both, conds=(0, 1)), plain, rtol=0, atol=1e-6)
    assert model.calls() == REUSED
    assert session.statistics()["reused"] == 2


@pytest.mark.parametrize("first_changes", [False, True])
def test_all_calls_of_an_evaluation_follow_its_first(model: Model, first_changes: bool) -> None:
    a, b, other = picture(1), picture(2), picture(3)
    session = open_session(model)
    evaluate(session, model, torch.cat((a, b)), conds=(0, 1))
    session.begin_evaluation()
    model.calls()
    call(session, model, other if first_changes else a, conds=(0,))
    call(session, model, b if first_changes else other, conds=(1,))
    assert model.calls() == ([2] * 5 if first_changes else [2, 0, 0, 0, 0])
    assert session.statistics()["reused"] == (0 if first_changes else 1)


def test_rows_that_do_not_divide_among_the_conds_switch_the_cache_off(model: Model) -> None:
    session = open_session(model)
    x = picture(batch=3)
    assert torch.equal(evaluate(session, model, x, conds=(0, 1)), model(x))
    assert session.statistics()["disabled"] == "the rows of a batch cannot be divided among its prompts"
    assert not session.open_call(keys(0), SIGMA)


def test_more_conds_than_the_table_holds_run_untouched(model: Model) -> None:
    session = open_session(model)
    session.begin_evaluation()
    assert session.open_call(keys(*range(33)), SIGMA) is False
    assert session.open_call((), SIGMA) is False
    assert session.statistics()["disabled"] is None
