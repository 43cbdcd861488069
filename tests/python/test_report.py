"""The sentences a user reads after a run, word for word."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from wavespeed import report

MIB = 1 << 20


def statistics(**changed: Any) -> dict[str, Any]:
    numbers = {
        "evaluations": 28,
        "computed": 16,
        "reused": 12,
        "compared": 27,
        "change_sum": 27 * 0.09,
        "change_min": 0.02,
        "change_max": 0.4,
        "bytes": int(3.1 * MIB),
        "disabled": None,
    }
    reasons = {"no_entry": 1, "changed": 15, "planned": 0, "not_finite": 0, "sigma": 0, "hits": 0}
    reasons |= changed.pop("reasons", {})
    return numbers | changed | {"reasons": reasons}


def test_a_run_with_reuse() -> None:
    expected = "Flux · 28 evaluations: 16 computed, 12 reused (43 %) · mean change .09 · cache 3.1 MiB"
    assert report.run_line("Flux", statistics(), 0.12, "classic") == expected


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"computed": 28, "reused": 0, "reasons": {"changed": 27}},
            (
                "Flux · 28 evaluations: 28 computed, 0 reused · mean change .09 · cache 3.1 MiB"
                " · nothing reused: the smallest change was .02, the threshold is .01"
            ),
        ),
        (
            {"computed": 28, "reused": 0, "compared": 0, "reasons": {"changed": 0, "sigma": 27}},
            (
                "Flux · 28 evaluations: 28 computed, 0 reused · cache 3.1 MiB"
                " · nothing reused: start and end leave no step to reuse"
            ),
        ),
        (
            {"computed": 28, "reused": 0, "compared": 0, "reasons": {"changed": 0, "not_finite": 27}},
            (
                "Flux · 28 evaluations: 28 computed, 0 reused · cache 3.1 MiB"
                " · nothing reused: the model gave NaN or infinite values"
            ),
        ),
        (
            {"evaluations": 1, "computed": 1, "reused": 0, "compared": 0, "reasons": {"changed": 0}},
            "Flux · 1 evaluation: 1 computed, 0 reused · cache 3.1 MiB",
        ),
        (
            {"evaluations": 0, "computed": 0, "reused": 0},
            "Flux · cache idle: the first block was never called (another node may replace or skip it)",
        ),
        (
            {"disabled": "its last layer was never called"},
            "Flux · cache off: its last layer was never called",
        ),
    ],
)
def test_a_run_without_reuse_says_why(changed: dict[str, Any], sentence: str) -> None:
    assert report.run_line("Flux", statistics(**changed), 0.01, "classic") == sentence


def test_a_forecast_without_reuse_does_not_compare_its_threshold_with_a_single_change() -> None:
    line = report.run_line("Flux", statistics(computed=28, reused=0, reasons={"changed": 27}), 0.01, "forecast")
    assert line.endswith(" · nothing reused: too much changed from step to step for the threshold .01")


def test_a_speedup_says_what_share_was_asked_for_and_what_came_of_it() -> None:
    line = report.run_line("Flux", statistics(computed=14, reused=14), 0.0, "forecast", 2.0)
    assert line == (
        "Flux · 28 evaluations: 14 computed, 14 reused (50 %) · computed 50 %, asked 50 %"
        " · mean change .09 · cache 3.1 MiB"
    )


def test_a_speedup_that_was_not_reached_says_what_was_in_its_way() -> None:
    numbers = statistics(computed=20, reused=8, reasons={"sigma": 12, "hits": 2})
    line = report.run_line("Flux", numbers, 0.0, "forecast", 2.0)
    assert " · computed 71 %, asked 50 %: start, end or max_consecutive_cache_hits kept 14 · " in line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.09, ".09"), (0.123, ".12"), (0.0999, ".1"), (0.5, ".50"), (1.234, "1.23"), (0.0013, ".0013"),
        (0.00013, ".00013"), (0.0, "0"), (0.00001234, "1.2e-05"),
    ],
)  # fmt: skip
def test_small_numbers_keep_two_digits(value: float, text: str) -> None:
    assert report.small_number(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 KiB"), (65536, "64 KiB"), (int(3.1 * MIB), "3.1 MiB"), (3 << 30, "3.0 GiB")],
)
def test_bytes_are_readable(count: int, text: str) -> None:
    assert report.bytes_text(count) == text


def test_no_line_looks_like_a_failure_to_comfyui() -> None:
    """ComfyUI's start-up check searches the log for these words."""
    lines = [report.run_line("Flux", statistics(reused=reused), 0.1, "classic") for reused in (0, 12)]
    assert not [line for line in lines if "Error" in line or "Exception" in line]


def test_text_goes_to_the_node_and_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[tuple[str, str]] = []
    instance = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append((text, node_id)))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    with caplog.at_level(logging.INFO, logger="wavespeed"):
        report.tell("done", "7")
        report.tell("without a node", None)
    assert sent == [("done", "7")]
    assert caplog.messages == ["First Block Cache: done", "First Block Cache: without a node"]


@pytest.mark.parametrize(
    "server",
    [None, SimpleNamespace(), SimpleNamespace(PromptServer=SimpleNamespace()),
     SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace()))],
)  # fmt: skip
def test_without_an_editor_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    """Scripts drive ComfyUI without its server, and older servers cannot show text."""
    monkeypatch.setitem(sys.modules, "server", server)
    assert report.show_on_node("text", "7") is None
