"""Image models whose blocks read the text by cross attention: PixArt-alpha, PixArt-Sigma, HunyuanDiT."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

PIXART_SIGMA: dict[str, Any] = {
    "image_model": "pixart_sigma",
    "hidden_size": 96,
    "num_heads": 2,
    "depth": 4,
    "caption_channels": 64,
    "model_max_length": 16,
    "micro_condition": False,
}
PIXART_ALPHA = {**PIXART_SIGMA, "image_model": "pixart_alpha", "micro_condition": True}
# Source: PixArt-alpha/PixArt-sigma diffusion/model/nets/PixArtMS.py (PixArtMS_XL_2), README.md, and for the text
# configs/pixart_sigma_config; huggingface/diffusers scripts/convert_pixart_alpha_to_diffusers.py.
PIXART_XL_2 = {"hidden_size": 1152, "num_heads": 16, "depth": 28, "caption_channels": 4096, "model_max_length": 300}
PIXART_ALPHA_XL_2 = {**PIXART_XL_2, "model_max_length": 120}
PIXART_LATENT = (1, 4, 34, 34)
"""Smaller latents have no position embedding: its base size is rounded to 0."""
HUNYUAN_DIT: dict[str, Any] = {
    "image_model": "hydit",
    "hidden_size": 128,
    "num_heads": 4,
    "depth": 6,
    "text_states_dim": 64,
    "text_states_dim_t5": 32,
    "text_len": TOKENS,
    "text_len_t5": TOKENS,
}
# Source: Tencent-Hunyuan/HunyuanDiT hydit/modules/models.py (DiT-g/2), hydit/config.py and README.md.
HUNYUAN_DIT_PUBLISHED = {
    "hidden_size": 1408,
    "num_heads": 16,
    "depth": 40,
    "mlp_ratio": 4.3637,
    "text_states_dim": 1024,
    "text_states_dim_t5": 2048,
    "text_len": 77,
    "text_len_t5": 256,
}
HUNYUAN_DIT_1 = {**HUNYUAN_DIT, "image_model": "hydit1", "size_cond": True, "use_style_cond": True}


def _second_text(generator: torch.Generator) -> dict[str, Any]:
    mask = torch.ones(1, TOKENS, dtype=torch.long)
    width = HUNYUAN_DIT["text_states_dim_t5"]
    return {
        "attention_mask": mask,
        "conditioning_mt5xl": torch.randn(1, TOKENS, width, generator=generator),
        "attention_mask_mt5xl": mask,
    }


PIXART_CLASS = "comfy.ldm.pixart.pixartms.PixArtMS"
HUNYUAN_DIT_CLASS = "comfy.ldm.hydit.models.HunYuanDiT"
FAMILIES = {
    "pixart_alpha": Family(
        PIXART_CLASS,
        PIXART_ALPHA,
        ("blocks",),
        PIXART_LATENT,
        core_config="PixArtAlpha",
        timed="t_block",
        published=PIXART_ALPHA_XL_2,
        published_parameters=0.6,
    ),
    "pixart_sigma": Family(
        PIXART_CLASS,
        PIXART_SIGMA,
        ("blocks",),
        PIXART_LATENT,
        core_config="PixArtSigma",
        timed="t_block",
        published=PIXART_XL_2,
        published_parameters=0.6,
    ),
    "hunyuan_dit": Family(
        HUNYUAN_DIT_CLASS,
        HUNYUAN_DIT,
        ("blocks",),
        (1, 4, 16, 16),
        core_config="HunyuanDiT",
        extra=_second_text,
        calm_weight=1.25,
        published=HUNYUAN_DIT_PUBLISHED,
        published_parameters=1.5,
    ),
    "hunyuan_dit_1": Family(
        HUNYUAN_DIT_CLASS,
        HUNYUAN_DIT_1,
        ("blocks",),
        (1, 4, 16, 16),
        core_config="HunyuanDiT1",
        extra=_second_text,
        calm_weight=1.5,
    ),
}
