"""The operators as the CUDA kernels do them, with a driver that runs the kernels on the CPU.

Same bits, same decisions, and the expressions wherever the kernels decline.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fake_cuda import SOURCES, compiled, run

from wavespeed import _native, cuda_kernels, operations

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(_native.core is None, reason=_native.reason),
    pytest.mark.skipif(
        _native.core is not None and _native.core.status()["cuda_kernels"].startswith("not built"),
        reason=f"CUDA kernels: {_native.core and _native.core.status()['cuda_kernels']}",
    ),
]


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("-std=c++17", "-ffp-contract=off")
    sources = (SOURCES / "fake_driver.cpp", SOURCES / "emulated_kernels.cpp")
    return compiled(tmp_path_factory.mktemp("driver"), *sources, flags=flags)


# ---- Same bits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_operators_have_the_bits_of_the_cpu(driver: Path, dtype: str) -> None:
    script = f"""
    for shape in ((3,), (2, 5, 8), (3, 70000)):
        states = [torch.randn(shape).to(torch.{dtype}) for _ in range(4)]
        residuals = [torch.randn(shape) for _ in range(3)]
        results = []
        for side in (LOADED, None):
            do = lambda name, native: native if side else cuda.operator(name, None)
            base, added, extrapolated = torch.ones(shape), states[0].clone(), states[0].clone()
            subtracted, advanced = torch.ones(shape), residuals[1].clone()
            differences = [torch.zeros_like(expressions.new_difference(base)) for _ in range(2)]
            sums = [
                do("residual_distance", LOADED.distance)(*states[:2]),
                do("residual_moments", LOADED.moments)(*states),
                do("finish_residual_", LOADED.finish)(base, states[1]),
                do("subtract_states_", LOADED.subtract)(subtracted, *states[:2]),
                do("advance_residual_", LOADED.advance)(advanced, differences[0], *states[:2]),
                do("advance_residual_", LOADED.advance)(residuals[2].clone(), differences[1], *states[2:]),
            ]
            forecast = (residuals[0], *differences, 1.5, -0.75)
            applied = do("apply_residual", LOADED.apply)(states[0], residuals[0])
            assert do("apply_residual_", LOADED.apply_in_place)(added, residuals[0]) is None
            forecasted = do("extrapolate_residual", LOADED.extrapolate)(states[0], *forecast)
            assert do("extrapolate_residual_", LOADED.extrapolate_in_place)(extrapolated, *forecast) is None
            packed = [difference.view(torch.int8) for difference in differences]
            written = [base, subtracted, advanced, *packed, added, extrapolated]
            results.append([*sums, *written, applied, forecasted])
        for ours, theirs in zip(*results, strict=True):
            assert ours.dtype is theirs.dtype and torch.equal(ours, theirs), (shape, ours, theirs)
    print(core.status()["cuda_kernels"])
    """
    if not operations.load(_native.core).executor.startswith("native CPU kernels"):
        pytest.skip("the CPU side is made of torch expressions here, which round differently")
    assert run(script, driver) == ["in use"]


def test_read(driver: Path) -> None:
    script = """
    tensors = [torch.tensor([1.5, 1e300], dtype=torch.float64), torch.tensor([0.1]), torch.tensor([2.0]).double()]
    print(cuda.read(tensors) == [1.5, 1e300, torch.tensor([0.1]).item(), 2.0])
    one = torch.ones(1)
    print(cuda.read([one.bfloat16()]), cuda.read([torch.ones(600)]), cuda.read([one] * 129))
    """
    assert run(script, driver) == ["True", "None None None"]


def test_sessions_decide_and_compute_the_same(driver: Path) -> None:
    script = """
    from block_model import Model, evaluate, open_session, picture, real_operations
    model = Model().eval()
    replaced = {
        "distance": cuda.operator("residual_distance", None),
        "finish": cuda.operator("finish_residual_", None),
        "apply": cuda.operator("apply_residual", None),
        "apply_in_place": cuda.operator("apply_residual_", None),
        "moments": cuda.operator("residual_moments", None),
        "subtract": cuda.operator("subtract_states_", None),
        "advance": cuda.operator("advance_residual_", None),
        "extrapolate": cuda.operator("extrapolate_residual", None),
        "extrapolate_in_place": cuda.operator("extrapolate_residual_", None),
        "read": cuda.read,
    }
    schedule = tuple(1 - i / 20 for i in range(20)) + (0.0,)
    for strategy in ("classic", "forecast"):
        outcomes = []
        for ours in (real_operations(), real_operations(**replaced)):
            session = open_session(model, operations=ours, strategy=strategy, schedule=schedule)
            with torch.inference_mode():
                outputs = [
                    evaluate(session, model, picture() * (1 - i / 50), sigma=torch.tensor([schedule[i]]))
                    for i in range(20)
                ]
            outcomes.append((torch.stack(outputs), session.statistics()))
        assert torch.equal(outcomes[0][0], outcomes[1][0])
        assert {**outcomes[0][1]} == {**outcomes[1][1]}
        print(strategy, outcomes[1][1]["reused"] > 3, core.status()["cuda_kernels"])
    """
    assert run(script, driver) == ["classic True in use", "forecast True in use"]


# ---- What the kernels decline ----------------------------------------------------------------------------------------


def test_what_the_kernels_do_not_have_is_declined(driver: Path) -> None:
    script = """
    good, wide = torch.randn(4, 6).bfloat16(), torch.randn(4, 6)
    assert cuda.residual_distance(good, good) is not DECLINED
    strange = [good.double(), good[:, ::2], good.t(), torch.ones(0, 6)]
    for tensor in strange:
        assert cuda.residual_distance(tensor, tensor) is DECLINED
        assert cuda.residual_moments(tensor, tensor, tensor, tensor) is DECLINED
        assert cuda.apply_residual(tensor, torch.ones(tensor.shape)) is DECLINED
    for a, b in ((good, good[:2]), (good, good.float()), (good, good.to("meta"))):
        assert cuda.residual_distance(a, b) is DECLINED
    assert cuda.apply_residual(good, good) is DECLINED
    assert cuda.apply_residual_(good, wide.t().contiguous()) is DECLINED
    assert cuda.finish_residual_(good, good) is DECLINED
    assert cuda.subtract_states_(good, good, good) is DECLINED
    assert cuda.subtract_states_(wide, good, good.float()) is DECLINED
    difference = expressions.new_difference(good)
    assert cuda.advance_residual_(wide, difference, good, good) is not DECLINED
    assert cuda.extrapolate_residual(good, wide, difference, difference, 1.0, 1.0) is not DECLINED
    for other in (difference[1:], difference.double(), torch.zeros(2 * len(difference))[::2], difference.to("meta")):
        assert cuda.advance_residual_(wide, other, good, good) is DECLINED
        assert cuda.extrapolate_residual(good, wide, difference, other, 1.0, 1.0) is DECLINED
        assert cuda.extrapolate_residual_(good, wide, other, difference, 1.0, 1.0) is DECLINED
    assert cuda.extrapolate_residual_(good, good, difference, difference, 1.0, 1.0) is DECLINED
    operator = cuda.operator("residual_distance", expressions.residual_distance)
    views = good[:, ::2], good[:, 1::2]
    print(torch.equal(operator(*views), expressions.residual_distance(*views)))
    try:
        operator(good, good[:2])
    except RuntimeError as problem:
        print(problem)
    print(core.status()["cuda_kernels"])
    """
    wanted = ["True", "both tensors must have the same shape, and these have (4, 6) and (2, 6).", "in use"]
    assert run(script, driver) == wanted


OFF = """
a, b = torch.randn(5), torch.randn(5)
operator = cuda.operator("residual_distance", expressions.residual_distance)
for _ in range(2):
    assert torch.equal(operator(a, b), expressions.residual_distance(a, b))
    assert cuda.read([a]) is None
print(core.status()["cuda_kernels"])
"""


def assert_off(lines: list[str], reason: str) -> None:
    said = f"WaveSpeed: torch does the work of the CUDA kernels. They are {reason}."
    assert lines == [said, reason]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("old driver", "off, because the NVIDIA driver is for CUDA 10.2, and 11.0 or newer is needed"),
        ("a wrong sum", "off, because this GPU gives other results than the CPU"),
        ("no launch", "off, because the NVIDIA driver answered 701 to cuLaunchKernel"),
    ],
)
def test_what_goes_wrong_is_said_once_and_torch_goes_on(driver: Path, behaviour: str, reason: str) -> None:
    assert_off(run(OFF, driver, behaviour), reason)


def test_during_a_capture_the_expressions_are_used_and_nothing_is_said(driver: Path) -> None:
    script = OFF + "behave('')\nprint(cuda.residual_distance(a, b) is not DECLINED, cuda.read([a]) == a.tolist())"
    assert run(script, driver, "capturing") == ["not used yet", "True True"]


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
def test_without_a_driver() -> None:
    assert_off(run(OFF), "off, because there is no NVIDIA driver (libcuda.so.1)")


def test_a_driver_that_lacks_a_function(tmp_path: Path) -> None:
    source = tmp_path / "driver.cpp"
    source.write_text('extern "C" int cuDriverGetVersion(int *version) { *version = 9020; return 0; }\n'
                      'extern "C" void fake_cuda_behave(const char *) {}\n')  # fmt: skip
    reason = "off, because the NVIDIA driver is too old: it has no cuDeviceGet"
    assert_off(run(OFF, compiled(tmp_path, source)), reason)


# ---- Registration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cuda", "hip", "wanted"), [("13.0", None, True), (None, None, False), (None, "6.4", False)])
def test_kernels_are_for_cuda_only(cuda: Any, hip: Any, wanted: bool) -> None:
    script = f"""
    torch.version.cuda, torch.version.hip = {cuda!r}, {hip!r}
    print(operations._cuda_kernels(core) is not None, operations._cuda_kernels(None))
    """
    assert run(script) == [f"{wanted} None"]


def test_operators_are_registered_and_the_status_says_so() -> None:
    script = """
    before = any(operator.has_kernel("CUDA") for operator in operations.OPERATORS)
    torch.version.cuda = "13.0"
    operations.load.cache_clear()
    loaded = operations.load(core)
    print(before, all(operator.has_kernel("CUDA") for operator in operations.OPERATORS))
    print(loaded.executor.partition("), ")[2] or loaded.executor)
    print(loaded.read([torch.ones(2), torch.zeros(1)]), loaded.distance(torch.ones(3), torch.zeros(3)).tolist())
    """
    lines = run(script)
    assert lines[0] == f"{torch.version.cuda is not None} True"
    assert lines[2] == "[1.0, 1.0, 0.0] [3.0, 0.0]"
    if operations.load(_native.core).executor.startswith("native CPU kernels"):
        assert "native CUDA kernels, and torch expressions on other devices" in lines[1]


@pytest.mark.parametrize("wish", ["", "off"])
def test_without_a_wish_for_them_they_are_off(wish: str) -> None:
    script = """
    torch.version.cuda = "13.0"
    operations.load.cache_clear()
    print(operations._cuda_kernels(core), "CUDA" in operations.load(core).executor)
    print(core.status()["cuda_kernels"])
    """
    status = "off, because no GPU has run their tests yet; WAVESPEED_CUDA=on in the environment switches them on"
    assert run(script, WAVESPEED_CUDA=wish) == ["None False", status]


def test_the_kernels_are_numbered_as_in_c() -> None:
    header = (SOURCES.parents[2] / "include/wavespeed/cuda.h").read_text(encoding="utf-8")
    names = [word.strip(" ,\n") for word in header.partition("WS_CUDA_DISTANCE = 0")[2].partition("}")[0].split(",")]
    order = ["DISTANCE", *(name.removeprefix("WS_CUDA_") for name in names if name)]
    assert [getattr(cuda_kernels, name) for name in order[:-1]] == list(range(len(order) - 1))
    assert f"WS_CUDA_READ_MOST = {cuda_kernels.MOST_READ}," in header
    assert f"WS_CUDA_READ_MOST_VALUES = {cuda_kernels.MOST_VALUES}" in header
