"""What the tests of the levels of the vector units share: any case there is, and processes with another level."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kernel_cases
from hypothesis import strategies as st
from kernel_cases import Case

from wavespeed import operations

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
