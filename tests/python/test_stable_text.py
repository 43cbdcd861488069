"""Texts for what is in memory: the same in every process for the same thing, and another for another."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from enum import Enum
from functools import partial
from typing import Any

import pytest
import torch

from wavespeed import stable_text

SCRIPT = """
import torch
from wavespeed import stable_text

def function(word, times=(2, 3)):
    inner = lambda value: value in {"some", "words", "in", "a", "set"}
    return inner(word) and word in {"other", "words", ("deep", "inside")}

print(stable_text.of_value([function, torch.cat, torch.float16, {"a": torch.nn.Linear}, torch.nn.functional.gelu]))
"""


def test_other_processes_have_the_same_texts() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    (text,) = texts
    assert text.startswith("list(")


def first(value: int) -> int:
    return value + 1


def second(value: int) -> int:
    return value + 2


def with_default(value: int = 1) -> int:
    return value + 1


class Color(Enum):
    RED = 1
    BLUE = 2


class Base:
    def run(self) -> str:
        return "base"


class Left(Base):
    def run(self) -> str:
        return super().run()


class Right(Base):
    pass


def of_other_class() -> Any:
    """Left.run with everything as it is but the class that super() starts from."""
    cells = (types.CellType(Right),)
    copy = types.FunctionType(Left.run.__code__, globals(), Left.run.__name__, None, cells)
    copy.__qualname__ = Left.run.__qualname__
    return copy


DIFFERENT: list[Any] = [
    Base.run, Left.run, of_other_class(),
    first, second, with_default, Color.RED, Color.BLUE, len, torch.cat, torch.add, torch.nn.functional.gelu,
    torch.nn.Linear, torch.nn, torch.ops.aten.cat, None, 0, 0.0, False, "", "0", (), [], {}, (1,), (1, 2), ((1,), 2),
    [1, 2], {"1": 2}, {1: 2}, "1,2", ("1,2",), ("1", "2"), torch.float16, torch.float32, torch.device("cpu"),
    torch.Size([1]),
]  # fmt: skip


def test_different_things_have_different_texts() -> None:
    texts = [stable_text.of_value(value) for value in DIFFERENT]
    assert None not in texts
    assert len(set(texts)) == len(DIFFERENT)


def closure() -> Any:
    seen = object()
    return lambda: seen


@pytest.mark.parametrize(
    "value", [object(), closure(), partial(first, 1), torch.zeros(1), [1, object()], {1: object()}]
)
def test_what_only_this_process_knows_has_none(value: Any) -> None:
    assert stable_text.of_value(value) is None


def test_code_is_told_apart_by_what_it_does_and_not_by_where_it_stands() -> None:
    source = "def function(value):\n    return value + {number}\n"
    functions = []
    for text in (source.format(number=1), "\n\n" + source.format(number=1), source.format(number=2)):
        constants = compile(text, "some file", "exec").co_consts
        functions += [stable_text.of_code(code) for code in constants if isinstance(code, types.CodeType)]
    assert functions[0] == functions[1] != functions[2]
