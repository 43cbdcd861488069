"""What compiling did, in words, for the node and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compile_regions import Compile

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


def run_line(name: str, regions: int, blocks: int, compiled: int, eager: int, compiles: list[Compile]) -> str:
    """For example: Flux · 2 regions, 7 blocks · compiled 100 % of calls · 2 compiles (31 s)"""
    calls = compiled + eager
    share = f"{100 * compiled / calls:.0f} %" if calls else "none"
    parts = [f"{name} · {count(regions, 'region')}, {count(blocks, 'block')}", f"compiled {share} of calls"]
    return " · ".join([*parts, compiles_text(compiles)])


def compiles_text(compiles: list[Compile]) -> str:
    """How many, their seconds, and why there was more than the first."""
    text = count(len(compiles), "compile") + (f" ({sum(c.seconds for c in compiles):.1f} s)" if compiles else "")
    reasons = sorted({words for compile_ in compiles if (words := plain_reason(compile_.reason))})
    return text + (f" · compiled again because {' and '.join(reasons)}" if reasons else "")


def count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
