"""Sessions for models of several streams: joint tokens, a head that is given a part of them, tuples of tensors."""

from __future__ import annotations

import pytest
import torch
from block_model import DOUBLE, SINGLE, WIDTH, Model, call, evaluate, picture
from chain_model import Chain, Hooks, assert_same, blocks_of, session_of
from torch import nn

from wavespeed import _native
from wavespeed.streams import pack, unpack

pytestmark = [
    pytest.mark.skipif(_native.core is None, reason=_native.reason),
    pytest.mark.usefixtures("no_gradients"),
]

JOINT_TAIL = ((("x", 0),), None, "x", "tensor", "tail")


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_joint_tokens_keep_what_is_not_the_main_stream() -> None:
    model = Model()
    lists = (model.double_blocks, model.single_blocks)
    session = session_of((DOUBLE, JOINT_TAIL), blocks_of(*lists))
    plain = model(picture())
    model.calls()
    assert torch.equal(evaluate(session, model, picture()), plain)
    assert_same(evaluate(session, model, picture()), plain)
    assert model.calls() == [2, 1, 1, 1, 1]


def test_streams_joined_in_another_order_switch_the_cache_off_before_anything_is_reused() -> None:
    model = Model()
    head = (*JOINT_TAIL[:4], "head")
    session = session_of((DOUBLE, head), blocks_of(model.double_blocks, model.single_blocks))
    plain = model(picture())
    for _ in range(3):
        assert torch.equal(evaluate(session, model, picture()), plain)
    assert session.statistics()["disabled"] == "its streams are joined in another order than its descriptor says"
    assert model.slots() == ["absent"] * len(model.slots())


def test_streams_that_the_next_stage_joins_are_kept_together() -> None:
    model = Model()
    first = ((("img", 0), ("txt", 1)), ("img", "txt"), ("txt", "img"), "tokens")
    session = session_of((first, SINGLE), blocks_of(model.double_blocks, model.single_blocks))
    plain = model(picture())
    model.calls()
    assert torch.equal(evaluate(session, model, picture()), plain)
    assert_same(evaluate(session, model, picture()), plain)
    assert model.calls() == [2, 1, 1, 1, 1]


def test_the_order_in_which_streams_are_joined_matters_when_the_input_changes() -> None:
    """On the same input a residual fits whatever it is added to, so the check above cannot see it."""
    model = Model()
    reused = []
    for order in (("txt", "img"), ("img", "txt")):
        first = ((("img", 0), ("txt", 1)), ("img", "txt"), order, "tokens")
        session = session_of((first, SINGLE), blocks_of(model.double_blocks, model.single_blocks), threshold=100.0)
        evaluate(session, model, picture(1))
        reused.append(evaluate(session, model, picture(1) + 0.1 * picture(2)))
    computed = model(picture(1) + 0.1 * picture(2))
    right, wrong = ((output - computed).norm() for output in reused)
    assert right < 0.5 * wrong


class WithReference(Chain):
    """The head is given the last four of six tokens, as where reference tokens come first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        vec = h.mean(1, keepdim=True)
        for block in self.blocks:
            h = block(h, vec)
        return self.outlet(h[:, 2:])


@pytest.mark.parametrize("batch", [1, 2])
def test_a_head_that_is_given_a_part_of_the_tokens(batch: int) -> None:
    model, x = WithReference(), picture(batch=batch)
    hooks: Hooks = [(block, "block", 0) for block in model.blocks]
    hooks[0] = (model.blocks[0], "first", 0)
    hooks.append((model.outlet, "final"))
    plain = model(x)
    for part, reused in (("tail", 1), ("same", 0)):
        session = session_of((SINGLE,), hooks, final_part=part)
        for _ in range(2):
            session.begin_evaluation()
            assert_same(call(session, model, x, conds=tuple(range(batch))), plain)
        assert session.statistics()["reused"] == reused
        assert bool(session.statistics()["disabled"]) == (part == "same")


@pytest.mark.parametrize("metric", ["output", "residual"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_forecast_for_a_head_that_is_given_a_part_of_the_tokens(metric: str, dtype: torch.dtype) -> None:
    """The head may be in another dtype than the trunk, too."""

    class Cast(WithReference):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.inlet(x).to(dtype)
            vec = h.mean(1, keepdim=True)
            for block in self.blocks:
                h = block(h, vec)
            return self.outlet(h[:, 2:].float())

    model = Cast()
    model.blocks.to(dtype)
    hooks: Hooks = [(block, "block", 0) for block in model.blocks]
    hooks[0] = (model.blocks[0], "first", 0)
    hooks.append((model.outlet, "final"))
    schedule = tuple(1 - step / 8 for step in range(9))
    settings = {"strategy": "forecast", "schedule": schedule, "threshold": 1e9, "max_consecutive_hits": 1}
    session = session_of((SINGLE,), hooks, metric=metric, final_part="tail", **settings)
    error = []
    for step in range(8):
        x = picture(1) + 0.05 * step * picture(2)
        out = evaluate(session, model, x, sigma=torch.tensor([schedule[step]]))
        error.append((out - model(x)).norm().item() / model(x).norm().item())
    assert session.statistics()["reused"] == 3
    assert [value == 0 for value in error] == [True, True, False, True, False, True, False, True]
    assert max(error) < 0.02


# ---- tuples of tensors -----------------------------------------------------------------------------------------------


class PairBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH // 2, WIDTH // 2)
        self.calls = 0

    def forward(self, x: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        video, audio = x
        video += 0.3 * torch.tanh(self.first(video))
        return video, audio + 0.3 * torch.tanh(self.second(audio)) + 0.01 * video.mean()


class Pairs(nn.Module):
    """Video (B, 6, WIDTH) and audio (B, 3, WIDTH / 2) in one tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PairBlock() for _ in range(3))
        self.video, self.audio = nn.Linear(8, WIDTH), nn.Linear(8, WIDTH // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pair = (self.video(x), self.audio(x[:, :3]))
        for block in self.blocks:
            pair = block(pair)
        return torch.cat((pair[0].flatten(1), pair[1].flatten(1)), 1)


@pytest.mark.parametrize("batch", [1, 2])
def test_all_tensors_of_a_tuple_are_reused(batch: int) -> None:
    model = Pairs()
    session = session_of((((("x", 0),), None, "x", "streams"),), blocks_of(model.blocks))
    x = picture(batch=batch)
    plain = model(x)
    session.begin_evaluation()
    assert torch.equal(call(session, model, x, conds=tuple(range(batch))), plain)
    session.begin_evaluation()
    assert_same(call(session, model, x, conds=tuple(range(batch))), plain)
    assert [block.calls for block in model.blocks] == [3, 2, 2]


def test_packing_keeps_structure_shape_and_dtype() -> None:
    streams = ((torch.randn(2, 3, 4), torch.randn(2, 5).bfloat16()), torch.randn(2, 1, 2, 2))
    packed = pack(streams)
    assert packed.shape == (2, 12 + 5 + 4)
    (first, second), third = unpack(packed, streams)
    assert torch.equal(first, streams[0][0])
    assert torch.equal(second, streams[0][1])
    assert second.dtype is torch.bfloat16
    assert torch.equal(third, streams[1])
