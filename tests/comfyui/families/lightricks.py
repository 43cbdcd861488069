"""LTX-Video, and LTX-2, which makes video and sound together."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

STAGES = ("transformer_blocks",)
VIDEO = (1, 128, 3, 4, 4)
# The loader takes 32 heads for granted.
LTXV: dict[str, Any] = {"cross_attention_dim": 128, "attention_head_dim": 4, "num_layers": 3}
LTX2: dict[str, Any] = {
    "cross_attention_dim": 128,
    "audio_cross_attention_dim": 64,
    "attention_head_dim": 32,
    "audio_attention_head_dim": 16,
    "num_attention_heads": 4,
    "audio_num_attention_heads": 4,
    "caption_channels": 64,
    "num_layers": 3,
    "connector_num_attention_heads": 2,
    "connector_attention_head_dim": 32,
    "connector_num_layers": 1,
}
# Source: huggingface/diffusers scripts/convert_ltx_to_diffusers.py (version 0.9.7) and pipelines/ltx_video.md.
LTXV_13B = {"cross_attention_dim": 4096, "attention_head_dim": 128, "num_layers": 48}
# Source: huggingface/diffusers scripts/convert_ltx2_to_diffusers.py (version 2.0) and pipelines/ltx2.md (19b).
LTX2_19B = {
    "cross_attention_dim": 4096,
    "audio_cross_attention_dim": 2048,
    "attention_head_dim": 128,
    "audio_attention_head_dim": 64,
    "num_attention_heads": 32,
    "audio_num_attention_heads": 32,
    "caption_channels": 3840,
    "num_layers": 48,
    "connector_num_attention_heads": 30,
    "connector_attention_head_dim": 128,
    "connector_num_layers": 2,
}


def _mask(_generator: torch.Generator) -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, TOKENS, dtype=torch.long)}


def _reference_sound(generator: torch.Generator) -> dict[str, Any]:
    return {"ref_audio": {"tokens": torch.randn(1, 2, 128, generator=generator)}}


SOUND: dict[str, Any] = {"more_latents": ((1, 8, 5, 16),), "context": 128, "pooled": 0, "header": LTX2}
LTX2_CLASS = "comfy.ldm.lightricks.av_model.LTXAVModel"
FAMILIES = {
    "ltxv": Family(
        "comfy.ldm.lightricks.model.LTXVModel",
        LTXV,
        STAGES,
        VIDEO,
        context=4096,
        pooled=0,
        extra=_mask,
        published=LTXV_13B,
        published_parameters=13,
    ),
    "ltx2": Family(LTX2_CLASS, LTX2, STAGES, VIDEO, **SOUND, published=LTX2_19B, published_parameters=19),
    "ltx2_reference_sound": Family(LTX2_CLASS, LTX2, STAGES, VIDEO, **SOUND, extra=_reference_sound),
}
