"""How the operators of the cache get into a process, once, and what the shim's binary is."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from operators import HAS_SHIM, IS_TORCH_NEW, LOADED, needs_shim

from wavespeed import _native, operations

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = Path(operations.__file__).parent


def core_that_raises(problem: Exception) -> SimpleNamespace:
    def load_torch_shim(_path: str) -> str:
        raise problem

    return SimpleNamespace(load_torch_shim=load_torch_shim)


@pytest.mark.skipif(not (IS_TORCH_NEW and operations.SHIM_FILE.is_file()), reason="no shim was built for this torch")
@pytest.mark.skipif(_native.core is None, reason=_native.reason)
def test_a_shim_that_was_built_is_used() -> None:
    """Else all tests of the native operators would be skipped, and nobody would learn that it broke."""
    assert HAS_SHIM, LOADED.executor


def test_an_older_torch_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shim = tmp_path / "_torch_shim.so"
    shim.touch()
    monkeypatch.setattr(operations, "SHIM_FILE", shim)
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion("2.9.1+cpu"))
    assert operations._load_shim(core_that_raises(OSError("not asked"))) == "torch 2.9.1+cpu is older than 2.10"


@pytest.mark.skipif(not IS_TORCH_NEW, reason="this torch is too old for any shim")
@pytest.mark.parametrize(
    ("core", "reason"),
    [
        (None, "the native module is missing"),
        (
            core_that_raises(OSError("undefined symbol: torch_library_impl")),
            "_torch_shim.so does not load: undefined symbol: torch_library_impl",
        ),
        (
            core_that_raises(RuntimeError("The torch operators need torch 2.10 or newer.")),
            "_torch_shim.so does not load: The torch operators need torch 2.10 or newer",
        ),
        (
            SimpleNamespace(load_torch_shim=lambda _path: "taken"),
            "something else in this process has operators named wavespeed",
        ),
    ],
)
def test_reasons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, core: Any, reason: str) -> None:
    shim = tmp_path / "_torch_shim.so"
    shim.touch()
    monkeypatch.setattr(operations, "SHIM_FILE", shim)
    assert operations._load_shim(core) == reason


LOAD_COPIES = """
    import importlib.util, sys
    from pathlib import Path
    import torch

    def load_pack(folder):
        # As ComfyUI does it: the module's name is the path.
        name = str(Path(folder) / "wavespeed").replace(".", "_x_")
        init = Path(folder) / "wavespeed/__init__.py"
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(init.parent)])
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        native = importlib.import_module(name + "._native")
        operations = importlib.import_module(name + ".operations")
        return operations, operations.load(native.core)

    def use(pack):
        operations, loaded = pack
        print(loaded.executor)
        a, b = torch.randn(4, 6).bfloat16(), torch.randn(4, 6).bfloat16()
        base = loaded.copy_to_float32(a)
        total = loaded.read([loaded.finish(base, b)])[0]
        assert torch.equal(loaded.apply(a, base), b)
        assert abs(total / (b.double() - a.double()).abs().sum() - 1) < 1e-6
        difference, reference = loaded.read([loaded.distance(a, b)])
        assert abs(difference / total - 1) < 1e-6
        assert abs(reference / b.double().abs().sum() - 1) < 1e-6
        loaded.apply_in_place(a, base)
        assert torch.equal(a, b)
        return loaded

    def check(loaded):
        a, b, wide = torch.randn(4, 6).half(), torch.randn(6, 4).half().t(), torch.randn(4, 6)
        torch.library.opcheck(loaded.distance, (a, b))
        torch.library.opcheck(loaded.finish, (wide, b))
        torch.library.opcheck(loaded.apply, (b, wide))
        torch.library.opcheck(loaded.apply_in_place, (b, wide))
"""


def run_in_own_process(script: str, *folders: Path) -> list[str]:
    """Its printed lines; a process of its own, because operators are never taken out of one."""
    text = textwrap.dedent(LOAD_COPIES) + textwrap.dedent(script)
    command = [sys.executable, "-c", text, *map(str, folders)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert not finished.stderr.strip(), "the console shall stay clean"
    return finished.stdout.splitlines()


@pytest.fixture
def copy_of_pack(tmp_path: Path) -> Callable[..., Path]:
    def copy(name: str, *, shim: str = "whole") -> Path:
        folder = tmp_path / name
        shutil.copytree(PACKAGE, folder / "wavespeed", ignore=shutil.ignore_patterns("__pycache__"))
        file = folder / "wavespeed/_torch_shim.so"
        if shim == "missing":
            file.unlink(missing_ok=True)
        elif shim == "broken":
            file.write_bytes(b"\x7fELF and nothing more")
        return folder

    return copy


TWO_COPIES = "first, second = use(load_pack(sys.argv[1])), use(load_pack(sys.argv[2])); check(first); check(second)"


@needs_shim
def test_two_native_copies(copy_of_pack: Callable[..., Path]) -> None:
    first, second = run_in_own_process(TWO_COPIES, copy_of_pack("one"), copy_of_pack("other one"))
    kernels = _native.core.status()["cpu_kernels"]
    first, second = (said.replace(", native CUDA kernels", "") for said in (first, second))
    assert first == f"native CPU kernels ({kernels}), and torch expressions on other devices"
    assert second == "native CPU kernels of another copy of this pack, and torch expressions on other devices"


def test_a_copy_without_shim_comes_first(copy_of_pack: Callable[..., Path]) -> None:
    """Also the test of the operators as Python defines them: the process has no native kernel."""
    first, second = run_in_own_process(TWO_COPIES, copy_of_pack("one", shim="missing"), copy_of_pack("other one"))
    if _native.core is not None:
        assert first == (
            "torch expressions, because _torch_shim.so has not been built (it needs torch 2.10 and a C++ compiler)"
        )
    assert second == "torch expressions, because another copy of this pack has registered them"


@pytest.mark.skipif(not IS_TORCH_NEW, reason="this torch is too old for any shim")
@pytest.mark.skipif(_native.core is None, reason=_native.reason)
def test_a_broken_shim_is_a_sentence(copy_of_pack: Callable[..., Path]) -> None:
    folder = copy_of_pack("one", shim="broken")
    (executor,) = run_in_own_process("check(use(load_pack(sys.argv[1])))", folder)
    assert executor.startswith("torch expressions, because _torch_shim.so does not load: ")


def test_operators_of_a_stranger_are_left_alone(copy_of_pack: Callable[..., Path]) -> None:
    script = """
        for name in ("residual_distance", "finish_residual_", "apply_residual", "apply_residual_"):
            torch.library.define(f"wavespeed::{name}", "(Tensor x) -> Tensor")
        use(load_pack(sys.argv[1]))
    """
    (executor,) = run_in_own_process(script, copy_of_pack("one"))
    assert executor == (
        "torch expressions, because torch does not take the operators of this pack: "
        "another wavespeed::residual_distance is registered: wavespeed::residual_distance(Tensor x) -> Tensor"
    )


# ---- The shim's binary -----------------------------------------------------------------------------------------------


class CoreApi(ctypes.Structure):
    """ws_core_api of include/wavespeed/core_api.h"""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("version", ctypes.c_uint32),
        ("functions", ctypes.c_void_p * 5),
    )


REGISTERED, FAILED = 0, 2


@needs_shim
@pytest.mark.parametrize(
    "api", [None, CoreApi(0, 2), CoreApi(ctypes.sizeof(CoreApi), 1), CoreApi(ctypes.sizeof(CoreApi) - 8, 2)]
)
def test_the_shim_refuses_another_core(tmp_path: Path, api: CoreApi | None) -> None:
    # A copy of the file is another library, which has nothing registered yet.
    copy = shutil.copy(operations.SHIM_FILE, tmp_path)
    register = ctypes.CDLL(str(copy)).ws_torch_register
    error = ctypes.create_string_buffer(100)
    table = ctypes.byref(api) if api is not None else None
    assert register(table, error, ctypes.c_size_t(len(error))) == FAILED
    assert error.value.startswith(b"The torch operators (_torch_shim) and the extension (_core) do not belong together")
    assert len(error.value) < len(error)


@needs_shim
def test_registering_again_does_nothing() -> None:
    assert _native.core.load_torch_shim(str(operations.SHIM_FILE)) == "registered"


@needs_shim
def test_symbols() -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    listing = subprocess.run(
        [nm, "-D", "--undefined-only", str(operations.SHIM_FILE)], capture_output=True, text=True, check=True
    ).stdout
    lines = Path(__file__).with_name("shim_symbols.txt").read_text(encoding="utf-8").splitlines()
    allowed = {line for line in lines if not line.startswith("#")}
    needed = {line.split()[-1] for line in listing.splitlines() if " w " not in line}
    # The C and C++ runtimes give their symbols versions, libtorch does not.
    from_torch = {symbol for symbol in needed if not re.search("@(GLIBC|GLIBCXX|CXXABI|GCC)_", symbol)}
    assert from_torch <= allowed
