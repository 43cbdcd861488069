"""The Flux line: FLUX.1, FLUX.2, Ovis-Image, LongCat-Image, Chroma."""

from __future__ import annotations

from typing import Any

import torch
from family import Family

FLUX_CLASS = "comfy.ldm.flux.model.Flux"
CHROMA_CLASS = "comfy.ldm.chroma.model.Chroma"
RADIANCE_CLASS = "comfy.ldm.chroma_radiance.model.ChromaRadiance"
FLUX: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 32,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 3,
    "depth_single_blocks": 4,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
FLUX2 = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "vec_in_dim": None,
    "mlp_ratio": 3.0,
    "axes_dim": [32, 32, 32, 32],
    "theta": 2000,
    "patch_size": 1,
    "qkv_bias": False,
    "txt_ids_dims": [3],
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
}
LONGCAT = {**FLUX, "vec_in_dim": None, "context_in_dim": 3584, "guidance_embed": False, "txt_ids_dims": [1, 2]}
OVIS = {
    **FLUX,
    "vec_in_dim": None,
    "guidance_embed": False,
    "txt_ids_dims": [1, 2],
    "yak_mlp": True,
    "txt_norm": True,
}
CHROMA = {
    **{name: value for name, value in FLUX.items() if name != "guidance_embed"},
    "image_model": "chroma",
    "vec_in_dim": None,
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 128,
    "hidden_dim": 64,
    "n_layers": 5,
}
# In pixels, with patches of 16.
RADIANCE = {
    **CHROMA,
    "image_model": "chroma_radiance",
    "in_channels": 3,
    "out_channels": 3,
    "patch_size": 16,
    "nerf_hidden_size": 16,
    "nerf_mlp_ratio": 2,
    "nerf_depth": 1,
    "nerf_max_freqs": 4,
    "nerf_tile_size": 0,
    "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": None,
    "use_x0": False,
    "use_sequential_txt_ids": False,
}


def _reference_latents(generator: torch.Generator) -> dict[str, Any]:
    return {"reference_latents": [torch.randn(1, 16, 8, 8, generator=generator)]}


def _skip_blocks(diffusion_model: Any) -> None:
    """Chroma's own lists of blocks that its loop leaves out: the first of both stages and the last of the first."""
    diffusion_model.skip_mmdit = [0, 2]
    diffusion_model.skip_dit = [0]


# Source: black-forest-labs/flux src/flux/util.py and model_cards/FLUX.1-dev.md (12 billion).
WIDE = {"hidden_size": 3072, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "context_in_dim": 4096}
FLUX_DEV = {**WIDE, "vec_in_dim": 768}
# Source: black-forest-labs/flux2 src/flux2/model.py and README.md.
FLUX2_DEV = {"hidden_size": 6144, "num_heads": 48, "depth": 8, "depth_single_blocks": 48, "context_in_dim": 15360}
# Source: huggingface/diffusers transformer_ovis_image.py and docs/source/en/api/pipelines/ovis_image.md.
OVIS_IMAGE = {**WIDE, "depth": 6, "depth_single_blocks": 27, "context_in_dim": 2048}
# Source: filipstrand/mflux src/mflux/models/longcat/model/longcat_transformer/longcat_transformer.py;
# meituan-longcat/LongCat-Image README.md (6 billion).
LONGCAT_IMAGE = {**WIDE, "depth": 10, "depth_single_blocks": 20, "context_in_dim": 3584}
# Source: huggingface/diffusers transformer_chroma.py, and ComfyUI's model_detection for the modulation;
# lodestones/Chroma model card (8.9 billion).
CHROMA_PUBLISHED = {**WIDE, "out_dim": 3072, "hidden_dim": 5120}
# Source: ComfyUI's model_detection.
RADIANCE_PUBLISHED = {
    **CHROMA_PUBLISHED,
    "nerf_hidden_size": 64,
    "nerf_mlp_ratio": 4,
    "nerf_depth": 4,
    "nerf_max_freqs": 8,
}
STAGES = ("double_blocks", "single_blocks")
FAMILIES = {
    "flux_dev": Family(FLUX_CLASS, FLUX, STAGES, core_config="Flux", published=FLUX_DEV, published_parameters=12),
    "flux_schnell": Family(
        FLUX_CLASS,
        {**FLUX, "guidance_embed": False},
        STAGES,
        core_config="FluxSchnell",
        published=FLUX_DEV,
        published_parameters=12,
    ),
    "flux_reference_latents": Family(FLUX_CLASS, FLUX, STAGES, core_config="Flux", extra=_reference_latents),
    "flux2": Family(
        FLUX_CLASS,
        FLUX2,
        STAGES,
        latent=(1, 128, 8, 8),
        core_config="Flux2",
        published=FLUX2_DEV,
        published_parameters=32,
    ),
    "ovis": Family(FLUX_CLASS, OVIS, STAGES, core_config="Flux", published=OVIS_IMAGE, published_parameters=7),
    "longcat": Family(
        FLUX_CLASS,
        LONGCAT,
        STAGES,
        context=3584,
        core_config="LongCatImage",
        published=LONGCAT_IMAGE,
        published_parameters=6,
    ),
    "chroma": Family(
        CHROMA_CLASS, CHROMA, STAGES, core_config="Chroma", published=CHROMA_PUBLISHED, published_parameters=8.9
    ),
    "chroma_skipping_blocks": Family(CHROMA_CLASS, CHROMA, STAGES, core_config="Chroma", change=_skip_blocks),
    "chroma_radiance": Family(
        RADIANCE_CLASS,
        RADIANCE,
        STAGES,
        latent=(1, 3, 64, 64),
        core_config="ChromaRadiance",
        published=RADIANCE_PUBLISHED,
    ),
}
