"""Sessions for models that are left by an exception on a hit, because their layers change the resolution and jump."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_model import SIGMA, evaluate, keys
from chain_model import assert_same, session_of
from torch import nn

from wavespeed import _native

pytestmark = [
    pytest.mark.skipif(_native.core is None, reason=_native.reason),
    pytest.mark.usefixtures("no_gradients"),
]


class Jumping(nn.Module):
    """Layers that change the number of channels and jump, as a UNet's do; `shrink` halves the resolution early."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(*channels, 3, padding=1) for channels in ((8, 16), (16, 16), (16, 32), (32, 16), (32, 16))
        )
        self.out = nn.Conv1d(16, 8, 1)
        self.counted = [0] * len(self.layers)
        self.shrink = False
        self.fail = False
        for number, layer in enumerate(self.layers):
            layer.register_forward_hook(lambda *_, number=number: self._count(number))

    def _count(self, number: int) -> None:
        self.counted[number] += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.tanh(self.layers[0](x))
        h = kept + torch.tanh(self.layers[1](kept))
        if self.shrink:
            h = h[..., ::2]
        skipped = h
        h = torch.tanh(self.layers[2](h))
        if self.fail:
            raise ValueError("the model's own")
        h = torch.tanh(self.layers[3](h))
        h = self.layers[4](torch.cat((h, skipped), 1))
        return self.out(h)


def exit_session(model: Jumping, **settings: Any) -> Any:
    hooks = [
        (model, "whole", 0, "_forward"),
        (model.layers[1], "entry"),
        (model.layers[2], "exit"),
        (model.out, "final"),
    ]
    return session_of((), hooks, **settings)


@pytest.mark.parametrize("metric", ["output", "residual"])
def test_a_hit_leaves_the_model_after_the_kept_layers(metric: str) -> None:
    model, x = Jumping(), torch.randn(2, 8, 12)
    plain = model(x)
    model.counted = [0] * 5
    session = exit_session(model, metric=metric)
    assert torch.equal(evaluate(session, model, x), plain)
    assert model.counted == [1] * 5
    assert_same(evaluate(session, model, x), plain)
    assert model.counted == [2, 2, 1, 1, 1]
    assert session.statistics()["reused"] == 1
    assert "_forward" not in vars(model)


def test_a_resolution_that_changes_within_the_first_block_is_computed_without_switching_off() -> None:
    model, x = Jumping(), torch.randn(1, 8, 12)
    session = exit_session(model)
    model.shrink = True
    shrunk = model(x)
    assert torch.equal(evaluate(session, model, x), shrunk)
    assert torch.equal(evaluate(session, model, x), shrunk)
    model.shrink = False
    plain = model(x)
    assert torch.equal(evaluate(session, model, x), plain)
    assert_same(evaluate(session, model, x), plain)
    statistics = session.statistics()
    assert (statistics["reused"], statistics["disabled"]) == (1, None)


def test_exceptions_of_the_model_pass_through_the_early_exit() -> None:
    model, x = Jumping(), torch.randn(1, 8, 12)
    session = exit_session(model)
    plain = evaluate(session, model, x)
    model.fail = True
    with pytest.raises(ValueError, match="the model's own"):
        evaluate(session, model, x + 5)
    model.fail = False
    assert torch.equal(evaluate(session, model, x), plain)


def test_a_layer_called_outside_of_the_model_does_not_leave_anything() -> None:
    """The exception has nowhere to go then."""
    model, x = Jumping(), torch.randn(1, 8, 12)
    session = exit_session(model)
    evaluate(session, model, x)
    session.begin_evaluation()
    assert session.open_call(keys(0), SIGMA)
    kept = torch.tanh(model.layers[0](x))
    model.layers[2](kept + torch.tanh(model.layers[1](kept)))
    assert session.close_call(True) is True  # decided as a hit that nobody used: run it again
