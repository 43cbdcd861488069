"""The Hunyuan line of double and single blocks: HunyuanVideo, HunyuanImage 2.1, Hunyuan3D 2.0."""

from __future__ import annotations

from typing import Any

import torch
from family import Family

MODEL_CLASS = "comfy.ldm.hunyuan_video.model.HunyuanVideo"
VIDEO: dict[str, Any] = {
    "image_model": "hunyuan_video",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 3,
    "depth_single_blocks": 4,
    "axes_dim": [16, 56, 56],
    "theta": 256,
    "patch_size": [1, 2, 2],
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
VIDEO_15 = {
    **VIDEO,
    "in_channels": 65,
    "out_channels": 32,
    "vec_in_dim": None,
    "patch_size": [1, 1, 1],
    "guidance_embed": False,
    "byt5": True,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
    "meanflow_sum": True,
}
IMAGE_21 = {
    **VIDEO,
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "axes_dim": [64, 64],
    "patch_size": [1, 1],
    "guidance_embed": False,
    "byt5": True,
}
# The distilled model also learns where a step ends.
IMAGE_21_DISTILLED = {**IMAGE_21, "guidance_embed": True, "meanflow": True}
IMAGE_21_REFINER = {**IMAGE_21, "in_channels": 128, "axes_dim": [16, 56, 56], "patch_size": [1, 1, 1], "byt5": False}
SHAPE_CLASS = "comfy.ldm.hunyuan3d.model.Hunyuan3Dv2"
SHAPE: dict[str, Any] = {
    "image_model": "hunyuan3d2",
    "in_channels": 64,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 16,
    "depth": 3,
    "depth_single_blocks": 4,
    "qkv_bias": True,
    "guidance_embed": False,
}
# Source: Tencent-Hunyuan/HunyuanVideo hyvideo/modules/models.py, hyvideo/config.py and README.md.
HUNYUAN_VIDEO = {"hidden_size": 3072, "num_heads": 24, "depth": 20, "depth_single_blocks": 40, "context_in_dim": 4096}
# Source: huggingface/diffusers transformer_hunyuan_video15.py; Tencent-Hunyuan/HunyuanVideo-1.5 README.md.
HUNYUAN_VIDEO_15 = {
    "hidden_size": 2048,
    "num_heads": 16,
    "depth": 54,
    "depth_single_blocks": 0,
    "context_in_dim": 3584,
}
# Source: Tencent-Hunyuan/HunyuanImage-2.1 hyimage/models/hunyuan/configs/hunyuanimage_config.py and README.md.
HUNYUAN_IMAGE_21 = {**HUNYUAN_VIDEO, "hidden_size": 3584, "num_heads": 28, "context_in_dim": 3584}
HUNYUAN_IMAGE_21_REFINER = {**HUNYUAN_IMAGE_21, "hidden_size": 3328, "num_heads": 26}
# Source: Tencent-Hunyuan/Hunyuan3D-2 hy3dgen/shapegen/models/denoisers/hunyuan3ddit.py and README.md.
HUNYUAN3D_2 = {"hidden_size": 1024, "depth": 16, "depth_single_blocks": 32, "context_in_dim": 1536}
STAGES = ("double_blocks", "single_blocks")


def _reference_latent(generator: torch.Generator) -> dict[str, Any]:
    """Another length for the negative conditioning: the model writes into a batch of both (comfy/ldm/hunyuan_video)."""
    frames = 1 + generator.initial_seed() % 2
    return {"ref_latent": torch.randn(1, 16, frames, 8, 8, generator=generator)}


def _glyphs(generator: torch.Generator) -> dict[str, Any]:
    return {"conditioning_byt5small": torch.randn(1, 4, 1472, generator=generator)}


FAMILIES = {
    "hunyuan_video": Family(
        MODEL_CLASS,
        VIDEO,
        STAGES,
        latent=(1, 16, 3, 8, 8),
        pooled=768,
        published=HUNYUAN_VIDEO,
        published_parameters=13,
    ),
    "hunyuan_video_reference_latent": Family(
        MODEL_CLASS, VIDEO, STAGES, latent=(1, 16, 3, 8, 8), pooled=768, extra=_reference_latent
    ),
    "hunyuan_video_15": Family(
        MODEL_CLASS,
        VIDEO_15,
        STAGES,
        latent=(1, 32, 3, 4, 4),
        pooled=768,
        core_config="HunyuanVideo15",
        extra=_glyphs,
        published=HUNYUAN_VIDEO_15,
        published_parameters=8.3,
    ),
    "hunyuan_image_21": Family(
        MODEL_CLASS,
        IMAGE_21,
        STAGES,
        latent=(1, 64, 8, 8),
        core_config="HunyuanImage21",
        extra=_glyphs,
        published=HUNYUAN_IMAGE_21,
        published_parameters=17,
    ),
    "hunyuan_image_21_distilled": Family(
        MODEL_CLASS,
        IMAGE_21_DISTILLED,
        STAGES,
        latent=(1, 64, 8, 8),
        core_config="HunyuanImage21",
        extra=_glyphs,
        published=HUNYUAN_IMAGE_21,
    ),
    "hunyuan_image_21_refiner": Family(
        MODEL_CLASS,
        IMAGE_21_REFINER,
        STAGES,
        latent=(1, 64, 1, 8, 8),
        core_config="HunyuanImage21Refiner",
        published=HUNYUAN_IMAGE_21_REFINER,
    ),
    "hunyuan3d_2": Family(
        SHAPE_CLASS, SHAPE, STAGES, latent=(1, 64, 32), published=HUNYUAN3D_2, published_parameters=1.1
    ),
}
