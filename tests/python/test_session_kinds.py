"""Sessions for models that do not end at a head: the last block, joint streams, tuples, side modules, early exit.

Each model is small and real; a hit on the same input must give what was computed, with one block run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from block_model import SIGMA, WIDTH, DoubleBlock, Model, SingleBlock, call, evaluate, keys, picture, real_operations
from torch import nn

from wavespeed import _native, operations
from wavespeed.streams import pack, unpack

pytestmark = pytest.mark.skipif(_native.core is None, reason=_native.reason)

Hooks = list[tuple[Any, ...]]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def session_of(stages: tuple[Any, ...], hooks: Hooks, **settings: Any) -> Any:
    arguments = {
        "threshold": 0.1,
        "sigma_start": 1.0,
        "sigma_end": 0.0,
        "max_consecutive_hits": -1,
        "metric": "residual",
        "stages": stages,
        "hooks": hooks,
        "operations": real_operations(),
    }
    return _native.core.Session(**(arguments | settings))


def blocks_of(*lists: nn.ModuleList) -> Hooks:
    """first, block ..., last"""
    found: Hooks = [(block, "block", stage) for stage, blocks in enumerate(lists) for block in blocks]
    found[0] = (found[0][0], "first", 0)
    found[-1] = (found[-1][0], "last", len(lists) - 1)
    return found


def assert_same(reused: torch.Tensor, computed: torch.Tensor) -> None:
    assert torch.allclose(reused, computed, rtol=0, atol=1e-6)


# ---- the last block --------------------------------------------------------------------------------------------------

SINGLE = ((("x", 0),), None, "x")
JOINT_TAIL = ((("x", 0),), None, "x", "tensor", "tail")
DOUBLE = ((("img", 0), ("txt", 1)), ("img", "txt"), "img")


class Chain(nn.Module):
    """One list of blocks and a head in inline code, which no hook can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SingleBlock() for _ in range(4))
        self.inlet, self.outlet = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 8)
        self.control: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        vec = h.mean(1, keepdim=True)
        for block in self.blocks:
            h = block(h, vec)
            if self.control is not None:
                h += self.control
        return self.outlet(torch.tanh(h))

    def calls(self) -> list[int]:
        counted = [block.calls for block in self.blocks]
        for block in self.blocks:
            block.calls = 0
        return counted


def chain_session(model: Chain, **settings: Any) -> Any:
    return session_of((SINGLE,), blocks_of(model.blocks), **settings)


@pytest.mark.parametrize("controlled", [False, True])
def test_the_result_of_the_last_block_is_replaced(controlled: bool) -> None:
    model = Chain()
    if controlled:  # also after the last block, where it belongs to the hit as well
        model.control = 0.1 * torch.randn(1, 6, WIDTH)
    plain = model(picture())
    model.calls()
    session = chain_session(model)
    assert torch.equal(evaluate(session, model, picture()), plain)
    assert model.calls() == [1, 1, 1, 1]
    assert_same(evaluate(session, model, picture()), plain)
    assert model.calls() == [1, 0, 0, 0]


def test_a_last_block_that_is_never_called_switches_the_cache_off_unless_others_replace_blocks() -> None:
    for patched, disabled in ((False, "its last layer was never called"), (True, None)):
        model = Chain()
        session = chain_session(model)
        model.blocks = model.blocks[:3]
        session.begin_evaluation()
        assert session.open_call(keys(0), SIGMA, patched)
        model(picture())
        assert session.close_call(True) is False
        assert session.statistics()["disabled"] == disabled
        assert session.statistics()["evaluations"] == 1


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


# ---- side modules and methods ----------------------------------------------------------------------------------------


class Side(nn.Module):
    def __init__(self, result: str) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.result = result
        self.calls = 0

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        added = 0.2 * torch.tanh(self.linear(x))
        return {"argument": x + added, "zero": added, "zero_and_argument": (added, x + added), "none": added}[
            self.result
        ]


class WithSides(Chain):
    """A side module after each block, also after the last one; a head takes the end of the trunk."""

    def __init__(self, result: str) -> None:
        super().__init__()
        self.sides = nn.ModuleList(Side(result) for _ in range(4))
        self.result = result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        chained = h.clone()
        vec = h.mean(1, keepdim=True)
        for block, side in zip(self.blocks, self.sides, strict=True):
            h = block(h, vec)
            if self.result == "zero_and_argument":
                added, chained = side(chained)
                h = h + added
            elif self.result == "argument":
                h = side(h)
            else:
                added = side(h)
                h = h if added is None else h + added
        return self.outlet(h)


@pytest.mark.parametrize("result", ["argument", "zero", "zero_and_argument", "none"])
def test_side_modules_do_not_run_on_a_hit(result: str) -> None:
    model = WithSides(result)
    hooks: Hooks = [(block, "block", 0) for block in model.blocks]
    hooks[0] = (model.blocks[0], "first", 0)
    hooks += [(model.outlet, "final"), *((side, "side", 0, None, result) for side in model.sides)]
    session = session_of((SINGLE,), hooks)
    plain = model(picture())
    model.calls()
    assert torch.equal(evaluate(session, model, picture()), plain)
    counted = [side.calls for side in model.sides]
    assert_same(evaluate(session, model, picture()), plain)
    assert [side.calls for side in model.sides] == counted
    assert model.calls() == [2, 1, 1, 1]


class ByMethod(Chain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        vec = h.mean(1, keepdim=True)
        for block in self.blocks:
            h = block.generate(h, vec)
        return self.outlet(h)


class MethodBlock(SingleBlock):
    def generate(self, x: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        return super().forward(x, vec)


def test_a_method_is_hooked_instead_of_the_call_and_is_there_again_afterwards() -> None:
    model = ByMethod()
    model.blocks = nn.ModuleList(MethodBlock() for _ in range(3))
    hooks = [(*hook, "generate") for hook in blocks_of(model.blocks)]
    session = session_of((SINGLE,), hooks)
    plain = model(picture())
    model.calls()
    assert torch.equal(evaluate(session, model, picture()), plain)
    assert_same(evaluate(session, model, picture()), plain)
    assert model.calls() == [2, 1, 1]
    assert not any({"generate", "_compiled_call_impl"} & set(vars(block)) for block in model.blocks)


# ---- early exit ------------------------------------------------------------------------------------------------------


class Jumping(nn.Module):
    """Layers that change the number of channels and jump, as a UNet's do; `shrink` halves the resolution early."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(*channels, 3, padding=1) for channels in ((8, 16), (16, 16), (16, 32), (32, 16), (32, 16))
        )
        self.out = nn.Conv1d(16, 8, 1)
        self.counted = [0] * len(self.layers)
        self.shrink = False
        self.fail = False
        for number, layer in enumerate(self.layers):
            layer.register_forward_hook(lambda *_, number=number: self._count(number))

    def _count(self, number: int) -> None:
        self.counted[number] += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.tanh(self.layers[0](x))
        h = kept + torch.tanh(self.layers[1](kept))
        if self.shrink:
            h = h[..., ::2]
        skipped = h
        h = torch.tanh(self.layers[2](h))
        if self.fail:
            raise ValueError("the model's own")
        h = torch.tanh(self.layers[3](h))
        h = self.layers[4](torch.cat((h, skipped), 1))
        return self.out(h)


def exit_session(model: Jumping, **settings: Any) -> Any:
    hooks = [
        (model, "whole", 0, "_forward"),
        (model.layers[1], "entry"),
        (model.layers[2], "exit"),
        (model.out, "final"),
    ]
    return session_of((), hooks, **settings)


@pytest.mark.parametrize("metric", ["output", "residual"])
def test_a_hit_leaves_the_model_after_the_kept_layers(metric: str) -> None:
    model, x = Jumping(), torch.randn(2, 8, 12)
    plain = model(x)
    model.counted = [0] * 5
    session = exit_session(model, metric=metric)
    assert torch.equal(evaluate(session, model, x), plain)
    assert model.counted == [1] * 5
    assert_same(evaluate(session, model, x), plain)
    assert model.counted == [2, 2, 1, 1, 1]
    assert session.statistics()["reused"] == 1
    assert "_forward" not in vars(model)


def test_a_resolution_that_changes_within_the_first_block_is_computed_without_switching_off() -> None:
    model, x = Jumping(), torch.randn(1, 8, 12)
    session = exit_session(model)
    model.shrink = True
    shrunk = model(x)
    assert torch.equal(evaluate(session, model, x), shrunk)
    assert torch.equal(evaluate(session, model, x), shrunk)
    model.shrink = False
    plain = model(x)
    assert torch.equal(evaluate(session, model, x), plain)
    assert_same(evaluate(session, model, x), plain)
    statistics = session.statistics()
    assert (statistics["reused"], statistics["disabled"]) == (1, None)


def test_exceptions_of_the_model_pass_through_the_early_exit() -> None:
    model, x = Jumping(), torch.randn(1, 8, 12)
    session = exit_session(model)
    plain = evaluate(session, model, x)
    model.fail = True
    with pytest.raises(ValueError, match="the model's own"):
        evaluate(session, model, x + 5)
    model.fail = False
    assert torch.equal(evaluate(session, model, x), plain)


def test_a_layer_called_outside_of_the_model_does_not_leave_anything() -> None:
    """The exception has nowhere to go then."""
    model, x = Jumping(), torch.randn(1, 8, 12)
    session = exit_session(model)
    evaluate(session, model, x)
    session.begin_evaluation()
    assert session.open_call(keys(0), SIGMA)
    kept = torch.tanh(model.layers[0](x))
    model.layers[2](kept + torch.tanh(model.layers[1](kept)))
    assert session.close_call(True) is True  # decided as a hit that nobody used: run it again


# ---- rows, memory and calls that must be computed --------------------------------------------------------------------


class BatchLast(Chain):
    """Hidden states of the layout (T, WIDTH, B)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        vec = h.mean(1, keepdim=True)
        for block in self.blocks:
            h = block(h.permute(1, 2, 0).contiguous(), vec).permute(2, 0, 1)
        return self.outlet(h)


class BatchLastBlock(SingleBlock):
    def forward(self, x: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(2, 0, 1), vec).permute(1, 2, 0)


@pytest.mark.parametrize("batch_dim", [0, 2])
def test_conds_are_cut_along_the_dimension_of_the_batch(batch_dim: int) -> None:
    model = BatchLast()
    model.blocks = nn.ModuleList(BatchLastBlock() for _ in range(3))
    session = session_of((SINGLE,), blocks_of(model.blocks), batch_dim=batch_dim)
    x = picture(batch=2)
    session.begin_evaluation()
    computed = call(session, model, x, conds=(0, 1))
    session.begin_evaluation()  # the same pictures, one by one
    apart = torch.cat([call(session, model, x[:1], conds=(0,)), call(session, model, x[1:], conds=(1,))])
    assert_same(apart, computed)
    assert session.statistics()["reused"] == (1 if batch_dim == 2 else 0)


@pytest.mark.parametrize("strategy", ["classic", "forecast"])
def test_what_rests_in_host_memory_gives_the_same_bits(strategy: str) -> None:
    moved: list[str] = []

    def offload(tensor: torch.Tensor) -> torch.Tensor:
        moved.append("offload")
        return operations.offload(tensor)

    def fetch(stored: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        moved.append("fetch")
        return operations.fetch(stored, like)

    results = []
    for offloads in (False, True):
        model = Chain()
        model.load_state_dict(results[0][0] if results else model.state_dict())
        session = chain_session(
            model,
            threshold=0.3,
            strategy=strategy,
            schedule=tuple(1 - step / 12 for step in range(13)),
            offloads=offloads,
            operations=real_operations(offload=offload, fetch=fetch),
        )
        pictures = [
            evaluate(session, model, picture(1) + 0.02 * step * picture(2), sigma=torch.tensor([1 - step / 12]))
            for step in range(12)
        ]
        results.append((model.state_dict(), pictures, session.statistics()))
        assert bool(moved) == offloads
    assert 0 < results[0][2]["reused"] < 12
    assert results[0][2] == results[1][2]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_an_argument_that_is_empty_forbids_reuse_for_this_call() -> None:
    class Remembering(SingleBlock):
        def forward(self, x: torch.Tensor, vec: torch.Tensor, past: tuple[Any, ...] | None = None) -> torch.Tensor:
            return super().forward(x, vec)

    class WithPast(Chain):
        past: tuple[Any, ...] | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.inlet(x)
            vec = h.mean(1, keepdim=True)
            for block in self.blocks:
                h = block(h, vec, past=self.past)
            return self.outlet(h)

    model = WithPast()
    model.blocks = nn.ModuleList(Remembering() for _ in range(3))
    session = chain_session(model, empty_arguments=("past",))
    for past, calls in (
        ((), [1, 1, 1]),
        ((), [1, 1, 1]),
        ((1,), [1, 1, 1]),
        ((1,), [1, 0, 0]),
        ((), [1, 1, 1]),
        (None, [1, 0, 0]),
    ):
        model.past = past
        evaluate(session, model, picture())
        assert model.calls() == calls
    assert session.statistics()["disabled"] is None


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "hooks", "sentence"),
    [
        ((((("x", 0),), None, "x", "list"),), [], '"list" is no form of main streams'),
        ((((("x", 0),), None, "x", "tensor", "middle"),), [], '"middle" is no place of the main stream'),
        ((((("x", 0),), None, ("x", "y")),), [], "2 main streams of 1 hidden arguments"),
        ((SINGLE,), [(nn.Identity(), "second", 0)], '"second" is no role of a hook'),
        ((SINGLE,), [(nn.Identity(), "side", 0, None, "one")], '"one" is no replacement of a result'),
        ((SINGLE,), [(nn.Identity(), "block", 1)], "a hook names stage 1; the model has 1"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(stages: tuple[Any, ...], hooks: Hooks, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        session_of(stages, hooks)


def test_a_method_that_the_module_does_not_have_is_refused() -> None:
    with pytest.raises(AttributeError, match="generate"):
        session_of((SINGLE,), [(DoubleBlock(), "first", 0, "generate")])
