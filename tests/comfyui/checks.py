"""What "beside another node" must mean: exact on a miss, consistent on a hit."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import NEVER, Evaluation, difference_of_norms
from tiny_models import conditioning

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
    assert difference_of_norms(twice.outputs[1], twice.outputs[0]) <= TOLERANCE


def evaluated_twice(comfy: ComfyUI, model: Any, family: str, **how: Any) -> Evaluated:
    return comfy.evaluate(model, family, [Evaluation(), Evaluation()], **how)


def custom_run(
    model: Any, family: str, sigmas: torch.Tensor, latent: torch.Tensor, *, cfg: float = 2.0, sampler: Any = None
) -> torch.Tensor:
    """A run through sigmas of the test's own. sampler: a SAMPLER, without one euler."""
    import comfy.sample
    import comfy.samplers

    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model,
            torch.zeros_like(latent),
            cfg,
            sampler or comfy.samplers.sampler_object("euler"),
            sigmas,
            conditioning(family),
            conditioning(family, seed=2),
            latent,
            disable_pbar=True,
            seed=1,
        )


FLUX_CONTROL = {"input": [(TOKENS, WIDTH)] * 3, "output": [(TOKENS, WIDTH)] * 4}
"""What a ControlNet gives to the tiny Flux: one tensor per block."""


def control_net(sizes: dict[str, list[tuple[int, ...]]] | None = None, seed: int = 3) -> Any:
    """A ControlNet that adds noise of its own to what every block gives, as core's do, in place.

    sizes: of the tensors per stage, without the batch; the model takes them in the order that is its own.
    """
    from comfy.controlnet import ControlBase

    stages = sizes or FLUX_CONTROL

    class NoiseControl(ControlBase):
        def get_control(self, x_noisy: torch.Tensor, *_unused: Any) -> dict[str, list[torch.Tensor]]:
            generator = torch.Generator().manual_seed(seed)
            return {
                stage: [torch.randn((x_noisy.shape[0], *size), generator=generator) * 0.3 for size in given]
                for stage, given in stages.items()
            }

        def copy(self) -> NoiseControl:
            return NoiseControl()

    return NoiseControl()
