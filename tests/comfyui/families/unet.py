"""UNets: Stable Diffusion 1, 2, XL and Video, with their layouts of attention."""

from __future__ import annotations

from typing import Any

from family import Family, stronger

MODEL_CLASS = "comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel"
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": [2, 2],
    "transformer_depth": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1],
    "context_dim": 64,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "legacy": False,
    "num_heads": -1,
    "num_head_channels": 32,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
SD1 = {**UNET, "use_linear_in_transformer": False, "num_heads": 8, "num_head_channels": -1}
SDXL = {
    **UNET,
    "channel_mult": [1, 2, 4],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
VEGA = {**SDXL, "transformer_depth_middle": -1}
"""Segmind Vega: its middle is one layer without attention."""
KOALA = {
    **SDXL,
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 2],
    "transformer_depth_middle": -2,
    "transformer_depth_output": [0, 0, 1, 1, 2, 2],
}
"""KOALA 700M: it has no middle."""
REFINER = {
    **UNET,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 1, 1, 0, 0],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 0, 0, 0],
    "num_classes": "sequential",
    "adm_in_channels": 2560,
}
SVD = {
    **UNET,
    "in_channels": 8,
    "num_classes": "sequential",
    "adm_in_channels": 768,
    "use_temporal_attention": True,
    "use_temporal_resblock": True,
    "extra_ff_mix_layer": True,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1],
}
FRAMES = 3
# Source: ComfyUI's model_detection (unet_config_from_diffusers_unet), and for the sizes that it does not hold
# Stability-AI/generative-models configs/inference/sd_2_1.yaml, sd_xl_base.yaml, sd_xl_refiner.yaml and
# scripts/sampling/configs/svd.yaml; CompVis/stable-diffusion README.md (860 million);
# huggingface/diffusers docs/source/en/api/pipelines/pixart_sigma.md (SDXL: 2.6 billion).
SD1_PUBLISHED = {
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
}
SDXL_PUBLISHED = {
    "model_channels": 320,
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "context_dim": 2048,
    "num_head_channels": 64,
}
SD2_PUBLISHED = {**SD1_PUBLISHED, "context_dim": 1024, "num_head_channels": 64}
VEGA_PUBLISHED = {
    **SDXL_PUBLISHED,
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_middle": -1,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
}
KOALA_PUBLISHED = {
    **SDXL_PUBLISHED,
    "transformer_depth": [0, 2, 5],
    "transformer_depth_middle": -2,
    "transformer_depth_output": [0, 0, 2, 2, 5, 5],
}
REFINER_PUBLISHED = {
    "model_channels": 384,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
    "transformer_depth_middle": 4,
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
    "context_dim": 1280,
    "num_head_channels": 64,
}

STAGES = ("input_blocks", "middle_block", "output_blocks")
KEPT = 2
LATENT = (1, 4, 8, 8)
TIMED = r"emb_layers|time_embed"


def _unet(
    core_config: str, config: dict[str, Any], *, pooled: int = 0, latent: tuple[int, ...] = LATENT, **how: Any
) -> Family:
    """how: further fields of Family."""
    return Family(
        MODEL_CLASS,
        config,
        STAGES,
        latent,
        pooled=pooled,
        core_config=core_config,
        kept=KEPT,
        timed=TIMED,
        change=stronger(100, "out.2"),
        **how,
    )


FAMILIES = {
    "sd1": _unet("SD15", SD1, published=SD1_PUBLISHED, published_parameters=0.86),
    "sd2": _unet("SD20", UNET, published=SD2_PUBLISHED),
    "sdxl": _unet("SDXL", SDXL, pooled=1280, published=SDXL_PUBLISHED, published_parameters=2.6),
    "sdxl_vega": _unet("Segmind_Vega", VEGA, pooled=1280, published=VEGA_PUBLISHED),
    "sdxl_koala": _unet("KOALA_700M", KOALA, pooled=1280, published=KOALA_PUBLISHED),
    "sdxl_refiner": _unet("SDXLRefiner", REFINER, pooled=1280, published=REFINER_PUBLISHED),
    "svd": _unet("SVD_img2vid", SVD, latent=(FRAMES, 4, 8, 8), published=SD2_PUBLISHED),
}
