"""The demo model in diffusers, on which tests/bench/quality.py measures cache-dit, is the demo model in ComfyUI."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from demo_pictures import DEMO_STEPS, demo_model, distance_in_decibels, draw
from safetensors.torch import load_file

from comfyui_tree import ROOT

sys.path.insert(0, str(ROOT / "tests" / "bench"))

from cache_dit_runs import CONFIGURATIONS, NO_LIMIT, WEIGHTS, CacheDit, missing_package
from diffusers_flux import diffusers_flux, in_place_of_comfyui, velocity

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel
    from in_process import ComfyUI

MISSING = missing_package()
pytestmark = pytest.mark.skipif(
    MISSING is not None, reason=f"{MISSING} is not installed; tests/bench/cache_dit_runs.py says how to"
)
SINGLE_PRECISION = 1e-5
"""Relative; both models compute in fp32, in their own order."""
SAME_PICTURE = 100
"""dB."""


@pytest.fixture(scope="module")
def transformer() -> FluxTransformer2DModel:
    return diffusers_flux(load_file(WEIGHTS))


@pytest.fixture(scope="module")
def plain(comfy: ComfyUI) -> tuple[Any, torch.Tensor]:
    """The demo model and the latent that it draws."""
    model = demo_model(comfy)
    return model, draw(comfy, model, "tree", DEMO_STEPS)


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
@pytest.mark.parametrize(("sigma", "guidance"), [(1.0, 0.0), (0.7, 5.0), (0.3, 60.0), (0.02, 23.0)])
def test_one_forward(
    plain: tuple[Any, torch.Tensor],
    transformer: FluxTransformer2DModel,
    sigma: float,
    guidance: float,
    size: tuple[int, int],
) -> None:
    """With a batch, every kind of conditioning, and a picture that is not square."""
    torch.manual_seed(0)
    latent, context = torch.randn(2, 16, *size), torch.randn(2, 3, 1024)
    sigmas, guidances = torch.full((2,), sigma), torch.full((2,), guidance)
    with torch.inference_mode():
        flux = plain[0].model.diffusion_model
        expected = flux(latent, sigmas, context, None, guidances, transformer_options={})
        result = velocity(transformer, latent, sigmas, context, guidances)
    assert (result - expected).norm() <= SINGLE_PRECISION * expected.norm()


def test_a_run(comfy: ComfyUI, plain: tuple[Any, torch.Tensor], transformer: FluxTransformer2DModel) -> None:
    """With a positive and a negative prompt."""
    model, expected = plain
    latent = draw(comfy, in_place_of_comfyui(model, transformer), "tree", DEMO_STEPS)
    assert distance_in_decibels(latent, expected) > SAME_PICTURE


@pytest.mark.parametrize("name", ["cache-dit F2B0 W8", "cache-dit F1B0 W3 MC3 TaylorSeer"])
def test_cache_dit_that_computes_everything(comfy: ComfyUI, plain: tuple[Any, torch.Tensor], name: str) -> None:
    model, expected = plain
    shares: list[float] = []
    patched = CacheDit(shares.append).patched(model, CONFIGURATIONS[name], 0.0, cfg=3.0)
    latent = draw(comfy, patched, "tree", DEMO_STEPS)
    assert distance_in_decibels(latent, expected) > SAME_PICTURE
    assert sum(shares) == pytest.approx(DEMO_STEPS)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cache_dit_that_reuses_whatever_it_may(comfy: ComfyUI, plain: tuple[Any, torch.Tensor], name: str) -> None:
    """From a threshold of 1 on it computes the warm-up, what its limit in a row asks for, and the first blocks."""
    model, expected = plain
    configuration = CONFIGURATIONS[name]
    shares: list[float] = []
    latent = draw(comfy, CacheDit(shares.append).patched(model, configuration, 1.0, cfg=3.0), "tree", DEMO_STEPS)
    assert torch.isfinite(latent).all()
    assert distance_in_decibels(latent, expected) < SAME_PICTURE
    computed, in_a_row = configuration.warm_up, configuration.left_out_in_a_row
    if in_a_row != NO_LIMIT:
        computed += (DEMO_STEPS - computed) // (in_a_row + 1)
    of_first_blocks = (configuration.first_blocks - 1) / 11 * (DEMO_STEPS - computed)
    assert sum(shares) == pytest.approx(computed + of_first_blocks)
