"""Sessions that forecast: what the extension keeps, and that the extrapolated state is the better one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from block_model import COMPUTED, REUSED, WIDTH, Model, evaluate, open_session, picture, real_operations

from wavespeed import _native, expressions

if TYPE_CHECKING:
    pass

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

SIGMAS = (1.0, 0.9, 0.8, 0.7, 0.6)
GENEROUS = 1e9


def drifting(step: int, batch: int = 1) -> torch.Tensor:
    """Pictures that move on a straight line, as a sampler's do between neighbouring steps."""
    return picture(1, batch) + 0.05 * step * picture(2, batch)


def forecast_session(model: Model, **settings: Any) -> Any:
    return open_session(model, strategy="forecast", schedule=(*SIGMAS, 0.0), threshold=GENEROUS, **settings)


def run(session: Any, model: Model, steps: int, conds: tuple[int, ...] = (0,)) -> list[torch.Tensor]:
    model.calls()
    return [
        evaluate(session, model, drifting(step, len(conds)), conds=conds, sigma=torch.tensor([SIGMAS[step]]))
        for step in range(steps)
    ]


@pytest.mark.parametrize("metric", ["output", "residual"])
@pytest.mark.parametrize("conds", [(0,), (0, 1)])
def test_a_hit_comes_after_two_computed_calls_and_beats_plain_reuse(
    model: Model,
    metric: str,
    conds: tuple[int, ...],
) -> None:
    truth = model(drifting(2, len(conds)))
    forecast = run(forecast_session(model, metric=metric), model, 3, conds)[2]
    assert [block.calls for block in model.blocks()] == [3, 2, 2, 2, 2]
    classic = open_session(model, metric=metric, threshold=GENEROUS, max_consecutive_hits=1)
    stale = run(classic, model, 1, conds) and evaluate(classic, model, drifting(2, len(conds)), conds=conds)
    assert (forecast - truth).norm() < 0.5 * (stale - truth).norm()


def test_the_input_standing_still_gives_the_computed_output(model: Model) -> None:
    session = forecast_session(model)
    outputs = [evaluate(session, model, picture()) for _ in range(3)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.allclose(outputs[2], outputs[1], rtol=0, atol=1e-6)


def test_three_points_are_kept_and_all_of_them_go(model: Model) -> None:
    session = open_session(model, strategy="forecast", schedule=(*SIGMAS, 0.0), threshold=1e-12)
    sizes = []
    for step in range(4):
        evaluate(session, model, drifting(step), sigma=torch.tensor([SIGMAS[step]]))
        sizes.append(session.statistics()["bytes"])
    elements = picture().shape[1] * WIDTH
    probe, residual = 4 * elements, 4 * elements
    difference = 4 * expressions.new_difference(torch.empty(elements)).numel()
    assert difference <= 1.03 * elements
    assert sizes[:3] == [probe + residual, 2 * probe + residual + difference, 3 * probe + residual + 2 * difference]
    assert sizes[3] == sizes[2]
    session.close()
    assert session.statistics()["bytes"] == 0


def test_another_shape_begins_a_new_history(model: Model) -> None:
    session = forecast_session(model)
    run(session, model, 2)
    model.calls()
    for expected in (COMPUTED, COMPUTED, REUSED):
        evaluate(session, model, picture()[:, :4])
        assert model.calls() == expected


@pytest.mark.parametrize("operation", ["copy_to_float32", "new_difference", "advance", "extrapolate"])
def test_running_out_of_memory_for_the_history_ends_the_cache_and_not_the_run(model: Model, operation: str) -> None:
    def full(*_arguments: Any) -> None:
        raise torch.OutOfMemoryError("no memory left")

    session = forecast_session(model, operations=real_operations(**{operation: full}))
    outputs = run(session, model, 3)
    assert torch.equal(outputs[2], model(drifting(2)))
    assert "not enough memory" in session.statistics()["disabled"]


@pytest.mark.parametrize("metric", ["output", "residual"])
@pytest.mark.parametrize("conds", [(0,), (0, 1)])
def test_differences_in_8_bits_are_as_good_as_exact_ones(model: Model, metric: str, conds: tuple[int, ...]) -> None:
    """The same run with differences in fp32: hits differ by less than a hundredth of what they forecast."""

    def advance(residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> Any:
        difference.copy_((end - start) - residual)
        return expressions.subtract_states_(residual, start, end)

    def extrapolate(
        hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
    ) -> torch.Tensor:
        return hidden + (residual + w1 * d1 + w2 * d2)

    exact = real_operations(
        advance=advance,
        extrapolate=extrapolate,
        extrapolate_in_place=lambda hidden, *more: hidden.copy_(extrapolate(hidden, *more)),
        new_difference=torch.empty_like,
    )
    settings = {"metric": metric, "max_consecutive_hits": 1}
    ours = run(forecast_session(model, **settings), model, 5, conds)
    theirs = run(forecast_session(model, operations=exact, **settings), model, 5, conds)
    plain = [model(drifting(step, len(conds))) for step in range(5)]
    assert [torch.equal(a, b) for a, b in zip(ours, plain, strict=True)] == [True, True, False, True, False]
    for a, b in ((ours[2], theirs[2]), (ours[4], theirs[4])):
        assert 0 < (a - b).norm() < 0.01 * (plain[4] - plain[1]).norm()


def test_a_call_that_was_interrupted_leaves_nothing_in_the_history(model: Model) -> None:
    session = forecast_session(model, metric="residual")
    run(session, model, 1)

    def fail() -> None:
        raise KeyboardInterrupt

    model.single_blocks[0].during = fail
    with pytest.raises(KeyboardInterrupt):
        evaluate(session, model, drifting(1), sigma=torch.tensor([SIGMAS[1]]))
    model.single_blocks[0].during = None
    model.calls()
    for step, expected in ((2, COMPUTED), (3, COMPUTED), (4, REUSED)):
        evaluate(session, model, drifting(step), sigma=torch.tensor([SIGMAS[step]]))
        assert model.calls() == expected


def test_a_nan_in_the_history_is_never_part_of_a_forecast(model: Model) -> None:
    schedule = tuple(1 - step / 9 for step in range(10))
    session = open_session(model, strategy="forecast", schedule=schedule, threshold=GENEROUS)
    for step in range(9):
        x = drifting(step) * (float("nan") if step == 1 else 1)
        out = evaluate(session, model, x, sigma=torch.tensor([schedule[step]]))
        assert out.isnan().any() == (step == 1)
    assert session.statistics()["reused"] > 0
