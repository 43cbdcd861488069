"""Traces: recorded by a session, refused when they are not whole, and replayed as the session would have decided."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
import torch
from block_model import Model, call, evaluate, open_session, picture, real_operations

from wavespeed import _native, operations

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

STEPS = 10
SIGMAS = tuple(1 - step / STEPS for step in range(STEPS + 1))
BEGIN = 16 + 8 * (STEPS + 1)


def drifting(step: int, batch: int = 1) -> torch.Tensor:
    """Pictures that move on a bent line."""
    return picture(1, batch) + 0.05 * step * picture(2, batch) + 0.002 * step**2 * picture(3, batch)


def recorded(model: Model, conds: tuple[int, ...] = (0,), **settings: Any) -> bytes:
    """A full run of STEPS evaluations, as run.py records it."""
    session = open_session(model, strategy="forecast", schedule=SIGMAS, speedup=1.0, records=True, **settings)
    for step in range(STEPS):
        evaluate(session, model, drifting(step, len(conds)), conds=conds, sigma=torch.tensor([SIGMAS[step]]))
    assert session.statistics()["computed"] == STEPS
    trace: bytes = session.trace()
    return trace


def replay(trace: bytes, strategy: str = "forecast", **policy: float) -> list[tuple[float, bool, float, float]]:
    found: list[tuple[float, bool, float, float]] = _native.core.replay_trace(trace, strategy, **policy)
    return found


def test_a_session_that_records_nothing_has_no_trace(model: Model) -> None:
    assert open_session(model).trace() is None


def test_recording_changes_nothing_in_the_pictures(model: Model) -> None:
    sessions = [
        open_session(model, strategy="forecast", schedule=SIGMAS, speedup=2.0, records=records)
        for records in (False, True)
    ]
    for step in range(STEPS):
        sigma = torch.tensor([SIGMAS[step]])
        plain, traced = (evaluate(session, model, drifting(step), sigma=sigma) for session in sessions)
        assert torch.equal(plain, traced)


@pytest.mark.parametrize("metric", ["output", "residual"])
@pytest.mark.parametrize("conds", [(0,), (0, 1)])
@pytest.mark.parametrize(
    ("strategy", "policy"),
    [("classic", {"threshold": 0.1}), ("classic", {"speedup": 2.0}), ("forecast", {"threshold": 0.2}),
     ("forecast", {"speedup": 1.5}), ("forecast", {"speedup": 3.0})],
)  # fmt: skip
def test_a_replay_decides_as_a_session_does(
    model: Model, metric: str, conds: tuple[int, ...], strategy: str, policy: dict[str, float]
) -> None:
    """The pictures here do not depend on what was left out, so the full run's path is everybody's."""
    trace = recorded(model, conds, metric=metric)
    session = open_session(model, strategy=strategy, schedule=SIGMAS, metric=metric, **({"threshold": 1.0} | policy))
    model.calls()
    decided = []
    for step in range(STEPS):
        evaluate(session, model, drifting(step, len(conds)), conds=conds, sigma=torch.tensor([SIGMAS[step]]))
        decided.append(model.calls()[-1] == 1)
    found = replay(trace, strategy, **policy)
    assert [computed for _, computed, _, _ in found] == decided
    assert any(decided)
    assert not all(decided)


def test_a_replay_tells_the_error_that_the_session_makes(model: Model) -> None:
    """Against the model itself; its blocks write in place, hence the clones."""
    trace = recorded(model)
    found = replay(trace, "classic", speedup=2.0)
    sigma, computed, predicted, actual = found[2]
    assert (sigma, computed) == (pytest.approx(SIGMAS[2]), False)
    states: list[torch.Tensor] = []
    for step in (1, 2):
        with_first = {}
        handle_first = model.double_blocks[0].register_forward_hook(
            lambda _module, _args, result, kept=with_first: kept.update(first=result[0].clone()) and None
        )
        handle_end = model.final_layer.register_forward_pre_hook(
            lambda _module, args, kept=with_first: kept.update(end=args[0].clone()) and None
        )
        model(drifting(step))
        handle_first.remove()
        handle_end.remove()
        states.append(with_first["end"] - with_first["first"])
    stale, true = states
    assert actual == pytest.approx(((stale - true).abs().sum() / true.abs().sum()).item(), rel=1e-4)
    assert 0 < predicted < 1


def test_the_forecast_is_nearer_than_reuse_on_the_same_trace(model: Model) -> None:
    trace = recorded(model)
    reused, forecast = (
        sum(actual for *_, actual in replay(trace, strategy, speedup=2.0)) for strategy in ("classic", "forecast")
    )
    assert forecast < 0.5 * reused


def test_a_trace_without_evaluations_can_be_replayed(model: Model) -> None:
    trace = open_session(model, strategy="forecast", schedule=SIGMAS, records=True).trace()
    assert replay(trace, speedup=2.0) == []


def test_another_shape_begins_a_new_history_also_in_a_replay(model: Model) -> None:
    session = open_session(model, strategy="forecast", schedule=SIGMAS, speedup=1.0, records=True)
    for step in range(8):
        x = drifting(step) if step < 4 else drifting(step)[:, :4]
        evaluate(session, model, x, sigma=torch.tensor([SIGMAS[step]]))
    found = replay(session.trace(), threshold=1e9)
    assert [computed for _, computed, _, _ in found] == [True, True, False, False, True, True, False, False]


def test_not_a_number_is_computed_in_a_replay(model: Model) -> None:
    session = open_session(model, strategy="forecast", schedule=SIGMAS, speedup=1.0, records=True)
    for step in range(6):
        x = drifting(step) * (math.nan if step == 3 else 1)
        evaluate(session, model, x, sigma=torch.tensor([SIGMAS[step]]))
    found = replay(session.trace(), threshold=1e9)
    assert [computed for _, computed, _, _ in found][:4] == [True, True, False, True]


def test_calls_of_one_evaluation_stay_together(model: Model) -> None:
    session = open_session(model, strategy="forecast", schedule=SIGMAS, speedup=1.0, records=True)
    for step in range(4):
        session.begin_evaluation()
        for cond in (0, 1):
            call(session, model, drifting(step), conds=(cond,), sigma=torch.tensor([SIGMAS[step]]))
    assert len(replay(session.trace(), speedup=1.0)) == 4


@pytest.mark.parametrize("kept", [0, 7, 12, 40, BEGIN, BEGIN + 3, BEGIN + 30, -1, -17])
def test_a_trace_that_is_cut_off_is_refused_with_its_place(model: Model, kept: int) -> None:
    trace = recorded(model)[:kept]
    with pytest.raises(ValueError, match=r"does not begin with WSTRACE1|cut off"):
        replay(trace, speedup=2.0)


def test_every_cut_is_refused(model: Model) -> None:
    trace = recorded(model)
    for kept in range(0, len(trace), 13):
        with pytest.raises(ValueError, match="trace"):
            replay(trace[:kept], speedup=2.0)


@pytest.mark.parametrize(
    ("place", "bytes_there", "reason"),
    [
        (0, b"PNG", "does not begin with WSTRACE1"),
        (8, struct.pack(">I", 0x01020304), "another byte order"),
        (12, struct.pack("<I", 1 << 30), "a schedule of 1073741824 sigmas"),
        (16, struct.pack("<d", math.inf), r"Sigma 0 of the trace's schedule is"),
        (BEGIN, b"WHAT", f"damaged at byte {BEGIN}"),
        (BEGIN + 4, struct.pack("<I", 33), "cut off or damaged in call 1"),
        (BEGIN + 8, struct.pack("<q", 2), "belongs to evaluation 2, after 0"),
        (BEGIN + 16 + 24, struct.pack("<d", math.nan), "The sigma of call 1 of the trace is not a number"),
        (BEGIN + 96 + 40 + 16, struct.pack("<I", 1 << 20), "cut off or damaged in call 1"),
    ],
)
def test_damage_is_refused_with_its_reason(model: Model, place: int, bytes_there: bytes, reason: str) -> None:
    trace = bytearray(recorded(model))
    trace[place : place + len(bytes_there)] = bytes_there
    with pytest.raises(ValueError, match=reason):
        replay(bytes(trace), speedup=2.0)


def test_more_behind_the_end_and_a_wrong_count_are_refused(model: Model) -> None:
    trace = recorded(model)
    with pytest.raises(ValueError, match="goes on for 3 bytes behind its end"):
        replay(trace + b"abc", speedup=2.0)
    with pytest.raises(ValueError, match=f"says that it has 99 calls, and has {STEPS}"):
        replay(trace[:-8] + struct.pack("<q", 99), speedup=2.0)


def test_a_policy_that_makes_no_sense_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match=r"speedup is 0\.5"):
        replay(recorded(model), speedup=0.5)


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 300, 1000), (3, 5, 70000), (1, 7)])
def test_a_sketch_holds_whole_rows_and_no_more_than_its_limit(shape: tuple[int, ...]) -> None:
    tensor = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
    elements, data = operations.sketch(tensor.to(torch.float64))
    values = torch.frombuffer(bytearray(data), dtype=torch.float32)
    assert elements == tensor.numel()
    assert 0 < len(values) <= operations.SKETCH
    assert torch.equal(values[: shape[-1]], tensor.flatten()[: min(shape[-1], operations.SKETCH)])
    if elements <= operations.SKETCH:
        assert torch.equal(values, tensor.flatten())


def test_a_sketch_that_fails_ends_the_call_with_its_own_exception(model: Model) -> None:
    def full(_tensor: torch.Tensor) -> tuple[int, bytes]:
        raise MemoryError("no room")

    session = open_session(model, records=True, operations=real_operations(sketch=full))
    with pytest.raises(MemoryError, match="no room"):
        evaluate(session, model, picture())
    assert model.slots() == Model().slots()
