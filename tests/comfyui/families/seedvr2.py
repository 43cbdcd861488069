"""SeedVR2: it restores a video in one step."""

from __future__ import annotations

from typing import Any

import torch
from family import Family

SEEDVR2: dict[str, Any] = {
    "image_model": "seedvr2",
    "vid_dim": 64,
    "heads": 2,
    "head_dim": 32,
    "num_layers": 4,
    "mm_layers": 2,
    "rope_dim": 32,
    "norm_eps": 1e-5,
    "mlp_type": "swiglu",
    "vid_out_norm": True,
}
TEXT = 5120
LATENT = (1, 16, 1, 8, 8)


def _video(generator: torch.Generator) -> dict[str, Any]:
    """The latents to be restored and which of them are given."""
    return {"condition": torch.randn(1, 17, *LATENT[2:], generator=generator)}


FAMILIES = {
    "seedvr2": Family(
        "comfy.ldm.seedvr.model.NaDiT",
        SEEDVR2,
        ("blocks",),
        LATENT,
        context=TEXT,
        core_config="SeedVR2",
        extra=_video,
    )
}
