"""Random runs: small moves, jumps, NaN, other shapes, sigmas that leap up, down or stand still, in any order."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from block_model import COMPUTED, REUSED, Model, evaluate, open_session, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed import _native

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

SCHEDULE = tuple(1 - step / 12 for step in range(13))
TOKENS = (6, 4)


@dataclasses.dataclass(frozen=True)
class Step:
    """One evaluation: how far the picture moves, which sigma it has, and what is odd about it."""

    move: float = 0.02
    sigma: float = 0.5
    tokens: int = TOKENS[0]
    value: float = 0.0
    """Added to one element: NaN and infinity are models that went wrong."""
    conds: tuple[int, ...] = (0,)


steps = st.builds(
    Step,
    move=st.sampled_from((0.0, 0.01, 0.05, 3.0)),
    sigma=st.sampled_from((*SCHEDULE, 0.03, 1.7)),
    tokens=st.sampled_from((TOKENS[0],) * 6 + (TOKENS[1],)),
    value=st.sampled_from((0.0,) * 12 + (math.nan, math.inf)),
    conds=st.sampled_from(((0,), (0, 1), (1,))),
)
runs = st.lists(steps, min_size=1, max_size=16)
policies = st.sampled_from(
    [{"strategy": strategy, "threshold": 0.2} for strategy in ("classic", "forecast")]
    + [{"strategy": strategy, "speedup": speedup} for strategy in ("classic", "forecast") for speedup in (1.5, 3.0)]
)


def new_model() -> Model:
    torch.manual_seed(0)
    return Model().eval()


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit for bit, where NaN equals NaN."""
    return torch.equal(a.nan_to_num(nan=7.0), b.nan_to_num(nan=7.0))


def inputs(run: list[Step]) -> list[torch.Tensor]:
    found, place = [], 0.0
    for step in run:
        place += step.move
        x = (picture(1, len(step.conds)) + place * picture(2, len(step.conds)))[:, : step.tokens].clone()
        x[0, 0, 0] += step.value
        found.append(x)
    return found


def sampled(model: Model, run: list[Step], policy: dict[str, Any]) -> tuple[list[torch.Tensor], list[list[int]], Any]:
    """What the model gave, which blocks ran, and the session's counts, evaluation by evaluation."""
    session = open_session(model, schedule=SCHEDULE, **policy)
    outputs, calls = [], []
    model.calls()
    for step, x in zip(run, inputs(run), strict=True):
        outputs.append(evaluate(session, model, x.clone(), conds=step.conds, sigma=torch.tensor([step.sigma])))
        calls.append(model.calls())
    statistics = session.statistics()
    session.close()
    return outputs, calls, statistics


@settings(deadline=None, max_examples=120)
@given(run=runs, policy=policies)
def test_every_evaluation_is_the_models_own_or_a_reuse_that_it_may_make(
    run: list[Step], policy: dict[str, Any]
) -> None:
    with torch.inference_mode():
        model = new_model()
        outputs, calls, statistics = sampled(model, run, policy)
        truth = [model(x.clone()) for x in inputs(run)]
    assert model.slots() == new_model().slots()
    assert statistics["disabled"] is None
    assert statistics["computed"] + statistics["reused"] == statistics["evaluations"] == len(run)
    assert calls.count(COMPUTED) == statistics["computed"]
    history: list[Step] = []  # computed evaluations, the newest last
    needed = 2 if policy["strategy"] == "forecast" else 1
    for step, output, true, ran in zip(run, outputs, truth, calls, strict=True):
        assert ran in (COMPUTED, REUSED)
        if ran == COMPUTED:
            assert same(output, true)
            history.append(step)
            continue
        assert output.isfinite().all()
        assert step.value == 0
        stored = history[-needed:]
        assert len(stored) == needed
        for earlier in stored:
            assert earlier.tokens == step.tokens
            assert set(step.conds) <= set(earlier.conds)
            assert earlier.value == 0 or earlier.conds[0] not in step.conds  # the odd element is the first cond's


@settings(deadline=None, max_examples=40)
@given(run=runs, policy=policies)
def test_the_same_run_comes_out_the_same(run: list[Step], policy: dict[str, Any]) -> None:
    with torch.inference_mode():
        model = new_model()
        (first, calls, _), (second, again, _) = (sampled(model, run, policy) for _ in range(2))
    assert calls == again
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


@settings(deadline=None, max_examples=60)
@given(run=runs, policy=policies)
def test_a_replay_of_the_full_run_never_reaches_past_what_is_stored(run: list[Step], policy: dict[str, Any]) -> None:
    with torch.inference_mode():
        model = new_model()
        session = open_session(model, strategy="forecast", schedule=SCHEDULE, speedup=1.0, records=True)
        for step, x in zip(run, inputs(run), strict=True):
            evaluate(session, model, x, conds=step.conds, sigma=torch.tensor([step.sigma]))
    knob = {name: value for name, value in policy.items() if name != "strategy"}
    found = _native.core.replay_trace(session.trace(), policy["strategy"], **knob)
    assert len(found) == len(run)
    assert found[0][1]
    for (_, computed, _, actual), step in zip(found, run, strict=True):
        assert computed or (math.isfinite(actual) and step.value == 0)
        assert actual == 0 or not computed
