"""Sessions for models whose trunk ends at the last block, with side modules, and by methods; rows, memory, bad input.

Each model is small and real; a hit on the same input must give what was computed, with one block run.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_model import SIGMA, SINGLE, WIDTH, DoubleBlock, SingleBlock, call, evaluate, keys, picture, real_operations
from chain_model import Chain, Hooks, assert_same, blocks_of, chain_session, session_of
from torch import nn

from wavespeed import _native, operations

pytestmark = [
    pytest.mark.skipif(_native.core is None, reason=_native.reason),
    pytest.mark.usefixtures("no_gradients"),
]


# ---- the last block --------------------------------------------------------------------------------------------------


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
