"""The level of 64-bit ARM, on an emulated processor: the bits of the portable level on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kernel_cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Case
from kernel_levels import ANYTHING, BLOCK, CHUNK, LANES, SPECIAL, Worker, cases
from operators import needs_shim

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("ziglang", reason="ziglang, the compiler for ARM, is not installed")
pytest.importorskip("unicorn", reason="unicorn, the emulated processor, is not installed")

import emulated_arm
from emulated_arm import EmulatedKernels

pytestmark = needs_shim

WIDTH = 4
"""Floats in one vector of NEON."""
GROUP = 512
LENGTHS = [0, *(edge + i for edge in (1, WIDTH, LANES, GROUP, BLOCK, CHUNK) for i in (-1, 0, 1) if edge + i > 0)]


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> list[EmulatedKernels]:
    """Best first."""
    program = emulated_arm.build_program(tmp_path_factory.mktemp("arm"))
    return [EmulatedKernels(program, level) for level in range(2)]


@pytest.fixture(scope="module")
def portable() -> Iterator[Worker]:
    worker = Worker("scalar")
    yield worker
    worker.end()


@pytest.fixture(autouse=True)
def _control_as_after_a_start(levels: list[EmulatedKernels]) -> None:
    for level in levels:
        level.control = 0


def test_arm_has_neon_and_the_portable_level(levels: list[EmulatedKernels], portable: Worker) -> None:
    assert [level.level for level in levels] == ["neon", "scalar"]
    assert portable.level == "scalar"


@pytest.mark.parametrize("values", [(), tuple(SPECIAL)], ids=["random", "special"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_length_at_an_edge_has_the_bits_of_the_portable_level(
    levels: list[EmulatedKernels], portable: Worker, dtype: str, values: tuple[float, ...]
) -> None:
    for begin, n in enumerate(LENGTHS):
        case = Case(dtype, n, begin, step=1, seed=n, values=values)
        expected = portable.digests(case, 1)
        for level in levels:
            assert kernel_cases.digests(level, case) == expected, (level.level, n)


@settings(deadline=None, max_examples=150)
@given(
    case=cases(ANYTHING),
    control=st.sampled_from([0, emulated_arm.FLUSH_DENORMALS, emulated_arm.FLUSH_DENORMALS | emulated_arm.ROUND_UP]),
)
def test_anything_has_the_bits_of_the_portable_level(
    levels: list[EmulatedKernels], portable: Worker, case: Case, control: int
) -> None:
    """Also in threads that flush denormals or round in another way."""
    expected = portable.digests(case, 1)
    for level in levels:
        level.control = control
        assert kernel_cases.digests(level, case) == expected, level.level


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("lowest", [0x0000, 0x0001, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_every_number_is_rounded_as_torch_does(levels: list[EmulatedKernels], dtype: torch.dtype, lowest: int) -> None:
    """Every upper half of an fp32 number with the lower halves that decide how it is rounded."""
    upper = torch.arange(-0x8000, 0x8000, dtype=torch.int32) << 16
    numbers = (upper | lowest).view(torch.float32)
    zero = torch.zeros(len(numbers), dtype=dtype)
    expected = (numbers + 0.0).to(dtype)
    for level in levels:
        torch.testing.assert_close(level.apply(zero, numbers), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_number_goes_up_exactly(levels: list[EmulatedKernels], dtype: torch.dtype) -> None:
    numbers = torch.arange(-0x8000, 0x8000, dtype=torch.int16).view(dtype)
    residual = torch.zeros(len(numbers))
    for level in levels:
        level.subtract(residual, torch.zeros_like(numbers), numbers)
        torch.testing.assert_close(residual, numbers.float(), rtol=0, atol=0, equal_nan=True)
