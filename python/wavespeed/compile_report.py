"""What compiling did, in words, for the node and the log."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .compile_regions import Compile

SECONDS_BETWEEN_TEXTS = 1.0

REASONS = (
    ("transformer_options", "another node changed the options of the model"),
    ("size mismatch at index 0", "the batch size changed"),
    ("size mismatch", "a size changed"),
    ("stride mismatch", "a tensor lies in memory in another order"),
    ("dtype mismatch", "the number format changed"),
    ("dispatch key set mismatch", "the kind of tensor changed"),
    ("GLOBAL_STATE", "another node changed a global setting of torch"),
    ("Eq(", "a size changed"),
    ("<= ", "a size changed"),
)
"""A part of torch's reason and what it means to a user; the first that fits."""


def plain_reason(reason: str) -> str:
    """Half a sentence; empty for the first compile of a region."""
    if not reason:
        return ""
    return next((words for part, words in REASONS if part in reason), "something in the call changed")


def run_line(
    name: str,
    regions: int,
    blocks: int,
    compiled: int,
    eager: int,
    compiles: list[tuple[str, Compile]],
    loads: list[float],
) -> str:
    """compiles: with the names of their regions. loads: seconds of each.

    For example: Flux · 2 regions, 7 blocks · compiled 100 % of calls · 0 compiles · warm start: 2 loaded in 0.3 s
    """
    calls = compiled + eager
    share = f"{100 * compiled / calls:.0f} %" if calls else "none"
    parts = [
        f"{name} · {count(regions, 'region')}, {count(blocks, 'block')}",
        f"compiled {share} of calls",
        starts_text(compiles, loads),
    ]
    return " · ".join(parts)


def starts_text(compiles: list[tuple[str, Compile]], loads: list[float]) -> str:
    """What was compiled, and whether that was a cold start or a warm one."""
    parts = [compiles_text(compiles)]
    if any(not compile_.reason for _, compile_ in compiles):
        parts.append("cold start")
    if loads:
        parts.append(f"warm start: {len(loads)} loaded in {sum(loads):.1f} s")
    return " · ".join(parts)


def compiles_text(compiles: list[tuple[str, Compile]]) -> str:
    """How many, their seconds, and why there was more than the first."""
    text = count(len(compiles), "compile") + (f" ({_seconds(compiles)})" if compiles else "")
    reasons = sorted({words for _, compile_ in compiles if (words := plain_reason(compile_.reason))})
    return text + (f" · compiled again because {' and '.join(reasons)}" if reasons else "")


def _seconds(compiles: list[tuple[str, Compile]]) -> str:
    """The sum, and what each took where there are several."""
    total = f"{sum(compile_.seconds for _, compile_ in compiles):.1f} s"
    each = ", ".join(f"{name} {compile_.seconds:.1f} s" for name, compile_ in compiles)
    return f"{total}: {each}" if len(compiles) > 1 else total


@contextmanager
def progress(text: str, node_id: str | None) -> Iterator[None]:
    """Shows the text with the seconds so far, so that a first step of some minutes does not look frozen."""
    begin = time.monotonic()
    done = threading.Event()

    def keep_telling() -> None:
        while not done.wait(SECONDS_BETWEEN_TEXTS):
            report.show_on_node(f"{text} · {time.monotonic() - begin:.0f} s", node_id)

    report.show_on_node(text, node_id)
    thread = threading.Thread(target=keep_telling, name="wavespeed progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
