"""The native CPU kernels: the same bits at every level of the vector units and for any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed import _native, expressions, operations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = Path(operations.__file__).parents[1]
LOADED = operations.load(_native.core)
CHUNK, BLOCK, LANES = 65536, 4096, 32

pytestmark = pytest.mark.skipif(
    not LOADED.executor.startswith("native CPU kernels"), reason=f"no native operators here: {LOADED.executor}"
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]

# Prints the level, then the results of every operator as bits. NaN has many bit patterns, so no value is one.
RESULTS_AS_BITS = """
    import torch
    from wavespeed import _native, expressions, operations

    loaded = operations.load(_native.core)
    print(loaded.executor)
    torch.manual_seed(0)
    for n in (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 4097, 65537, 200001):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            probe, *stored = (torch.randn(n).exp().to(dtype) for _ in range(4))
            residuals = [torch.randn(n) for _ in range(3)]
            base = operations.copy_to_float32(stored[0])
            results = [loaded.distance(probe, stored[0]), loaded.moments(probe, *stored)]
            results += [loaded.finish(base, probe), base, loaded.apply(probe, residuals[0])]
            difference = torch.empty(n)
            results += [loaded.subtract(difference, *stored[:2]), difference]
            change = torch.zeros_like(expressions.new_difference(difference))
            results += [loaded.advance(difference, change, *stored[1:]), difference, change]
            loaded.extrapolate_in_place(stored[1], difference, change, change, 1.5, -0.75)
            results.append(stored[1])
            loaded.apply_in_place(probe, residuals[1])
            results.append(probe)
            print(n, dtype, [hash(result.view(torch.uint8).numpy().tobytes()) for result in results])
"""


def results_at(level: str) -> tuple[str, str]:
    """(executor, results) of a process that was asked for this level, "" being none."""
    environment = {**os.environ, "WAVESPEED_CPU_LEVEL": level, "PYTHONPATH": str(PACKAGES), "PYTHONHASHSEED": "0"}
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RESULTS_AS_BITS)],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    executor, _, results = finished.stdout.partition("\n")
    return executor, results


def processor_flags() -> set[str]:
    """What Linux says about an x86-64 processor, having asked it itself; empty elsewhere."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def expected_levels() -> list[str]:
    """Best first."""
    flags = processor_flags()
    levels = ["avx512"] if {"avx2", "f16c", "avx512f"} <= flags else []
    return levels + (["avx2"] if {"avx2", "f16c"} <= flags else []) + ["scalar"]


@pytest.mark.skipif(not processor_flags(), reason="Linux names the features of x86-64 processors only")
def test_every_level_of_this_machine_gives_the_same_bits() -> None:
    levels = expected_levels()
    executor, expected = results_at("")
    assert executor.startswith(f"native CPU kernels ({levels[0]})")
    for level in levels:
        executor, results = results_at(level)
        assert executor.startswith(f"native CPU kernels ({level})")
        assert results == expected, level


def test_a_level_that_this_machine_lacks_is_a_sentence() -> None:
    executor, _ = results_at("avx9")
    best, _ = results_at("")
    best = best.partition("(")[2].partition(")")[0]
    wanted = f"native CPU kernels ({best}; this machine has no avx9, which WAVESPEED_CPU_LEVEL asks for)"
    assert executor.startswith(wanted)


# ---- Threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def all_results(n: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(n)
    probe, *stored = (torch.randn(n).exp().to(dtype) for _ in range(4))
    residuals = [torch.randn(n) for _ in range(3)]
    base = operations.copy_to_float32(stored[0])
    difference = torch.empty(n)
    sums = [LOADED.distance(probe, stored[0]), LOADED.moments(probe, *stored), LOADED.finish(base, probe)]
    sums.append(LOADED.subtract(difference, *stored[:2]))
    change = torch.zeros_like(expressions.new_difference(difference))
    sums.append(LOADED.advance(difference, change, *stored[1:]))
    LOADED.extrapolate_in_place(stored[1], difference, change, change, 1.5, -0.75)
    applied = LOADED.apply(probe, residuals[0])
    return [*sums, base, difference, change.view(torch.int32), applied, probe, stored[1]]


@pytest.mark.usefixtures("_threads_as_before")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [3, CHUNK - 1, CHUNK + 1, 5 * CHUNK, 300 * CHUNK + 17])
def test_any_number_of_threads_gives_the_same_bits(n: int, dtype: torch.dtype) -> None:
    """The last length needs a second round of chunks (src/cpu/kernels.c)."""
    torch.set_num_threads(1)
    expected = all_results(n, dtype)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        for result, wanted in zip(all_results(n, dtype), expected, strict=True):
            assert torch.equal(result, wanted)


@pytest.mark.usefixtures("_threads_as_before")
def test_threads_that_treat_denormals_differently_give_the_same_bits() -> None:
    """Flushing belongs to the thread, and torch.set_flush_denormal() need not reach those of the pool."""
    a, b = torch.full((4 * CHUNK,), 1e-40), torch.full((4 * CHUNK,), 3e-40)
    torch.set_num_threads(2)
    expected = LOADED.distance(a, b)
    assert expected[0] > 0
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        flushing = LOADED.distance(a, b)
        torch.set_num_threads(1)
        alone = LOADED.distance(a, b)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(flushing, expected)
    assert torch.equal(alone, expected)


# ---- Memory ----------------------------------------------------------------------------------------------------------


def bytes_allocated(call: Callable[[], object]) -> int:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    return sum(max(0, event.self_cpu_memory_usage) for event in profile.events())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_is_allocated_but_the_result(dtype: torch.dtype) -> None:
    n = 3 * CHUNK + 5
    states, residuals = [torch.ones(n, dtype=dtype) for _ in range(4)], [torch.zeros(n) for _ in range(3)]
    sum_size = 8
    with torch.inference_mode():
        assert bytes_allocated(lambda: LOADED.distance(*states[:2])) == 2 * sum_size
        assert bytes_allocated(lambda: LOADED.moments(*states)) == 8 * sum_size
        assert bytes_allocated(lambda: LOADED.finish(residuals[0], states[0])) == sum_size
        assert bytes_allocated(lambda: LOADED.subtract(residuals[0], *states[:2])) == sum_size
        change = expressions.new_difference(residuals[0])
        assert bytes_allocated(lambda: LOADED.advance(residuals[0], change, *states[:2])) == sum_size
        assert bytes_allocated(lambda: LOADED.extrapolate_in_place(states[0], residuals[0], change, change, 1, 1)) == 0
        assert bytes_allocated(lambda: LOADED.apply_in_place(states[0], residuals[0])) == 0
        assert (
            n * dtype.itemsize
            <= bytes_allocated(lambda: LOADED.apply(states[0], residuals[0]))
            < n * dtype.itemsize + 64
        )


# ---- Any value -------------------------------------------------------------------------------------------------------

FINITE = st.floats(-60000, 60000, width=32) | st.floats(-(2.0**-120), 2.0**-120, width=32)
ANY = st.floats(width=32) | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e-45, 6e-8])


@st.composite
def flat_views(draw: st.DrawFn, values: st.SearchStrategy[float] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tensors of one length and dtype that begin at any element and may have a stride.

    They repeat a few drawn values; without any, they are as random as hidden states are.
    """
    dtype = draw(st.sampled_from(DTYPES))
    edges = st.sampled_from([LANES, BLOCK, CHUNK]).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
    n = draw(st.one_of(st.integers(0, 3 * LANES), edges, st.integers(0, CHUNK + 1)))
    step = draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def view() -> torch.Tensor:
        begin = draw(st.integers(0, 17))
        whole = torch.zeros(begin + n * step, dtype=dtype)
        if values is None:
            return whole[begin::step].copy_(torch.randn(n, generator=generator))
        pattern = torch.tensor(draw(st.lists(values, min_size=1, max_size=20)))
        return whole[begin::step].copy_(pattern.repeat(n // len(pattern) + 1)[:n])

    return view(), view()


def assert_sums(operands: tuple[torch.Tensor, torch.Tensor], rtol: float) -> None:
    a, b = (tensor.double() for tensor in operands)
    expected = torch.stack(((a - b).abs().sum(), b.abs().sum()))
    torch.testing.assert_close(LOADED.distance(*operands), expected, rtol=rtol, atol=0)


@settings(deadline=None, max_examples=150)
@given(operands=flat_views(None))
def test_sums_of_hidden_states_agree_with_float64(operands: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert_sums(operands, rtol=1e-6)


@settings(deadline=None, max_examples=150)
@given(operands=flat_views(FINITE))
def test_sums_of_repeated_values_are_as_good_as_float32_allows(operands: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Where all additions of a lane round the same way: one rounding for each that a lane makes between two folds."""
    assert_sums(operands, rtol=BLOCK / LANES * 2.0**-24)


@settings(deadline=None, max_examples=150)
@given(operands=flat_views(ANY))
def test_what_is_not_finite_reaches_the_sums(operands: tuple[torch.Tensor, torch.Tensor]) -> None:
    difference, reference = LOADED.distance(*operands)
    a, b = (tensor.float() for tensor in operands)
    assert difference.isnan() == (a - b).isnan().any()
    assert reference.isnan() == b.isnan().any()
    assert difference.isfinite() or not (a - b).abs().double().sum().item() < 1e38
    assert reference.isfinite() or not b.abs().double().sum().item() < 1e38


@settings(deadline=None, max_examples=150)
@given(operands=flat_views(ANY))
def test_finish_and_apply_round_as_torch_does(operands: tuple[torch.Tensor, torch.Tensor]) -> None:
    first, end = operands
    residual = operations.copy_to_float32(first)
    subtracted = torch.empty_like(residual)
    total, same_total = LOADED.finish(residual, end), LOADED.subtract(subtracted, first, end)
    torch.testing.assert_close(subtracted, residual, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(same_total, total, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(residual, end.float() - first.float(), rtol=0, atol=0, equal_nan=True)
    expected = (first.float() + residual).to(first.dtype)
    torch.testing.assert_close(LOADED.apply(first, residual), expected, rtol=0, atol=0, equal_nan=True)
    LOADED.apply_in_place(first, residual)
    torch.testing.assert_close(first, expected, rtol=0, atol=0, equal_nan=True, check_stride=False)
