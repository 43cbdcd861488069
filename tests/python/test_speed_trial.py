"""Compiled code that is not faster goes back to the block as it is, and says so: measured, with inductor on the CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch._dynamo

from wavespeed.compile_regions import Region, Regions, Request
from wavespeed.speed_trial import PAIRS, WARM_CALLS
from wavespeed.warm_start import WarmStart

REQUEST = Request(backend="inductor", options={}, fullgraph=False, dynamic=False, canonical="backend=inductor")


class Short(torch.nn.Module):
    """One addition: calling compiled code takes longer than that."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 1


class Long(torch.nn.Module):
    """Two hundred passes, which compiled code makes in one."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for number in range(200):
            hidden = hidden * 0.99 + number
        return hidden


def region_after_trial(block: torch.nn.Module) -> tuple[Region, list[bool]]:
    torch._dynamo.reset()
    region = Regions(WarmStart(None)).get(type(block).__name__, type(block).forward, REQUEST, ("a block",))
    compiled: list[bool] = []
    hidden = torch.randn(1, 4, 8)
    with torch.inference_mode():
        for _ in range(1 + WARM_CALLS + PAIRS + 1):
            result, by_compiled = region.call(block, (hidden,), {})
            torch.testing.assert_close(result, block(hidden))
            compiled.append(by_compiled)
    return region, compiled


def test_what_is_slower_compiled_runs_as_it_is() -> None:
    region, compiled = region_after_trial(Short())
    assert compiled == [True] * (1 + WARM_CALLS + PAIRS) + [False]
    assert region.stopped.startswith("Short takes ")
    assert region.stopped.endswith(" ms as it is, so it runs as it is.")


def test_what_is_faster_compiled_stays() -> None:
    region, compiled = region_after_trial(Long())
    assert all(compiled)
    assert region.stopped == ""
    assert region.trial is not None
    assert region.trial.compiled <= region.trial.eager


def test_a_trial_changes_no_hidden_state() -> None:
    """Blocks write into what they are given."""

    class Writing(torch.nn.Module):
        def forward(self, hidden: torch.Tensor, kept: list[Any]) -> torch.Tensor:
            kept[0] = hidden.mean()
            return hidden.add_(1)

    block = Writing()
    region = Regions(WarmStart(None)).get("Writing", Writing.forward, REQUEST, ("a block",))
    with torch.inference_mode():
        for _ in range(1 + WARM_CALLS + PAIRS):
            hidden, kept = torch.zeros(1, 4, 8), [None]
            region.call(block, (hidden, kept), {})
            assert torch.equal(hidden, torch.ones(1, 4, 8))
            assert torch.equal(kept[0], torch.tensor(0.0))
