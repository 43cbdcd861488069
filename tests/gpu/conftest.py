"""Everything here needs a GPU of NVIDIA; tools/run_lane.py gpu runs it, and says so where there is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
os.environ["WAVESPEED_CUDA"] = "on"  # read when the extension is loaded

from wavespeed import _native

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _kernels_in_use() -> Iterator[None]:
    """A test that torch's expressions have passed says nothing about the kernels."""
    yield
    assert _native.core.status()["cuda_kernels"] == "in use"
