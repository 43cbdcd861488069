"""A pack for tests only: tiny models with random weights and what goes with them, for prompts to a running ComfyUI.

They take the places of loaders and text encoders, whose real files are gigabytes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import torch

# The support modules beside this folder, which custom_nodes only links to, and what they import.
TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent.parent / "tools")]

from checks import control_net  # noqa: E402
from families import FAMILIES  # noqa: E402
from family import build, conditioning  # noqa: E402

FAMILY = ("STRING", {"default": "flux_dev"})


class TinyNode:
    CATEGORY = "tests"
    FUNCTION = "run"
    INPUTS: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = {}

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": cls.INPUTS}


class TinyModel(TinyNode):
    RETURN_TYPES = ("MODEL",)
    INPUTS: ClassVar = {"family": FAMILY, "seed": ("INT", {})}

    def run(self, family: str, seed: int) -> tuple[Any]:
        return (build(FAMILIES[family], seed=seed),)


class TinyConditioning(TinyNode):
    RETURN_TYPES = ("CONDITIONING",)
    INPUTS: ClassVar = {"family": FAMILY, "seed": ("INT", {})}

    def run(self, family: str, seed: int) -> tuple[Any]:
        return (conditioning(FAMILIES[family], seed=seed),)


class TinyControlNet(TinyNode):
    """Adds noise of its own to what the blocks of the tiny Flux give, at 128 x 128 pixels."""

    RETURN_TYPES = ("CONTROL_NET",)

    def run(self) -> tuple[Any]:
        return (control_net(),)


class TinySound(TinyNode):
    """The second latent of a family that makes video and sound."""

    RETURN_TYPES = ("LATENT",)
    INPUTS: ClassVar = {"family": FAMILY}

    def run(self, family: str) -> tuple[Any]:
        return ({"samples": torch.zeros(FAMILIES[family].more_latents[0]), "type": "audio"},)


class LatentReport(TinyNode):
    """Ends a prompt that has no picture, and says whether all numbers of the latent are finite."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    INPUTS: ClassVar = {"latent": ("LATENT", {})}

    def run(self, latent: dict[str, Any]) -> dict[str, Any]:
        samples = latent["samples"]
        parts = samples.unbind() if samples.is_nested else [samples]
        return {"ui": {"finite": [bool(torch.isfinite(part).all()) for part in parts]}}


NODE_CLASS_MAPPINGS = {
    node.__name__: node for node in (TinyModel, TinyConditioning, TinyControlNet, TinySound, LatentReport)
}
