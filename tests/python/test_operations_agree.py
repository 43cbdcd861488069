"""Kernels and expressions on any states: the state comes back, both agree, NaN, infinity and rounding."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import DTYPES, EXPRESSIONS, LOADED, dtypes, executors, needs_shim

from wavespeed import expressions, operations

pytestmark = pytest.mark.usefixtures("seeded")


@st.composite
def stored_and_current(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Two hidden states whose magnitudes lie between 2**-6 and 2**6, as views of any order and step."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    step = draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def state() -> torch.Tensor:
        whole = torch.zeros([*shape[:-1], shape[-1] * step], dtype=dtype)
        view = whole[..., ::step].permute(order)
        exponents = torch.empty(view.shape).uniform_(-6, 6, generator=generator)
        signs = torch.randint(0, 2, view.shape, generator=generator) * 2 - 1
        return view.copy_(exponents.exp2() * signs)

    return state(), state()


@executors
@settings(deadline=None, max_examples=200)
@given(states=stored_and_current())
def test_a_hit_with_unchanged_input_gives_the_computed_state(
    executor: Any, states: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """To the bit in 16 bits, as long as no element shrinks to less than 2**-13 of itself; in fp32 to its rounding."""
    first, end = states
    largest = torch.cat((first.flatten(), end.flatten(), torch.ones(1))).abs().max().item()
    residual = operations.copy_to_float32(first)
    total = executor.finish(residual, end)
    torch.testing.assert_close(total.item(), (end.double() - first.double()).abs().sum().item(), rtol=1e-6, atol=0)
    again = executor.apply(first, residual)
    executor.apply_in_place(first, residual)
    assert torch.equal(first, again)
    if end.dtype is torch.float32:
        torch.testing.assert_close(again, end, rtol=0, atol=1e-6 * largest, check_stride=False)
    else:
        assert torch.equal(again, end)


@needs_shim
def test_executors_round_changes_alike_that_lie_between_two_values() -> None:
    """Half of the largest change of a group is 63.5 steps, where the last bit of a factor decides."""
    largest = torch.arange(1.0, 2000.0)
    change = torch.zeros(len(largest), expressions.DIFFERENCE_GROUP)
    change[:, 0], change[:, 1] = largest, largest / 2
    packed = []
    for executor in (LOADED, EXPRESSIONS):
        difference = torch.zeros_like(expressions.new_difference(change))
        executor.advance(torch.zeros_like(change), difference, torch.zeros_like(change), change)
        packed.append(difference.view(torch.int8))
    assert torch.equal(*packed)


@needs_shim
@settings(deadline=None, max_examples=200)
@given(states=stored_and_current())
def test_executors_agree(states: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = states
    torch.testing.assert_close(LOADED.distance(a, b), EXPRESSIONS.distance(a, b), rtol=1e-6, atol=0)
    native, expressed = operations.copy_to_float32(a), operations.copy_to_float32(a)
    torch.testing.assert_close(LOADED.finish(native, b), EXPRESSIONS.finish(expressed, b), rtol=1e-6, atol=0)
    assert torch.equal(native, expressed)
    again = torch.empty_like(native)
    torch.testing.assert_close(LOADED.subtract(again, a, b), EXPRESSIONS.subtract(expressed, a, b), rtol=1e-6, atol=0)
    assert torch.equal(again, native)
    assert torch.equal(again, expressed)
    changes = []
    for executor in (LOADED, EXPRESSIONS):
        residual, change = 0.5 * native, expressions.new_difference(native)
        total = executor.advance(residual, change, b, a)
        torch.testing.assert_close(total, executor.finish(residual, torch.zeros_like(residual)), rtol=1e-6, atol=0)
        executor.extrapolate_in_place(residual, native, change, change, 1.5, -0.25)
        groups = len(change) - (residual.numel() + 3) // 4
        changes.append((residual, change[:groups], change[groups:].view(torch.int8)[: residual.numel()]))
    for ours, theirs in zip(*changes, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(LOADED.apply(b, native), EXPRESSIONS.apply(b, native))


@executors
@dtypes
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_reach_the_sums(executor: Any, dtype: torch.dtype, value: float) -> None:
    plain, bad = torch.ones(3, 40, dtype=dtype), torch.ones(3, 40, dtype=dtype)
    bad[1, 17] = value
    expected = torch.tensor(value).abs().item()

    def is_expected(sums: torch.Tensor) -> list[bool]:
        return [total == expected or (math.isnan(total) and math.isnan(expected)) for total in sums.tolist()]

    assert is_expected(executor.distance(bad, plain)) == [True, False]
    assert is_expected(executor.distance(plain, bad)) == [True, True]
    assert executor.distance(bad, bad)[0].isnan()
    assert is_expected(executor.finish(torch.ones(3, 40), bad)) == [True]
    assert torch.equal(executor.apply(bad, torch.ones(3, 40)).isfinite(), bad.isfinite())


@executors
@dtypes
def test_rounding_is_to_nearest_even_and_done_once(executor: Any, dtype: torch.dtype) -> None:
    step = torch.finfo(dtype).eps
    hidden = torch.tensor([1.0, 1.0 + step, 1.0, torch.finfo(dtype).max], dtype=dtype)
    residual = torch.tensor([step / 2, step / 2, step / 2 * (1 + 2**-10), torch.finfo(dtype).max])
    expected = torch.tensor([1.0, 1.0 + 2 * step, 1.0 + step, float("inf")], dtype=dtype)
    if dtype is torch.float32:
        hidden, residual, expected = (tensor[[0, 1, 3]] for tensor in (hidden, residual, expected))
    assert torch.equal(executor.apply(hidden, residual), expected)
