"""Run one of the Python lanes of the tests, as ctest does it.

    build/venv/bin/python tools/run_lane.py python

A lane that cannot run here exits with 77, which ctest reports as skipped; its output says why. It never counts as
passed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING

from comfyui_tree import ROOT, NoComfyUIError, find_comfyui
from progress import say

if TYPE_CHECKING:
    from collections.abc import Callable

SKIPPED = 77
PYTEST_FOUND_NO_TESTS = 5


def skip(reason: str) -> int:
    say(f"SKIPPED: {reason}")
    return SKIPPED


def run_style(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "ruff", "check", ".", *arguments], cwd=ROOT, check=False).returncode


def run_python(arguments: list[str]) -> int:
    return run_pytest("tests/python", arguments)


def run_comfyui(arguments: list[str]) -> int:
    try:
        tree = find_comfyui()
    except NoComfyUIError as problem:
        return skip(str(problem))
    say(str(tree))
    tested = run_pytest("tests/comfyui", arguments)
    # In a process of its own, because a process can hold one ComfyUI.
    return tested if tested or arguments else run_pytest("tests/gpu/test_compile.py", ["--device", "cpu"])


def run_gpu(arguments: list[str]) -> int:
    import torch

    if not torch.cuda.is_available() or torch.version.cuda is None:
        return skip("no CUDA device")
    # Each in a process of its own, because ComfyUI brings a second copy of the pack.
    tested = [run_pytest(f"tests/gpu/{name}", arguments) for name in ("test_cuda.py", "test_compile.py")]
    if failed := next((code for code in tested if code), 0):
        return failed
    for script in ("figures.py", "compile_figures.py"):
        if failed := subprocess.run([sys.executable, f"tests/gpu/{script}"], cwd=ROOT, check=False).returncode:
            return failed
    return 0


def run_pytest(tests: str, arguments: list[str]) -> int:
    """tests: a folder or a file."""
    if not (ROOT / tests).exists():
        return skip(f"{tests} does not exist.")
    # -rs: the reason of every single test that is skipped
    code = subprocess.run([sys.executable, "-m", "pytest", "-rs", tests, *arguments], cwd=ROOT, check=False).returncode
    return skip(f"{tests} holds no tests.") if code == PYTEST_FOUND_NO_TESTS else code


LANES: dict[str, Callable[[list[str]], int]] = {
    "style": run_style,
    "python": run_python,
    "comfyui": run_comfyui,
    "gpu": run_gpu,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lane", choices=LANES)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for ruff or pytest")
    chosen = parser.parse_args()
    return LANES[chosen.lane](chosen.arguments)


if __name__ == "__main__":
    sys.exit(main())
