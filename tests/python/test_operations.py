"""The operators of the cache: kernels and expressions against float64."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from operators import LOADED, needs_shim

from wavespeed import _native, expressions, operations
from wavespeed.difference import DIFFERENCE_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(operations.__file__).parent

EXPRESSIONS = SimpleNamespace(**{operator.member: operator.expression for operator in operations.OPERATORS})
EXECUTORS = [pytest.param(LOADED, id="native", marks=needs_shim), pytest.param(EXPRESSIONS, id="expressions")]

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "contiguous": lambda: numbers(2, 5, 8),
    "transposed": lambda: numbers(2, 8, 5).transpose(1, 2),
    "sliced": lambda: numbers(2, 9, 8)[:, 4:],
    "every second": lambda: numbers(4, 16)[:, ::2],
    "channels last": lambda: numbers(2, 4, 3, 5).contiguous(memory_format=torch.channels_last),
    "more than a chunk": lambda: numbers(3, 70000),
    "no rows": lambda: numbers(0, 8),
    "no columns": lambda: numbers(8, 0),
    "scalar": lambda: numbers(),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
executors = pytest.mark.parametrize("executor", EXECUTORS)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Keeps the strides of slices, which Tensor.to() would not."""
    whole = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype)
    return whole.copy_(tensor)


def distance_in_float64(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.double(), b.double()
    return torch.stack(((a - b).abs().sum(), b.abs().sum()))


# ---- Values ----------------------------------------------------------------------------------------------------------


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


def difference_of(newer: torch.Tensor, older: torch.Tensor) -> torch.Tensor:
    """newer - older in 8 bits."""
    difference = expressions.new_difference(newer)
    EXPRESSIONS.advance(older.clone(), difference, torch.zeros_like(newer), newer)
    return difference


def in_float64(difference: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    n = math.prod(shape)
    groups = -(-n // DIFFERENCE_GROUP)
    scales = difference[:groups].double().repeat_interleave(DIFFERENCE_GROUP)[:n]
    return (difference[groups:].view(torch.int8)[:n] * scales).view(shape)


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


# ---- Refusals --------------------------------------------------------------------------------------------------------


@executors
def test_what_does_not_fit_is_refused_with_a_sentence(executor: Any) -> None:
    row, longer, half, whole = torch.ones(3), torch.ones(4), torch.ones(3).half(), torch.ones(3, dtype=torch.int32)
    shape = r"both tensors must have the same shape, and these have \(3,?\) and \(4,?\)\.$"
    for operator in (executor.distance, executor.finish, executor.apply, executor.apply_in_place):
        with pytest.raises(RuntimeError, match=shape):
            operator(row, longer)
        with pytest.raises(RuntimeError, match=r"must be|must have"):
            operator(whole, whole)
    with pytest.raises(RuntimeError, match=r"both tensors must have the same dtype, and these .*\.$"):
        executor.distance(row, half)
    with pytest.raises(RuntimeError, match=shape):
        executor.subtract(row, row, longer)
    with pytest.raises(RuntimeError, match=shape):
        executor.subtract(row, longer, longer)
    with pytest.raises(RuntimeError, match=r"both states must have the same dtype, and these .*\.$"):
        executor.subtract(row, row, half)
    with pytest.raises(RuntimeError, match=r"the tensor 'residual' must be float32, and it .*\.$"):
        executor.subtract(half, half, half)
    size = r"a difference of this tensor has the shape \(2,?\), and this one has \(3,?\)\.$"
    with pytest.raises(RuntimeError, match=size):
        executor.advance(row, row.clone(), row, row)
    with pytest.raises(RuntimeError, match=size):
        executor.extrapolate_in_place(row, row, expressions.new_difference(row), row, 0.0, 0.0)
    with pytest.raises(RuntimeError, match=shape):
        executor.extrapolate(row, longer, *[expressions.new_difference(row)] * 2, 0.0, 0.0)
    with pytest.raises(RuntimeError, match=size.replace("3", "2, 1")):
        executor.advance(row, torch.ones(2, 1), row, row)
    with pytest.raises(RuntimeError, match=r"the tensor 'difference' must be float32, and it .*\.$"):
        executor.advance(row, half, row, row)
    with pytest.raises(RuntimeError, match=r"both states must have the same dtype, and these .*\.$"):
        executor.advance(row, expressions.new_difference(row), row, half)
    with pytest.raises(RuntimeError, match=r"the tensor 'base' must be float32, and it .*\.$"):
        executor.finish(half, row)
    for operator in (executor.apply, executor.apply_in_place):
        with pytest.raises(RuntimeError, match=r"the tensor 'residual' must be float32, and it .*\.$"):
            operator(row, half)


@needs_shim
def test_refusals_do_not_show_where_the_shim_was_built() -> None:
    with pytest.raises(RuntimeError) as refusal:
        LOADED.distance(torch.ones(3), torch.ones(4))
    assert "src/torch/shim.cpp" in str(refusal.value)
    assert str(REPOSITORY) not in str(refusal.value)


# ---- torch's machinery -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "distance",
        "finish",
        "apply",
        "apply_in_place",
        "moments",
        "subtract",
        "advance",
        "extrapolate",
        "extrapolate_in_place",
    ],
)
@dtypes
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "more than a chunk"])
def test_opcheck(name: str, dtype: torch.dtype, layout: str) -> None:
    wide, narrow = LAYOUTS[layout](), cast(LAYOUTS[layout](), dtype)
    arguments = {
        "distance": (cast(LAYOUTS[layout](), dtype), narrow),
        "finish": (wide, narrow),
        "apply": (narrow, wide),
        "apply_in_place": (narrow, wide),
        "moments": tuple(cast(LAYOUTS[layout](), dtype) for _ in range(4)),
        "subtract": (wide, narrow, cast(LAYOUTS[layout](), dtype)),
        "advance": (wide, expressions.new_difference(wide), narrow, cast(LAYOUTS[layout](), dtype)),
        "extrapolate_in_place": (narrow, wide, *(difference_of(LAYOUTS[layout](), wide) for _ in range(2)), 1.5, -0.25),
    }
    arguments["extrapolate"] = arguments["extrapolate_in_place"]
    torch.library.opcheck(getattr(LOADED, name), arguments[name])


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_graph_break(dynamic: bool) -> None:
    def cached_step(hidden: torch.Tensor, stored: torch.Tensor) -> tuple[torch.Tensor, ...]:
        base = stored.to(torch.float32, copy=True)
        total = torch.ops.wavespeed.finish_residual_(base, hidden)
        result = torch.ops.wavespeed.apply_residual(hidden, base)
        torch.ops.wavespeed.apply_residual_(hidden, base)
        moments = torch.ops.wavespeed.residual_moments(hidden, result, stored, hidden)
        again = torch.ops.wavespeed.subtract_states_(base, stored, hidden)
        difference = expressions.new_difference(base)
        changed = torch.ops.wavespeed.advance_residual_(base, difference, hidden, result)
        result = torch.ops.wavespeed.extrapolate_residual(result, base, difference, difference, 0.5, 0.25)
        torch.ops.wavespeed.extrapolate_residual_(hidden, base, difference, difference, 1.5, -0.25)
        return torch.ops.wavespeed.residual_distance(result, stored), moments, total, result, again, changed, base

    compiled = torch.compile(cached_step, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    with torch.inference_mode():
        for rows in (3, 4, 7):
            hidden, stored = numbers(rows, 8), numbers(rows, 8)
            expected_hidden = hidden.clone()
            expected = cached_step(expected_hidden, stored)
            for actual, wanted in zip(compiled(hidden, stored), expected, strict=True):
                assert torch.equal(actual, wanted)
            assert torch.equal(hidden, expected_hidden)
    torch._dynamo.reset()


def test_meta_device() -> None:
    tensor = torch.empty(2, 3, device="meta")
    assert LOADED.distance(tensor, tensor).shape == (2,)
    assert LOADED.finish(tensor, tensor).shape == (1,)
    assert LOADED.subtract(tensor, tensor, tensor).shape == (1,)
    difference = expressions.new_difference(tensor)
    assert LOADED.advance(tensor, difference, tensor, tensor).shape == (1,)
    assert LOADED.extrapolate(tensor, tensor, difference, difference, 1.0, 1.0).shape == (2, 3)
    assert LOADED.apply(tensor, tensor).shape == (2, 3)
    with pytest.raises(RuntimeError, match="same shape"):
        LOADED.apply(tensor, torch.empty(3, device="meta"))


@executors
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_without_gradients(executor: Any, mode: Callable[[], Any]) -> None:
    weight = torch.ones(3, requires_grad=True)
    with mode():
        hidden = weight * 2
        base = operations.copy_to_float32(hidden)
        executor.finish(base, hidden + 1)
        executor.apply_in_place(hidden, base)
        assert executor.apply(hidden, base).tolist() == [4.0, 4.0, 4.0]
        assert executor.distance(hidden, base).tolist() == [6.0, 3.0]


def test_sums_are_float64_only_where_the_device_has_it() -> None:
    wanted = {"cpu": torch.float64, "cuda": torch.float64, "mps": torch.float32, "xpu": torch.float32}
    assert {name: expressions.sum_dtype(torch.device(name)) for name in wanted} == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device that torch can use")
@dtypes
def test_cuda(dtype: torch.dtype) -> None:
    a, b, wide = numbers(7, 5).to(dtype).cuda(), numbers(7, 5).to(dtype).cuda(), numbers(7, 5).cuda()
    sums, total = LOADED.distance(a, b), LOADED.finish(operations.copy_to_float32(a), b)
    expected = [*distance_in_float64(a, b).tolist(), (b.double() - a.double()).abs().sum().item(), 0.5]
    assert LOADED.read([sums, total, torch.tensor([0.5], device="cuda")]) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(LOADED.apply(a, wide), (a.float() + wide).to(dtype))
    expected_state = (a.float() + wide).to(dtype)
    LOADED.apply_in_place(a, wide)
    assert torch.equal(a, expected_state)


# ---- Beside the operators --------------------------------------------------------------------------------------------


def test_read() -> None:
    tensors = [torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([3.0]), torch.tensor([0.5]).bfloat16()]
    assert LOADED.read(tensors) == [1.0, 2.0, 3.0, 0.5]
    assert LOADED.read([]) == []


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels last"])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64], ids=str)
def test_copy_to_float32(dtype: torch.dtype, layout: str) -> None:
    hidden = cast(LAYOUTS[layout](), dtype)
    copy = LOADED.copy_to_float32(hidden)
    assert copy.dtype is torch.float32
    assert copy.is_contiguous()
    assert copy.data_ptr() != hidden.data_ptr()
    assert torch.equal(copy, hidden.float())


def test_operations_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        LOADED.executor = "something else"
    assert issubclass(LOADED.out_of_memory, RuntimeError)
    assert operations.load(_native.core) is LOADED
