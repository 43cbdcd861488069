"""The sentences of Compile Model+, and that a long first step says that it goes on."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from wavespeed import compile_report
from wavespeed.compile_regions import Compile

if TYPE_CHECKING:
    import pytest

FIRST = [("DoubleStreamBlock", Compile(20.5, 1, "")), ("SingleStreamBlock", Compile(11.0, 1, ""))]


def test_a_cold_start_names_what_took_how_long() -> None:
    assert compile_report.run_line("Flux", 2, 7, 28, 0, FIRST, []) == (
        "Flux · 2 regions, 7 blocks · compiled 100 % of calls · "
        "2 compiles (31.5 s: DoubleStreamBlock 20.5 s, SingleStreamBlock 11.0 s) · cold start"
    )


def test_a_warm_start_says_so() -> None:
    assert compile_report.run_line("Flux", 2, 7, 28, 0, [], [0.2, 0.15]) == (
        "Flux · 2 regions, 7 blocks · compiled 100 % of calls · 0 compiles · warm start: 2 loaded in 0.3 s"
    )


def test_a_compile_in_between_gives_its_reason_and_is_no_cold_start() -> None:
    again = [("Block", Compile(3.0, 1, "tensor 'L['args'][0]' size mismatch at index 0. expected 1, actual 2"))]
    assert compile_report.run_line("Wan", 1, 2, 9, 1, again, []) == (
        "Wan · 1 region, 2 blocks · compiled 90 % of calls · 1 compile (3.0 s) · "
        "compiled again because the batch size changed"
    )


def test_progress_goes_on_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []
    instance = SimpleNamespace(send_progress_text=lambda text, node_id: sent.append((node_id, text)))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    monkeypatch.setattr(compile_report, "SECONDS_BETWEEN_TEXTS", 0.01)
    with compile_report.progress("Compiling Block (1 of 2)", "7"):
        while len(sent) < 3:  # the limit of the test run stops a progress that does not go on
            time.sleep(0.01)
    told = len(sent)
    assert sent[0] == ("7", "Compiling Block (1 of 2)")
    assert sent[1] == ("7", "Compiling Block (1 of 2) · 0 s")
    time.sleep(0.05)
    assert len(sent) == told
