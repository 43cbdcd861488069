"""Libraries that are cut off are recognised, and the pack goes on without them instead of dying with ComfyUI."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wavespeed.shared_library import missing_bytes

PACKAGE = Path(__file__).resolve().parents[2] / "python" / "wavespeed"
LIBRARIES = sorted(PACKAGE.glob("_*.so"))

IMPORT = "from wavespeed import _native, operations; print(_native.reason or operations.load(_native.core).executor)"


def cut(source: Path, target: Path, share: float) -> None:
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])


def import_in_new_process(folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda path: path.name)
def test_a_complete_library_lacks_nothing(library: Path) -> None:
    assert missing_bytes(library) == 0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_cut_library_lacks_exactly_its_end(tmp_path: Path, share: float) -> None:
    library = LIBRARIES[0]
    cut(library, tmp_path / "cut.so", share)
    assert missing_bytes(tmp_path / "cut.so") == library.stat().st_size - (tmp_path / "cut.so").stat().st_size


def test_other_files_are_left_to_the_loader(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("not a library")
    (tmp_path / "empty.so").write_bytes(b"")
    assert missing_bytes(tmp_path / "text.so") == missing_bytes(tmp_path / "empty.so") == 0


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.05, 0.5, 0.9])
def test_a_cut_native_module_is_a_sentence(tmp_path: Path, share: float) -> None:
    shutil.copytree(PACKAGE, tmp_path / "wavespeed", ignore=shutil.ignore_patterns("__pycache__"))
    cut(PACKAGE / "_core.abi3.so", tmp_path / "wavespeed" / "_core.abi3.so", share)
    said = import_in_new_process(tmp_path)
    assert said.startswith("The native module")
    assert "cmake --build build" in said


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_with_a_cut_torch_shim_torch_does_the_work(tmp_path: Path, share: float) -> None:
    if not (PACKAGE / "_torch_shim.so").is_file():
        pytest.skip("the torch shim was not built here")
    shutil.copytree(PACKAGE, tmp_path / "wavespeed", ignore=shutil.ignore_patterns("__pycache__"))
    cut(PACKAGE / "_torch_shim.so", tmp_path / "wavespeed" / "_torch_shim.so", share)
    assert import_in_new_process(tmp_path).startswith("torch expressions, because _torch_shim.so ")
