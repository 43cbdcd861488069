"""PixelDiT and its relative PiD: transformers in pixels."""

from __future__ import annotations

from typing import Any

import torch
from family import Family

PIXELDIT: dict[str, Any] = {
    "image_model": "pixeldit_t2i",
    "hidden_size": 64,
    "num_groups": 1,
    "pixel_hidden_size": 16,
    "pixel_attn_hidden_size": 64,
    "pixel_num_groups": 1,
    "patch_depth": 4,
    "pixel_depth": 1,
    "txt_embed_dim": 64,
}
PID = {**PIXELDIT, "image_model": "pid", "lq_hidden_dim": 32, "lq_num_res_blocks": 1}
# Source: nvidia/PixelDiT-1300M-1024px model card.
PIXELDIT_PUBLISHED = {
    "hidden_size": 1536,
    "num_groups": 24,
    "pixel_hidden_size": 16,
    "pixel_attn_hidden_size": 1152,
    "pixel_num_groups": 16,
    "patch_depth": 14,
    "pixel_depth": 2,
    "txt_embed_dim": 2304,
}
PICTURE = (1, 3, 64, 64)
STAGES = ("patch_blocks",)


def _degraded(generator: torch.Generator) -> dict[str, Any]:
    return {"lq_latent": torch.randn(1, 16, 2, 2, generator=generator), "degrade_sigma": torch.zeros(1)}


def _heed_the_trunk(diffusion_model: Any) -> None:
    """The pixels are modulated by what the trunk gives; with calm weights there it would hardly show."""
    with torch.no_grad():
        for name, weight in diffusion_model.pixel_blocks.named_parameters():
            if "adaLN" in name and name.endswith("weight"):
                weight *= 50


FAMILIES = {
    "pixeldit": Family(
        "comfy.ldm.pixeldit.model.PixDiT_T2I",
        PIXELDIT,
        STAGES,
        PICTURE,
        core_config="PixelDiTT2I",
        calm_weight=1.0,
        published=PIXELDIT_PUBLISHED,
        published_parameters=1.3,
        change=_heed_the_trunk,
    ),
    "pid": Family("comfy.ldm.pixeldit.pid.PidNet", PID, STAGES, PICTURE, core_config="PiD", extra=_degraded),
}
