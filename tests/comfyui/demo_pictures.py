"""Latents of the demo model, whose likeness says something: it is trained, the tiny models are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from in_process import ComfyUI

DEMO_STEPS = 28
SUBJECTS = ("apple", "tree", "smile", "pumpkin")


def demo_model(comfy: ComfyUI) -> Any:
    return comfy.call("UNETLoader", unet_name="wavespeed_demo_flux.safetensors", weight_dtype="default")


def draw(comfy: ComfyUI, patched: Any, subject: str, steps: int) -> torch.Tensor:
    """(1, 16, 16, 16); the seed goes with the subject."""
    with torch.inference_mode():
        return comfy.call(
            "KSampler",
            model=patched,
            seed=SUBJECTS.index(subject),
            steps=steps,
            cfg=3.0,
            sampler_name="euler",
            scheduler="simple",
            positive=comfy.call("WaveSpeedDemoPrompt", subject=subject),
            negative=comfy.call("WaveSpeedDemoPrompt", subject="nothing in particular"),
            latent_image={"samples": torch.zeros(1, 16, 16, 16)},
            denoise=1.0,
        )["samples"]


def distance_in_decibels(latent: torch.Tensor, full: torch.Tensor) -> float:
    return (10 * torch.log10(full.square().mean() / (latent - full).square().mean())).item()
