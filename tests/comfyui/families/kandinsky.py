"""Kandinsky 5."""

from __future__ import annotations

from typing import Any

from family import Family

MODEL_CLASS = "comfy.ldm.kandinsky5.model.Kandinsky5"
VIDEO: dict[str, Any] = {
    "image_model": "kandinsky5",
    "model_dim": 64,
    "time_dim": 64,
    "ff_dim": 128,
    "visual_embed_dim": 132,
    "num_text_blocks": 1,
    "num_visual_blocks": 4,
    "axes_dims": (16, 24, 24),
}
IMAGE = {**VIDEO, "visual_embed_dim": 64}
STAGES = ("visual_transformer_blocks",)

FAMILIES = {
    "kandinsky5": Family(MODEL_CLASS, VIDEO, STAGES, (1, 16, 3, 8, 8), 3584, 768, core_config="Kandinsky5"),
    "kandinsky5_image": Family(MODEL_CLASS, IMAGE, STAGES, (1, 16, 8, 8), 3584, 768, core_config="Kandinsky5Image"),
}
