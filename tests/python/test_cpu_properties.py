"""The native CPU kernels on anything: the same bits at every level of the vector units, for any number of threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kernel_cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_levels import ANYTHING, Worker, cases
from operators import LOADED, needs_shim

from wavespeed import _native, expressions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel_cases import Case

pytestmark = needs_shim


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    """One for each level of this machine; a level that it lacks gives one that others have as well."""
    found = [Worker(level) for level in ("scalar", "avx2", "avx512", "neon")]
    yield list({worker.level: worker for worker in found}.values())
    for worker in found:
        worker.end()


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_levels_of_this_machine_are_all_asked(workers: list[Worker]) -> None:
    levels = [worker.level for worker in workers]
    assert {"scalar", _native.core.status()["cpu_kernels"]} <= set(levels)


@settings(deadline=None, max_examples=150)
@given(case=cases(ANYTHING), threads=st.integers(1, 3))
def test_every_level_and_number_of_threads_gives_the_same_bits(workers: list[Worker], case: Case, threads: int) -> None:
    torch.set_num_threads(1)
    expected = kernel_cases.digests(LOADED, case)
    torch.set_num_threads(threads)
    assert kernel_cases.digests(LOADED, case) == expected
    for worker in workers:
        assert worker.digests(case, threads) == expected, worker.level


@settings(deadline=None, max_examples=150)
@given(case=cases(st.just([])), threads=st.integers(1, 3))
def test_moments_and_differences_agree_with_float64(case: Case, threads: int) -> None:
    """Products of either sign cancel, so their error is relative to what was added."""
    torch.set_num_threads(threads)
    states = kernel_cases.operands(case, 4, getattr(torch, case.dtype))
    probe, newest, middle, oldest = (state.double() for state in states)
    e, d1, d2 = probe - newest, newest - middle, middle - oldest
    parts = (e.abs(), newest.abs(), e * e, e * d1, e * d2, d1 * d1, d1 * d2, d2 * d2)
    expected = torch.stack([part.sum() for part in parts])
    scale = (e * e + d1 * d1 + d2 * d2).sum().item()
    torch.testing.assert_close(LOADED.moments(*states), expected, rtol=1e-6, atol=1e-6 * scale)
    residual = torch.zeros(case.n)
    total = LOADED.subtract(residual, *states[:2])
    torch.testing.assert_close(residual, states[1].float() - states[0].float(), rtol=0, atol=0)
    torch.testing.assert_close(total, residual.double().abs().sum().reshape(1), rtol=1e-6, atol=0)


@settings(deadline=None, max_examples=100)
@given(case=cases(ANYTHING))
def test_extrapolating_rounds_as_torch_does(case: Case) -> None:
    (hidden,) = kernel_cases.operands(case, 1, getattr(torch, case.dtype))
    residual, newer, older = kernel_cases.operands(case, 3, torch.float32)
    differences = [expressions.new_difference(residual) for _ in range(2)]
    for difference, change in zip(differences, (newer, older), strict=True):
        LOADED.advance(torch.zeros(case.n), difference, torch.zeros(case.n), change)
    expected = expressions.extrapolate_residual(hidden, residual, *differences, 1.5, -0.75)
    LOADED.extrapolate_in_place(hidden, residual, *differences, 1.5, -0.75)
    torch.testing.assert_close(hidden, expected, rtol=0, atol=0, equal_nan=True, check_stride=False)
