"""The slots of a model that a session fills during a call: what others put there stays, works, and is there again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_model import (
    COMPUTED,
    REUSED,
    SIGMA,
    SLOT,
    Model,
    evaluate,
    keys,
    open_session,
    picture,
    watching,
)

from wavespeed import _native

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)


def test_what_others_put_into_the_slots_stays_and_is_used(model: Model) -> None:
    used: list[int] = []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        used.append(1)
        return model.double_blocks[1]._call_impl(*args, **kwargs)

    model.double_blocks[1].__dict__[SLOT] = theirs
    model.double_blocks[2].__dict__[SLOT] = None
    before = model.slots()
    session = open_session(model)
    x = picture()
    for expected in ([1], [1]):
        evaluate(session, model, x)
        assert used == expected
        assert all(now is was for now, was in zip(model.slots(), before, strict=True))


def test_a_slot_that_others_set_during_the_call_stays(model: Model) -> None:
    def theirs(*args: Any, **kwargs: Any) -> Any:
        return model.single_blocks[1]._call_impl(*args, **kwargs)

    def set_it() -> None:
        model.single_blocks[1].__dict__[SLOT] = theirs

    model.double_blocks[1].during = set_it
    evaluate(open_session(model), model, picture())
    assert model.single_blocks[1].__dict__[SLOT] is theirs


def test_instance_level_forward_and_forward_hooks_run_inside(model: Model) -> None:
    block = model.single_blocks[0]
    original = block.forward
    fired: list[str] = []
    block.forward = lambda *args, **kwargs: fired.append("forward") or original(*args, **kwargs)
    x = picture()
    session = open_session(model)
    with watching(block, lambda _args, _result: fired.append("hook")):
        evaluate(session, model, x)
        assert fired == ["forward", "hook"]
        evaluate(session, model, x)
    assert fired == ["forward", "hook"], "a block that is left out fires nothing"


def test_blocks_compiled_in_place_stay_compiled_and_are_left_out_on_a_hit(model: Model) -> None:
    for block in model.blocks():
        block.compile(backend="eager")
    before = model.slots()
    x = picture()
    plain = model(x)
    session = open_session(model)
    model.calls()
    assert torch.allclose(evaluate(session, model, x), plain, rtol=0, atol=1e-6)
    assert model.calls() == COMPUTED
    assert torch.allclose(evaluate(session, model, x), plain, rtol=0, atol=1e-6)
    assert model.calls() == REUSED
    assert all(now is was for now, was in zip(model.slots(), before, strict=True))
    torch.compiler.reset()


def test_state_dict_and_module_tree_are_the_same_while_a_call_is_open(model: Model) -> None:
    session = open_session(model)
    before = list(model.state_dict()), [name for name, _ in model.named_modules()]
    session.begin_evaluation()
    assert session.open_call(keys(0), SIGMA)
    assert (list(model.state_dict()), [name for name, _ in model.named_modules()]) == before
    assert "absent" in model.slots()
    assert session.close_call(False) is False
    assert model.slots() == ["absent"] * len(model.slots())
