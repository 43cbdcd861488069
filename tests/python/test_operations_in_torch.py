"""The operators as torch's: refusals, compiling, fake and other devices, and what stands beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from operators import (
    DTYPES,
    LAYOUTS,
    LOADED,
    cast,
    difference_of,
    distance_in_float64,
    dtypes,
    executors,
    needs_shim,
    numbers,
)

from wavespeed import _native, expressions, operations

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("seeded")


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
