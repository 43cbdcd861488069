"""What needs a GPU of NVIDIA; tools/run_lane.py gpu runs it, and says so where there is none.

With --device cpu the tests of compiled models run on the CPU, so that what a GPU will run has run before; the lane
`comfyui` does that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
os.environ["WAVESPEED_CUDA"] = "on"  # read when the extension is loaded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", choices=("cpu", "cuda"), default="cuda", help="what models are compiled for")
