"""Cosmos 1, Cosmos-Predict2, and Anima, which is a Predict2 with an adapter for its text."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

STAGES = ("blocks",)
BOTH: dict[str, Any] = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "model_channels": 128,
    "num_heads": 2,
    "num_blocks": 3,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
}
COSMOS = {
    **BOTH,
    "image_model": "cosmos",
    "pos_emb_learnable": False,
    "block_config": "FA-CA-MLP",
    "block_x_format": "THWBD",
    "crossattn_emb_channels": 64,
    "affline_emb_norm": True,
    "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
}
PREDICT2 = {
    **BOTH,
    "image_model": "cosmos_predict2",
    "pos_emb_learnable": True,
    "crossattn_emb_channels": 64,
    "extra_per_block_abs_pos_emb": False,
}
ANIMA = {**PREDICT2, "image_model": "anima", "crossattn_emb_channels": 1024}
VIDEO = (1, 16, 2, 8, 8)
# Source: huggingface/diffusers scripts/convert_cosmos_to_diffusers.py (Cosmos-1.0-Diffusion-7B-Text2World,
# Cosmos-2.0-Diffusion-2B-Text2Image); its convert_anima_to_diffusers.py takes Anima for the latter with an adapter.
COSMOS_7B = {
    "model_channels": 4096,
    "num_heads": 32,
    "num_blocks": 28,
    "crossattn_emb_channels": 1024,
    "adaln_lora_dim": 256,
}
PREDICT2_2B = {**COSMOS_7B, "model_channels": 2048, "num_heads": 16}


def _words(generator: torch.Generator) -> dict[str, Any]:
    """The adapter makes its text out of these and of what a language model says about them."""
    return {
        "t5xxl_ids": torch.randint(0, 1000, (TOKENS,), generator=generator),
        "t5xxl_weights": torch.ones(TOKENS),
    }


FAMILIES = {
    "cosmos": Family(
        "comfy.ldm.cosmos.model.GeneralDIT",
        COSMOS,
        STAGES,
        VIDEO,
        pooled=0,
        core_config="CosmosT2V",
        published=COSMOS_7B,
        published_parameters=7,
    ),
    "cosmos_predict2": Family(
        "comfy.ldm.cosmos.predict2.MiniTrainDIT",
        PREDICT2,
        STAGES,
        VIDEO,
        pooled=0,
        core_config="CosmosT2IPredict2",
        published=PREDICT2_2B,
        published_parameters=2,
    ),
    "anima": Family(
        "comfy.ldm.anima.model.Anima",
        ANIMA,
        STAGES,
        (1, 16, 1, 8, 8),
        context=1024,
        pooled=0,
        core_config="Anima",
        extra=_words,
        published=PREDICT2_2B,
    ),
}
