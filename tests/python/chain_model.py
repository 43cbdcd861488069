"""A list of blocks that does not end at a head, and sessions for models of any structure."""

from __future__ import annotations

from typing import Any

import torch
from block_model import SINGLE, WIDTH, SingleBlock, real_operations
from torch import nn

from wavespeed import _native

Hooks = list[tuple[Any, ...]]


class Chain(nn.Module):
    """One list of blocks and a head in inline code, which no hook can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SingleBlock() for _ in range(4))
        self.inlet, self.outlet = nn.Linear(8, WIDTH), nn.Linear(WIDTH, 8)
        self.control: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inlet(x)
        vec = h.mean(1, keepdim=True)
        for block in self.blocks:
            h = block(h, vec)
            if self.control is not None:
                h += self.control
        return self.outlet(torch.tanh(h))

    def calls(self) -> list[int]:
        counted = [block.calls for block in self.blocks]
        for block in self.blocks:
            block.calls = 0
        return counted


def session_of(stages: tuple[Any, ...], hooks: Hooks, **settings: Any) -> Any:
    arguments = {
        "threshold": 0.1,
        "sigma_start": 1.0,
        "sigma_end": 0.0,
        "max_consecutive_hits": -1,
        "metric": "residual",
        "stages": stages,
        "hooks": hooks,
        "operations": real_operations(),
    }
    return _native.core.Session(**(arguments | settings))


def blocks_of(*lists: nn.ModuleList) -> Hooks:
    """first, block ..., last"""
    found: Hooks = [(block, "block", stage) for stage, blocks in enumerate(lists) for block in blocks]
    found[0] = (found[0][0], "first", 0)
    found[-1] = (found[-1][0], "last", len(lists) - 1)
    return found


def chain_session(model: Chain, **settings: Any) -> Any:
    return session_of((SINGLE,), blocks_of(model.blocks), **settings)


def assert_same(reused: torch.Tensor, computed: torch.Tensor) -> None:
    assert torch.allclose(reused, computed, rtol=0, atol=1e-6)
