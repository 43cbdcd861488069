"""HiDream-I1 and HiDream-E1."""

from __future__ import annotations

from typing import Any

import torch
from family import Family

MODEL_CLASS = "comfy.ldm.hidream.model.HiDreamImageTransformer2DModel"
IMAGE: dict[str, Any] = {
    "image_model": "hidream",
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "axes_dims_rope": [64, 32, 32],
    "caption_channels": [64, 64],
    "llama_layers": [0, 1, 2, 3, 4, 5, 6],
    "num_layers": 3,
    "num_single_layers": 4,
    "num_routed_experts": 2,
    "num_activated_experts": 1,
    "text_emb_dim": 32,
    "max_resolution": [16, 16],
}
STAGES = ("double_stream_blocks", "single_stream_blocks")
LAYERS_OF_TEXT = 7
# Source: ComfyUI's model_detection; HiDream-ai/HiDream-I1 README.md.
PUBLISHED: dict[str, Any] = {
    "num_attention_heads": 20,
    "caption_channels": [4096, 4096],
    "llama_layers": [*range(32), *[31] * 16],
    "num_layers": 16,
    "num_single_layers": 32,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "text_emb_dim": 2048,
    "max_resolution": [128, 128],
}


def _llama(generator: torch.Generator) -> dict[str, Any]:
    return {"conditioning_llama3": torch.randn(1, LAYERS_OF_TEXT, 6, 64, generator=generator)}


def _llama_and_image(generator: torch.Generator) -> dict[str, Any]:
    return {**_llama(generator), "concat_latent_image": torch.randn(1, 16, 8, 8, generator=generator)}


FAMILIES = {
    "hidream_i1": Family(
        MODEL_CLASS,
        IMAGE,
        STAGES,
        (1, 16, 8, 8),
        core_config="HiDream",
        extra=_llama,
        published=PUBLISHED,
        published_parameters=17,
    ),
    "hidream_e1": Family(MODEL_CLASS, IMAGE, STAGES, (1, 16, 8, 8), core_config="HiDream", extra=_llama_and_image),
}
