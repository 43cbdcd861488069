"""The CUDA kernels on a GPU: the bits of the CPU's, in any stream, on any device, and around graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from block_model import Model, evaluate, open_session, picture, real_operations
from operators import LOADED, needs_shim

from wavespeed import _native, expressions, operations
from wavespeed.difference import count_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if not torch.cuda.is_available() or torch.version.cuda is None:
    pytest.skip("no CUDA device", allow_module_level=True)

pytestmark = needs_shim
"""Without the shim the CPU's side is torch expressions, which add in another order."""

GPU = torch.device("cuda", 0)
CHUNK = 65536
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
MANY_CYCLES = 2_000_000_000
"""About a second: long enough that the host is done before the GPU."""

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def _kernels_in_use() -> Iterator[None]:
    """A test that torch's expressions have passed says nothing about the kernels."""
    yield
    assert _native.core.status()["cuda_kernels"] == "in use"


def operands(n: int, dtype: torch.dtype, seed: int = 0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Four hidden states and three residuals, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(n, generator=generator).to(dtype) for _ in range(4)]
    return states, [torch.randn(n, generator=generator) for _ in range(3)]


def all_results(states: list[torch.Tensor], residuals: list[torch.Tensor]) -> list[torch.Tensor]:
    base, added, extrapolated = residuals[0].clone(), states[0].clone(), states[0].clone()
    subtracted, advanced = residuals[1].clone(), residuals[1].clone()
    differences = [torch.zeros_like(LOADED.new_difference(base)) for _ in range(2)]
    sums = [
        LOADED.distance(*states[:2]),
        LOADED.moments(*states),
        LOADED.finish(base, states[1]),
        LOADED.subtract(subtracted, *states[:2]),
        LOADED.advance(advanced, differences[0], *states[:2]),
        LOADED.advance(residuals[2].clone(), differences[1], *states[2:]),
    ]
    applied = LOADED.apply(states[0], residuals[1])
    LOADED.apply_in_place(added, residuals[1])
    forecast = (residuals[0], *differences, 1.5, -0.75)
    forecasted = LOADED.extrapolate(states[0], *forecast)
    LOADED.extrapolate_in_place(extrapolated, *forecast)
    packed = [difference.view(torch.int8) for difference in differences]
    return [*sums, base, subtracted, advanced, *packed, applied, added, forecasted, extrapolated]


def to(tensors: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    return [tensor.to(device) for tensor in tensors]


def assert_same_bits(results: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for result, wanted in zip(results, expected, strict=True):
        assert torch.equal(result.cpu(), wanted)


# ---- Same bits -------------------------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("n", [1, 31, 33, 4097, CHUNK - 1, CHUNK + 1, 3 * CHUNK + 5, 200 * CHUNK + 4097])
def test_kernels_have_the_bits_of_the_cpu(n: int, dtype: torch.dtype) -> None:
    states, residuals = operands(n, dtype)
    assert_same_bits(all_results(to(states, GPU), to(residuals, GPU)), all_results(states, residuals))


@dtypes
def test_views_that_begin_anywhere(dtype: torch.dtype) -> None:
    states, residuals = operands(CHUNK + 40, dtype)
    for begin in range(1, 9):
        on_gpu = [[tensor[begin:] for tensor in to(tensors, GPU)] for tensors in (states, residuals)]
        on_cpu = [[tensor[begin:] for tensor in tensors] for tensors in (states, residuals)]
        assert_same_bits(all_results(*on_gpu), all_results(*on_cpu))


@dtypes
def test_repeating_gives_the_same_bits(dtype: torch.dtype) -> None:
    states, residuals = (to(tensors, GPU) for tensors in operands(100 * CHUNK + 77, dtype))
    expected = to(all_results(states, residuals), torch.device("cpu"))
    for _ in range(50):
        assert_same_bits(all_results(states, residuals), expected)


def advanced(state: torch.Tensor, residual: torch.Tensor) -> list[torch.Tensor]:
    """What advancing writes, on the CPU: residual, scales, values."""
    written, difference = residual.clone(), torch.zeros_like(LOADED.new_difference(residual))
    LOADED.advance(written, difference, state, state.flip(0))
    groups = count_groups(len(state))
    return [part.cpu() for part in (written, difference[:groups], difference[groups:].view(torch.int8))]


def test_special_values() -> None:
    values = [0.0, -0.0, 1e-45, 6e-8, 65504.0, 65520.0, 3.4e38, float("inf"), float("-inf"), float("nan"), 1.0]
    for dtype in DTYPES:
        state = torch.tensor(values).repeat(50).to(dtype)
        residual = torch.tensor(values).repeat_interleave(50)
        applied = LOADED.apply(state.to(GPU), residual.to(GPU)).cpu()
        torch.testing.assert_close(applied, LOADED.apply(state, residual), rtol=0, atol=0, equal_nan=True)
        sums = LOADED.distance(state.to(GPU), state.to(GPU)).cpu()
        torch.testing.assert_close(sums, LOADED.distance(state, state), rtol=0, atol=0, equal_nan=True)
        sides = [advanced(state.to(device), residual.to(device)) for device in (GPU, torch.device("cpu"))]
        for ours, theirs in zip(*sides, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@dtypes
def test_what_the_kernels_decline_is_done_by_expressions(dtype: torch.dtype) -> None:
    a, b = (torch.randn(64, 96).to(dtype).to(GPU)[:, ::2] for _ in range(2))
    torch.testing.assert_close(LOADED.distance(a, b), expressions.residual_distance(a, b))
    assert LOADED.distance(a.double(), b.double()).shape == (2,)
    LOADED.distance(a.contiguous(), b.contiguous())


# ---- Reading ---------------------------------------------------------------------------------------------------------


def test_values_are_read_behind_work_that_takes_long() -> None:
    state = torch.zeros(5, device=GPU)
    torch.cuda._sleep(MANY_CYCLES)
    state += 2
    assert LOADED.read([LOADED.distance(state, state), state[:1]]) == [0.0, 10.0, 2.0]


def test_values_are_read_again_and_again() -> None:
    for i in range(1000):
        assert LOADED.read([torch.full((3,), float(i), device=GPU)]) == [float(i)] * 3


# ---- Streams, devices, graphs ----------------------------------------------------------------------------------------


def test_two_streams_at_once() -> None:
    sides = []
    for seed in (1, 2):
        states, residuals = operands(60 * CHUNK + seed, torch.bfloat16, seed)
        sides.append((to(states, GPU), to(residuals, GPU), all_results(states, residuals), torch.cuda.Stream(GPU)))
    torch.cuda.synchronize()
    results: list[list[Any]] = [[], []]
    for _ in range(20):
        for number, (states, residuals, _, stream) in enumerate(sides):
            with torch.cuda.stream(stream):
                results[number].append(all_results(states, residuals))
    torch.cuda.synchronize()
    for number, (*_, expected, _stream) in enumerate(sides):
        for result in results[number]:
            assert_same_bits(result, expected)


def test_work_is_ordered_with_that_of_its_stream() -> None:
    states, _ = operands(20 * CHUNK, torch.float32)
    stream = torch.cuda.Stream(GPU)
    on_gpu = [torch.empty_like(tensor, device=GPU) for tensor in states]
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(MANY_CYCLES // 10)
        for tensor, source in zip(on_gpu, states, strict=True):
            tensor.copy_(source)
        sums = LOADED.read([LOADED.distance(on_gpu[0], on_gpu[1])])
    assert sums == LOADED.distance(states[0], states[1]).tolist()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU only")
def test_a_device_that_is_not_current() -> None:
    other = torch.device("cuda", 1)
    states, residuals = operands(3 * CHUNK + 5, torch.bfloat16)
    with torch.cuda.device(GPU):
        results = all_results(to(states, other), to(residuals, other))
        assert LOADED.read(results[:1]) == all_results(states, residuals)[0].tolist()
        assert torch.cuda.current_device() == GPU.index
    assert_same_bits(results, all_results(states, residuals))


def test_a_recorded_graph_holds_torch_expressions_only() -> None:
    a, b = torch.randn(3 * CHUNK, device=GPU), torch.randn(3 * CHUNK, device=GPU)
    LOADED.distance(a, b)
    assert not operations.is_capturing()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert operations.is_capturing()
        sums = LOADED.distance(a, b)
    a.copy_(b)
    graph.replay()
    torch.cuda.synchronize()
    assert sums[0].item() == 0.0
    assert torch.equal(LOADED.distance(a, b).cpu(), LOADED.distance(a.cpu(), b.cpu()))


# ---- torch.compile and whole runs ------------------------------------------------------------------------------------


@dtypes
def test_opcheck(dtype: torch.dtype) -> None:
    states, residuals = ([tensor.to(GPU) for tensor in tensors] for tensors in operands(77, dtype))
    torch.library.opcheck(LOADED.distance, tuple(states[:2]))
    torch.library.opcheck(LOADED.moments, tuple(states))
    torch.library.opcheck(LOADED.finish, (residuals[0], states[0]))
    torch.library.opcheck(LOADED.apply, (states[0], residuals[0]))
    torch.library.opcheck(LOADED.apply_in_place, (states[0], residuals[0]))
    differences = [torch.zeros_like(LOADED.new_difference(residuals[0])) for _ in range(2)]
    torch.library.opcheck(LOADED.subtract, (residuals[0], *states[:2]))
    torch.library.opcheck(LOADED.advance, (residuals[0], differences[0], *states[:2]))
    torch.library.opcheck(LOADED.extrapolate, (states[0], residuals[0], *differences, 1.5, -0.75))
    torch.library.opcheck(LOADED.extrapolate_in_place, (states[0], residuals[0], *differences, 1.5, -0.75))


@pytest.mark.parametrize("strategy", ["classic", "forecast"])
def test_sessions_decide_as_with_expressions(strategy: str) -> None:
    by_torch: dict[str, Callable[..., Any]] = {
        **{operator.member: operator.expression for operator in operations.OPERATORS},
        "read": operations.read,
    }
    torch.manual_seed(0)
    schedule = (*(1 - i / 20 for i in range(20)), 0.0)
    outcomes = []
    with torch.inference_mode():
        model, x = Model().eval().to(GPU), picture().to(GPU)
        for replaced in ({}, by_torch):
            session = open_session(model, operations=real_operations(**replaced), strategy=strategy, schedule=schedule)
            outputs = [
                evaluate(session, model, x * (1 - i / 50), sigma=torch.tensor([schedule[i]], device=GPU))
                for i in range(20)
            ]
            outcomes.append((torch.stack(outputs), session.statistics()))
    assert outcomes[0][1]["reused"] == outcomes[1][1]["reused"] > 3
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0])
