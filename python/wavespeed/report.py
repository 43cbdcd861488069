"""What a run did, in words: one line on the node and one in the log."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("wavespeed")


def small_number(value: float) -> str:
    """At least two significant digits without the zero before the point: .09, .0013, 1.23; 0 is 0."""
    if value == 0:
        return "0"
    text = f"{value:.2f}" if value >= 0.1 else f"{value:.2g}" if value >= 0.0001 else f"{value:.1e}"
    return text[1:] if text.startswith("0.") else text


def bytes_text(count: int) -> str:
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GiB"
    if count >= 1 << 20:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / (1 << 10):.0f} KiB"


def why_nothing_was_reused(statistics: dict[str, Any], threshold: float, strategy: str) -> str:
    """The main reason in a few words; empty when a run was too short to reuse anything."""
    reasons = statistics["reasons"]
    if reasons["not_finite"]:
        return "the model gave NaN or infinite values"
    if reasons["changed"] and reasons["changed"] >= max(reasons["sigma"], reasons["hits"]):
        if strategy == "forecast":  # its threshold is for weighted changes that add up, not for a single one
            return f"too much changed from step to step for the threshold {small_number(threshold)}"
        smallest = small_number(statistics["change_min"])
        return f"the smallest change was {smallest}, the threshold is {small_number(threshold)}"
    if reasons["sigma"]:
        return "start and end leave no step to reuse"
    return ""


def share_of_plan(statistics: dict[str, Any], speedup: float) -> str:
    """What a set speedup asked for and what came of it, in per cent of the evaluations."""
    evaluations, computed = statistics["evaluations"], statistics["computed"]
    text = f"computed {100 * computed / evaluations:.0f} %, asked {100 / speedup:.0f} %"
    kept = statistics["reasons"]["sigma"] + statistics["reasons"]["hits"]
    if computed > 1.05 * evaluations / speedup + 1 and kept:
        return f"{text}: start, end or max_consecutive_cache_hits kept {kept}"
    return text


NEVER_CALLED = "the first block was never called (another node may replace or skip it)"


def run_line(
    family: str,
    statistics: dict[str, Any],
    threshold: float,
    strategy: str,
    speedup: float = 0.0,
    refusals: Iterable[str] = (),
) -> str:
    """For example: Flux · 28 evaluations: 16 computed, 12 reused (43 %) · mean change .09 · cache 3.1 MiB

    refusals: why calls were made without the cache; told when no call was made with it.
    """
    evaluations, reused = statistics["evaluations"], statistics["reused"]
    if statistics["disabled"]:
        return f"{family} · cache off: {statistics['disabled']}"
    if not evaluations:
        return f"{family} · cache idle: {'; '.join(sorted(refusals)) or NEVER_CALLED}"
    share = f" ({100 * reused / evaluations:.0f} %)" if reused else ""
    counted = "1 evaluation" if evaluations == 1 else f"{evaluations} evaluations"
    parts = [f"{family} · {counted}: {statistics['computed']} computed, {reused} reused{share}"]
    if speedup:
        parts.append(share_of_plan(statistics, speedup))
    if statistics["compared"]:
        parts.append(f"mean change {small_number(statistics['change_sum'] / statistics['compared'])}")
    parts.append(f"cache {bytes_text(statistics['bytes'])}")
    reason = "" if reused or speedup else why_nothing_was_reused(statistics, threshold, strategy)
    return " · ".join(parts) + (f" · nothing reused: {reason}" if reason else "")


def show_on_node(text: str, node_id: str | None) -> None:
    """Puts one line of text on a node in the editor, where there is a server with an editor."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    send = getattr(server, "send_progress_text", None)
    if send is not None and node_id is not None:
        send(text, node_id)


def tell(text: str, node_id: str | None, speaker: str = "First Block Cache") -> None:
    """On the node and in the log."""
    show_on_node(text, node_id)
    log.info("%s: %s", speaker, text)
