"""The values of each operator: kernels and expressions against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operators import (
    EXPRESSIONS,
    LAYOUTS,
    cast,
    difference_of,
    distance_in_float64,
    dtypes,
    executors,
    in_float64,
    layouts,
    numbers,
)

from wavespeed import expressions, operations
from wavespeed.difference import DIFFERENCE_GROUP

pytestmark = pytest.mark.usefixtures("seeded")


@executors
@dtypes
@layouts
def test_distance(executor: Any, dtype: torch.dtype, layout: str) -> None:
    a, b = (cast(LAYOUTS[layout](), dtype) for _ in range(2))
    sums = executor.distance(a, b)
    assert sums.shape == (2,)
    assert sums.dtype is torch.float64
    torch.testing.assert_close(sums, distance_in_float64(a, b), rtol=1e-6, atol=0)


@executors
@dtypes
@layouts
def test_finish(executor: Any, dtype: torch.dtype, layout: str) -> None:
    base, end = LAYOUTS[layout](), cast(LAYOUTS[layout](), dtype)
    residual = end.float() - base
    strides, memory = base.stride(), base.data_ptr()
    total = executor.finish(base, end)
    assert torch.equal(base, residual)
    assert (base.stride(), base.data_ptr()) == (strides, memory)
    assert total.shape == (1,)
    assert total.dtype is torch.float64
    torch.testing.assert_close(total, residual.double().abs().sum().reshape(1), rtol=1e-6, atol=0)


@executors
@dtypes
@layouts
def test_subtract(executor: Any, dtype: torch.dtype, layout: str) -> None:
    start, end, residual = cast(LAYOUTS[layout](), dtype), cast(LAYOUTS[layout](), dtype), LAYOUTS[layout]()
    expected = end.float() - start.float()
    strides, memory = residual.stride(), residual.data_ptr()
    total = executor.subtract(residual, start, end)
    assert torch.equal(residual, expected)
    assert (residual.stride(), residual.data_ptr()) == (strides, memory)
    assert total.shape == (1,)
    assert total.dtype is torch.float64
    torch.testing.assert_close(total, expected.double().abs().sum().reshape(1), rtol=1e-6, atol=0)
    base = operations.copy_to_float32(start)
    torch.testing.assert_close(executor.finish(base, end), total, rtol=1e-6, atol=0)
    assert torch.equal(base, expected)


@executors
@dtypes
@layouts
def test_apply(executor: Any, dtype: torch.dtype, layout: str) -> None:
    hidden, residual = cast(LAYOUTS[layout](), dtype), LAYOUTS[layout]()
    before = hidden.clone()
    result = executor.apply(hidden, residual)
    assert torch.equal(result, (before.float() + residual).to(dtype))
    assert result.dtype is dtype
    assert result.is_contiguous()
    assert torch.equal(hidden, before)


@executors
@dtypes
@layouts
def test_apply_in_place(executor: Any, dtype: torch.dtype, layout: str) -> None:
    hidden, residual = cast(LAYOUTS[layout](), dtype), LAYOUTS[layout]()
    expected = (hidden.float() + residual).to(dtype)
    memory = hidden.data_ptr()
    assert executor.apply_in_place(hidden, residual) is None
    assert torch.equal(hidden, expected)
    assert hidden.data_ptr() == memory


@executors
@dtypes
@layouts
def test_moments(executor: Any, dtype: torch.dtype, layout: str) -> None:
    probe, *stored = (cast(LAYOUTS[layout](), dtype) for _ in range(4))
    sums = executor.moments(probe, *stored)
    newest, middle, oldest = (state.double() for state in stored)
    e, d1, d2 = probe.double() - newest, newest - middle, middle - oldest
    expected = torch.stack(
        [part.sum() for part in (e.abs(), newest.abs(), e * e, e * d1, e * d2, d1 * d1, d1 * d2, d2 * d2)]
    )
    assert sums.shape == (8,)
    assert sums.dtype is torch.float64
    torch.testing.assert_close(sums[:2], executor.distance(probe, stored[0]), rtol=1e-6, atol=0)
    # Products of either sign cancel; the error is relative to their magnitudes.
    scale = (e * e + d1 * d1 + d2 * d2).sum().item()
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=1e-6 * scale)


@executors
@dtypes
@layouts
def test_advance(executor: Any, dtype: torch.dtype, layout: str) -> None:
    residual, start, end = LAYOUTS[layout](), cast(LAYOUTS[layout](), dtype), cast(LAYOUTS[layout](), dtype)
    before, memory = residual.clone(), residual.data_ptr()
    difference = expressions.new_difference(residual)
    total = executor.advance(residual, difference, start, end)
    assert residual.data_ptr() == memory
    assert torch.equal(residual, end.float() - start.float())
    assert total.shape == (1,)
    assert total.dtype is torch.float64
    torch.testing.assert_close(total, residual.double().abs().sum().reshape(1), rtol=1e-6, atol=0)
    change = residual.double() - before.double()
    if residual.numel():
        half_a_step = change.abs().max().item() / 127 / 2
        rounded = in_float64(difference, residual.shape)
        torch.testing.assert_close(rounded, change.contiguous(), rtol=0, atol=1.001 * half_a_step)


@executors
@dtypes
@layouts
def test_extrapolate(executor: Any, dtype: torch.dtype, layout: str) -> None:
    hidden, residual = cast(LAYOUTS[layout](), dtype), LAYOUTS[layout]()
    newer, older = (difference_of(LAYOUTS[layout](), LAYOUTS[layout]()) for _ in range(2))
    reused, newest_alone = hidden.clone(), hidden.clone()
    executor.apply_in_place(reused, residual)
    assert executor.extrapolate_in_place(newest_alone, residual, newer, older, 0.0, 0.0) is None
    assert torch.equal(newest_alone, reused)
    exact = hidden.double() + residual.double()
    exact += 1.75 * in_float64(newer, exact.shape) - 0.625 * in_float64(older, exact.shape)
    memory, before = hidden.data_ptr(), hidden.clone()
    result = executor.extrapolate(hidden, residual, newer, older, 1.75, -0.625)
    assert torch.equal(hidden, before)
    executor.extrapolate_in_place(hidden, residual, newer, older, 1.75, -0.625)
    assert hidden.data_ptr() == memory
    assert torch.equal(result, hidden)
    assert result.dtype is dtype
    assert result.is_contiguous()
    rounding = {torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}[dtype]
    torch.testing.assert_close(hidden.double(), exact, rtol=rounding, atol=1e-5, check_stride=False)


@dtypes
def test_expressions_go_through_large_differences_in_parts(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 7 * DIFFERENCE_GROUP + 3
    hidden, start, end = (numbers(n).to(dtype) for _ in range(3))
    results = []
    for part in (expressions.PART, 2 * DIFFERENCE_GROUP):
        monkeypatch.setattr(expressions, "PART", part)
        residual, difference = torch.ones(n), torch.zeros_like(expressions.new_difference(hidden))
        total = EXPRESSIONS.advance(residual, difference, start, end)
        extrapolated = EXPRESSIONS.extrapolate(hidden, residual, difference, difference, 1.5, -0.25)
        results.append((total, residual, difference.view(torch.int32), extrapolated))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-6, atol=0)
    for in_parts, at_once in zip(results[1][1:], results[0][1:], strict=True):
        assert torch.equal(in_parts, at_once)


@executors
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_difference_that_is_not_finite_is_nan_in_its_group_only(executor: Any, value: float) -> None:
    n = 3 * DIFFERENCE_GROUP + 5
    end, residual = numbers(n), torch.zeros(n)
    end[DIFFERENCE_GROUP] = value
    difference = expressions.new_difference(residual)
    assert not executor.advance(residual, difference, torch.zeros(n), end).isfinite()
    assert difference[:4].isnan().tolist() == [False, True, False, False]


@executors
def test_only_the_view_is_written(executor: Any) -> None:
    whole = torch.zeros(4, 6)
    executor.apply_in_place(whole[1:3, 2:4], torch.ones(2, 2))
    executor.finish(whole[:, 5:], torch.full((4, 1), 2.0))
    executor.advance(
        whole[:1, :2], expressions.new_difference(whole[:1, :2]), torch.ones(1, 2), torch.full((1, 2), 4.0)
    )
    expected = torch.zeros(4, 6)
    expected[1:3, 2:4] = 1
    expected[:, 5] = 2
    expected[0, :2] = 3
    assert torch.equal(whole, expected)


@executors
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_float64(executor: Any, layout: str) -> None:
    """ComfyUI has --fp64-unet. The native kernels round to float32 first."""
    a, b = (cast(LAYOUTS[layout](), torch.float64) for _ in range(2))
    torch.testing.assert_close(executor.distance(a, b), distance_in_float64(a, b), rtol=1e-6, atol=0)
    base = operations.copy_to_float32(a)
    executor.finish(base, b)
    from_states = torch.empty_like(base)
    executor.subtract(from_states, a, b)
    torch.testing.assert_close(from_states, base, rtol=0, atol=1e-6)
    executor.advance(from_states, expressions.new_difference(base), b, a)
    torch.testing.assert_close(from_states, -base, rtol=0, atol=1e-6)
    change = difference_of(base, base)
    assert torch.equal(executor.extrapolate(a, base, change, change, 1.0, 1.0), executor.apply(a, base))
    assert executor.apply(a, base).dtype is torch.float64
    torch.testing.assert_close(executor.apply(a, base), b.contiguous(), rtol=0, atol=1e-6)
    executor.apply_in_place(a, base)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
