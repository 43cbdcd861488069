"""HiDream-O1: a language model that reads text and picture as one sequence and keeps the text's keys and values."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

HIDREAM_O1: dict[str, Any] = {
    "image_model": "hidream_o1",
    "text_config_overrides": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_dims": [6, 5, 5],
    },
    "vision_config_overrides": {
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 32,
        "depth": 1,
        "num_position_embeddings": 16,
    },
}
# Source: Comfy-Org/ComfyUI comfy/ldm/hidream_o1/model.py, defaults of the class; HiDream-ai/HiDream-O1-Image README.md.
PUBLISHED: dict[str, Any] = {"text_config_overrides": None, "vision_config_overrides": None}


def _text_numbers(generator: torch.Generator) -> dict[str, Any]:
    return {"text_input_ids": torch.randint(0, 1000, (1, TOKENS), generator=generator)}


FAMILIES = {
    "hidream_o1": Family(
        "comfy.ldm.hidream_o1.model.HiDreamO1Transformer",
        HIDREAM_O1,
        ("language_model.layers",),
        latent=(1, 3, 64, 64),
        core_config="HiDreamO1",
        extra=_text_numbers,
        timed="t_embedder1",
        published=PUBLISHED,
        published_parameters=8,
    )
}
