"""What the lists on the node First Block Cache XY ask for: the columns and rows of its grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CELLS_MAX = 64
"""Each is up to two sampling runs."""
LINES_MAX = 24
"""Columns, and rows: browsers show no longer pictures."""
SHOWN = 48
"""Characters of a wrong value in a sentence."""


@dataclass(frozen=True)
class Column:
    """One setting of the cache. speedup is 0 where the threshold decides."""

    strategy: str
    threshold: float
    speedup: float

    @property
    def knob(self) -> str:
        return f"speedup {self.speedup:g}" if self.speedup else f"threshold {self.threshold:g}"


@dataclass(frozen=True)
class Row:
    sampler: str
    scheduler: str


@dataclass(frozen=True)
class Plan:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def _entries(text: str) -> list[str]:
    """Each once, in the order of the list."""
    return list(dict.fromkeys(entry for entry in map(str.strip, text.split(",")) if entry))


def read_names(name: str, text: str, allowed: Sequence[str]) -> list[str]:
    """The entries of a list. ValueError for an empty list and for an entry that is not allowed."""
    entries = _entries(text)
    choices = ", ".join(allowed)
    if not entries:
        raise ValueError(f"{name} is empty; it takes one or several of these, with commas between them: {choices}.")
    for entry in entries:
        if entry not in allowed:
            raise ValueError(f"{name} holds {entry[:SHOWN]!r}; it must be one of these: {choices}.")
    return entries


def read_numbers(name: str, text: str, example: str, check: Callable[[float], object]) -> list[float]:
    """The numbers of a list, which may be empty. ValueError for what is no number; check raises its own."""
    numbers = []
    for entry in _entries(text):
        try:
            number = float(entry)
        except ValueError:
            raise ValueError(
                f"{name} holds {entry[:SHOWN]!r}, which is no number; it takes numbers with commas between them, "
                f"for example {example}."
            ) from None
        check(number)
        numbers.append(number)
    return list(dict.fromkeys(numbers))


def make_plan(
    strategies: Sequence[str],
    speedups: Sequence[float],
    thresholds: Sequence[float],
    samplers: Sequence[str],
    schedulers: Sequence[str],
) -> Plan:
    """ValueError for a grid without columns and for one that is too large."""
    if not speedups and not thresholds:
        raise ValueError(
            "speedups and thresholds are both empty; give at least one number, for example 2 in speedups (1 to 10) "
            "or 0.08 in thresholds (above 0, at most 1)."
        )
    columns = [
        Column(strategy, threshold, speedup)
        for strategy in strategies
        for speedup, threshold in [*((value, 0.0) for value in speedups), *((0.0, value) for value in thresholds)]
    ]
    rows = [Row(sampler, scheduler) for sampler in samplers for scheduler in schedulers]
    if max(len(columns), len(rows)) > LINES_MAX or len(columns) * len(rows) > CELLS_MAX:
        raise ValueError(
            f"The grid would have {len(columns)} columns ({len(strategies)} x {len(speedups) + len(thresholds)}: "
            f"strategies, speedups and thresholds) and {len(rows)} rows ({len(samplers)} x {len(schedulers)}: "
            f"samplers, schedulers); at most {LINES_MAX} of each and {CELLS_MAX} cells are allowed."
        )
    return Plan(tuple(columns), tuple(rows))
