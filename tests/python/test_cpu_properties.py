"""The native CPU kernels on anything: the same bits at every level of the vector units, for any number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kernel_cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case
from operators import LOADED, needs_shim

from wavespeed import _native, expressions, operations

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs_shim

PACKAGES = Path(operations.__file__).parents[1]
CHUNK, BLOCK, LANES = 65536, 4096, 32
VECTORS = (4, 8, 16)
"""Floats in one vector of a level."""
SPECIAL = [0.0, -0.0, float("nan"), float("inf"), float("-inf"), 1e-45, -1e-45, 6e-8, 65504.0, 65520.0, 3.4028235e38]


class Worker:
    """A process with another level."""

    def __init__(self, level: str) -> None:
        environment = {**os.environ, "WAVESPEED_CPU_LEVEL": level, "PYTHONPATH": str(PACKAGES)}
        self.process = subprocess.Popen(
            [sys.executable, kernel_cases.__file__],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.level = self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def digests(self, case: Case, threads: int) -> dict[str, str]:
        assert self.process.stdin is not None
        self.process.stdin.write(kernel_cases.request(case, threads))
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        self.process.communicate(timeout=30)


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


@st.composite
def cases(draw: st.DrawFn, values: st.SearchStrategy[list[float]]) -> Case:
    edges = st.sampled_from([*VECTORS, LANES, BLOCK, CHUNK]).flatmap(lambda edge: st.integers(edge - 1, edge + 1))
    return Case(
        dtype=draw(st.sampled_from(["float32", "bfloat16", "float16"])),
        n=draw(st.one_of(st.integers(0, 3 * LANES), edges, st.integers(0, CHUNK + 1))),
        begin=draw(st.integers(0, 17)),
        step=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**31)),
        values=tuple(draw(values)),
    )


ANYTHING = st.lists(st.floats(width=32) | st.sampled_from(SPECIAL), max_size=20)


def test_the_levels_of_this_machine_are_all_asked(workers: list[Worker]) -> None:
    levels = [worker.level for worker in workers]
    assert {"scalar", _native.core.status()["cpu_kernels"]} <= set(levels)


@settings(deadline=None, max_examples=150)
@given(case=cases(ANYTHING), threads=st.integers(1, 3))
def test_every_level_and_number_of_threads_gives_the_same_bits(workers: list[Worker], case: Case, threads: int) -> None:
    expected = kernel_cases.digests(case, 1)
    assert kernel_cases.digests(case, threads) == expected
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
