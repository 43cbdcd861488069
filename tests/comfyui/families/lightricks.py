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


def _mask(_generator: torch.Generator) -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, TOKENS, dtype=torch.long)}


def _reference_sound(generator: torch.Generator) -> dict[str, Any]:
    return {"ref_audio": {"tokens": torch.randn(1, 2, 128, generator=generator)}}


SOUND: dict[str, Any] = {"more_latents": ((1, 8, 5, 16),), "context": 128, "pooled": 0, "header": LTX2}
LTX2_CLASS = "comfy.ldm.lightricks.av_model.LTXAVModel"
FAMILIES = {
    "ltxv": Family("comfy.ldm.lightricks.model.LTXVModel", LTXV, STAGES, VIDEO, context=4096, pooled=0, extra=_mask),
    "ltx2": Family(LTX2_CLASS, LTX2, STAGES, VIDEO, **SOUND),
    "ltx2_reference_sound": Family(LTX2_CLASS, LTX2, STAGES, VIDEO, **SOUND, extra=_reference_sound),
}
