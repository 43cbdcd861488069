"""A driver that runs the CUDA kernels on the CPU (tests/c/emulated_cuda), for processes of its own: the real one of a
machine with a GPU has the same name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = REPOSITORY / "tests/c/emulated_cuda"
COMPILER = shutil.which("c++")

PRELUDE = """
import ctypes, logging, sys
logging.basicConfig(format="%(message)s", stream=sys.stdout)
import torch
torch.set_num_threads(1)
if sys.argv[1:]:
    driver = ctypes.CDLL(sys.argv[1])
    behave = lambda what: driver.fake_cuda_behave(what.encode())
    behave(sys.argv[2])
from wavespeed import _native, expressions, operations
from wavespeed.cuda_kernels import DECLINED, CudaKernels
from operators import LOADED
core = _native.core
cuda = CudaKernels(core, lambda tensor: (0, 0))
torch.manual_seed(0)
"""
"""What every script begins with. cuda: the kernels of the driver, given tensors of the CPU."""


def compiled(folder: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path:
    """A library that the extension takes for the driver."""
    if COMPILER is None:
        pytest.skip("there is no C++ compiler to make a driver with")
    library = folder / "libcuda.so.1"
    folders = [f"-I{path}" for path in (SOURCES, REPOSITORY / "include", REPOSITORY / "src")]
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O2", *flags, *folders, "-Wl,-soname,libcuda.so.1", *sources, "-o", library],
        check=True,
    )
    return library


def run(script: str, driver: Path | None = None, behaviour: str = "", **variables: str) -> list[str]:
    """The lines that a script prints in a process of its own, with the driver in it; without one, with none at all.

    The CUDA kernels are switched on.
    """
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(script), *([driver, behaviour] if driver else [])]
    environment = (
        os.environ
        | {"PYTHONPATH": f"{REPOSITORY / 'python'}:{REPOSITORY / 'tests/python'}", "WAVESPEED_CUDA": "on"}
        | variables
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()
