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
# Source: kandinskylab/kandinsky-5 configs/k5_pro_t2v_5s_sft_hd.yaml and README.md.
VIDEO_PRO = {
    "model_dim": 4096,
    "time_dim": 1024,
    "ff_dim": 16384,
    "num_text_blocks": 4,
    "num_visual_blocks": 60,
    "axes_dims": (32, 48, 48),
}
# Source: kandinskylab/kandinsky-5 configs/k5_lite_t2i_sft_hd.yaml; huggingface/diffusers pipelines/kandinsky5_image.md.
IMAGE_LITE = {
    "model_dim": 2560,
    "time_dim": 512,
    "ff_dim": 10240,
    "num_text_blocks": 2,
    "num_visual_blocks": 50,
    "axes_dims": (32, 48, 48),
}

FAMILIES = {
    "kandinsky5": Family(
        MODEL_CLASS,
        VIDEO,
        STAGES,
        (1, 16, 3, 8, 8),
        3584,
        768,
        core_config="Kandinsky5",
        published=VIDEO_PRO,
        published_parameters=19,
    ),
    "kandinsky5_image": Family(
        MODEL_CLASS,
        IMAGE,
        STAGES,
        (1, 16, 8, 8),
        3584,
        768,
        core_config="Kandinsky5Image",
        published=IMAGE_LITE,
        published_parameters=6,
    ),
}
