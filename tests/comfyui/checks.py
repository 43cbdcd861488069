"""What "beside another node" must mean: exact on a miss, consistent on a hit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import NEVER, Evaluation, relative_difference

if TYPE_CHECKING:
    from in_process import ComfyUI, Evaluated

TOLERANCE = 1e-6
SHORT = 6
TOKENS, WIDTH = 64, 128
"""Of the tiny Flux."""


def node(module: str, name: str) -> Any:
    """A node of core's comfy_extras, or a skipped test where this ComfyUI does not have it."""
    try:
        return getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    except (ImportError, AttributeError) as problem:
        pytest.skip(f"This ComfyUI has no node {name} ({problem}).")


def assert_exact(comfy: ComfyUI, model: Any, family: str = "flux_dev", *, cfg: float = 2.0, **how: Any) -> None:
    """Always missing equals the plain run bit for bit; a hit on unchanged input equals the computed output."""
    plain = comfy.sample(model, family, steps=SHORT, cfg=cfg, **how)
    missed = comfy.sample(comfy.cached(model, NEVER), family, steps=SHORT, cfg=cfg, **how)
    assert torch.isfinite(plain.latent).all()
    assert torch.equal(missed.latent, plain.latent)
    twice = evaluated_twice(comfy, comfy.cached(model), family, cfg=cfg, **how)
    assert twice.run.counts == (2, 1, 1)
    assert sum(twice.calls[1]) < sum(twice.calls[0])
    assert relative_difference(twice.outputs[1], twice.outputs[0]) <= TOLERANCE


def evaluated_twice(comfy: ComfyUI, model: Any, family: str, **how: Any) -> Evaluated:
    return comfy.evaluate(model, family, [Evaluation(), Evaluation()], **how)


def control_net(seed: int = 3, stages: dict[str, int] | None = None, channels: int = WIDTH) -> Any:
    """A ControlNet that adds noise of its own to what every block gives, as core's do, in place."""
    from comfy.controlnet import ControlBase

    counts = stages or {"input": 3, "output": 4}

    class NoiseControl(ControlBase):
        def get_control(self, x_noisy: torch.Tensor, *_unused: Any) -> dict[str, list[torch.Tensor]]:
            generator = torch.Generator().manual_seed(seed)
            shape = (x_noisy.shape[0], TOKENS, channels)
            return {
                stage: [torch.randn(shape, generator=generator) * 0.3 for _ in range(count)]
                for stage, count in counts.items()
            }

        def copy(self) -> NoiseControl:
            return NoiseControl()

    return NoiseControl()
