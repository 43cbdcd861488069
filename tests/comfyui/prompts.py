"""API prompts for a running ComfyUI: the embedded demo model from loader to picture."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from comfyui_result import Prompt, Result, Runner

CACHE, SAMPLER = "cache", "sampler"
OLD_WIDGETS: dict[str, Any] = {"object_to_patch": "diffusion_model", "residual_diff_threshold": 0.12}
"""What a prompt of Comfy-WaveSpeed's first versions carries."""


def picture(*, cache: dict[str, Any] | None = None, seed: int = 1, steps: int = 28, prefix: str = "test") -> Prompt:
    """cache: the inputs of our node beside the model; None leaves the node out."""
    model = ["unet", 0]
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "unet": ("UNETLoader", {"unet_name": "wavespeed_demo_flux.safetensors", "weight_dtype": "default"}),
        "vae": ("VAELoader", {"vae_name": "wavespeed_demo_vae.safetensors"}),
        "positive": ("WaveSpeedDemoPrompt", {"subject": "sunflower"}),
        "negative": ("WaveSpeedDemoPrompt", {"subject": "nothing in particular"}),
        "latent": ("EmptySD3LatentImage", {"width": 128, "height": 128, "batch_size": 1}),
    }
    if cache is not None:
        nodes[CACHE] = ("ApplyFBCacheOnModel", {"model": model, **cache})
        model = [CACHE, 0]
    nodes[SAMPLER] = (
        "KSampler",
        {
            "model": model,
            "seed": seed,
            "steps": steps,
            "cfg": 3.0,
            "sampler_name": "euler",
            "scheduler": "simple",
            "positive": ["positive", 0],
            "negative": ["negative", 0],
            "latent_image": ["latent", 0],
            "denoise": 1.0,
        },
    )
    nodes["decode"] = ("VAEDecode", {"samples": [SAMPLER, 0], "vae": ["vae", 0]})
    nodes["save"] = ("SaveImage", {"images": ["decode", 0], "filename_prefix": prefix})
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def pixels(runner: Runner, result: Result) -> bytes:
    """The first picture that a prompt saved, without the file's metadata."""
    from PIL import Image

    assert result.status == "success", result.error
    files: list[Path] = runner.images(result)
    with Image.open(files[0]) as image:
        return image.convert("RGB").tobytes()


def changed(prompt: Prompt, node: str, **inputs: Any) -> Prompt:
    """A copy of a prompt with other inputs of one node."""
    other = copy.deepcopy(prompt)
    other[node]["inputs"].update(inputs)
    return other
