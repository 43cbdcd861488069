"""Who else calls the model while a Session is open, and what outlives what."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest
import torch
from block_model import COMPUTED, SIGMA, SLOT, WIDTH, Model, call, evaluate, keys, open_session, picture

from wavespeed import _native

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)


# ---- who else calls the model --------------------------------------------------------------------------------------


def test_another_thread_passes_through(model: Model) -> None:
    x, other = picture(1), picture(2)
    plain, plain_other = model(x), model(other)
    results: list[torch.Tensor] = []

    def call_from_another_thread() -> None:
        model.double_blocks[1].during = None

        def work() -> None:
            with torch.inference_mode():
                results.append(model(other))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    session = open_session(model)
    for _ in range(2):
        model.double_blocks[1].during = call_from_another_thread
        assert torch.allclose(evaluate(session, model, x), plain, rtol=0, atol=1e-6)
    assert torch.equal(results[0], plain_other)
    assert (session.statistics()["computed"], session.statistics()["reused"]) == (1, 1)


def test_a_nested_call_is_noticed_and_both_results_are_right(model: Model) -> None:
    x, inner = picture(1), picture(2)
    plain, plain_inner = model(x), model(inner)
    results: list[torch.Tensor] = []
    session = open_session(model)

    def call_again() -> None:
        model.double_blocks[1].during = None
        results.append(call(session, model, inner))

    model.double_blocks[1].during = call_again
    assert torch.equal(evaluate(session, model, x), plain)
    assert torch.equal(results[0], plain_inner)
    assert session.statistics()["disabled"] == "its first block is called several times in one evaluation"
    assert model.slots() == ["absent"] * len(model.slots())


def test_closing_in_the_middle_of_a_call_is_harmless(model: Model) -> None:
    session = open_session(model)
    x = picture()
    plain = model(x)
    model.double_blocks[0].during = session.close
    assert torch.equal(evaluate(session, model, x), plain)
    assert model.slots() == ["absent"] * len(model.slots())


# ---- memory --------------------------------------------------------------------------------------------------------


def test_a_closed_session_holds_nothing_and_answers_everything(model: Model) -> None:
    session = open_session(model)
    evaluate(session, model, picture())
    assert session.statistics()["bytes"] == 2 * 6 * WIDTH * 4, "probe and residual, both fp32"
    session.close()
    session.close()
    session.begin_evaluation()
    assert session.open_call(keys(0), SIGMA) is False
    assert session.close_call(True) is False
    assert session.statistics()["bytes"] == 0


def test_models_are_released_with_their_session(model: Model) -> None:
    other = Model()
    other.session = open_session(other)
    evaluate(other.session, other, picture())
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None, "session and model refer to each other; the collector must see through it"


def test_a_hook_that_outlives_its_session_passes_through(model: Model) -> None:
    session = open_session(model)
    session.begin_evaluation()
    session.open_call(keys(0), SIGMA)
    del session
    gc.collect()
    x = picture()
    assert torch.equal(model(x), model(x))
    model.calls()
    model(x)
    assert model.calls() == COMPUTED


@pytest.mark.parametrize("conds", [(0,), (0, 1)])
def test_a_thousand_evaluations_leave_no_block_behind(model: Model, conds: tuple[int, ...]) -> None:
    session = open_session(model, max_consecutive_hits=1)
    x = picture(batch=len(conds))

    def run(times: int) -> int:
        for _ in range(times):
            evaluate(session, model, x, conds=conds)
        session.statistics()
        gc.collect()
        return sys.getallocatedblocks()

    run(100)
    before = run(100)
    after = run(1000)
    assert session.statistics()["reused"] == 600
    assert after - before < 500, "one block per evaluation would be 1000"


def test_the_hook_type_cannot_be_made_by_hand(model: Model) -> None:
    session = open_session(model)
    session.open_call(keys(0), SIGMA)
    hook = model.final_layer.__dict__[SLOT]
    session.close_call(False)
    with pytest.raises(TypeError):
        type(hook)()
