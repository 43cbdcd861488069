"""Models that make three-dimensional objects: Hunyuan3D 2.1, TripoSplat, Trellis 2."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family, stronger

HUNYUAN3D_2_1: dict[str, Any] = {
    "image_model": "hunyuan3d2_1",
    "in_channels": 64,
    "hidden_size": 64,
    "context_dim": 64,
    "depth": 5,
    "num_heads": 2,
    "num_moe_layers": 2,
    "num_experts": 2,
    "moe_top_k": 1,
    "guidance_cond_proj_dim": None,
}
LATENT_TOKENS = 16
TRIPOSPLAT: dict[str, Any] = {
    "image_model": "triposplat",
    "q_token_length": LATENT_TOKENS,
    "model_channels": 64,
    "cond_channels": 64,
    "cond2_channels": 32,
    "num_blocks": 4,
    "num_refiner_blocks": 1,
}
# Source: Comfy-Org/ComfyUI comfy/ldm/triposplat/model.py, defaults of the class.
TRIPOSPLAT_PUBLISHED = {
    "q_token_length": 8192,
    "model_channels": 1024,
    "cond_channels": 1280,
    "cond2_channels": 128,
    "num_blocks": 24,
    "num_refiner_blocks": 2,
}
# Source: Tencent-Hunyuan/Hunyuan3D-2.1 README.md and in hy3dshape/configs
# hunyuandit-finetuning-flowmatching-dinog518-bf16-lr1e5-4096.yaml.
HUNYUAN3D_2_1_PUBLISHED = {
    "hidden_size": 2048,
    "context_dim": 1024,
    "depth": 21,
    "num_heads": 16,
    "num_moe_layers": 6,
    "num_experts": 8,
    "moe_top_k": 2,
}
VOXELS = 20
TRELLIS2: dict[str, Any] = {
    "image_model": "trellis2",
    "resolution": 32,
    "model_channels": 64,
    "cond_channels": 64,
    "num_blocks": 4,
    "num_heads": 2,
    "mlp_ratio": 2.0,
}


def _voxels(generator: torch.Generator) -> dict[str, Any]:
    """The run that makes the shape: features of the voxels that an earlier run found occupied."""
    places = torch.randint(0, 32, (VOXELS, 3), generator=generator, dtype=torch.int32)
    return {
        "embeds": torch.randn(1, TOKENS, TRELLIS2["cond_channels"], generator=generator),
        "trellis2_coords": torch.cat([torch.zeros(VOXELS, 1, dtype=torch.int32), places], dim=1),
        "trellis2_coord_counts": torch.tensor([VOXELS]),
        "trellis2_generation_mode": "shape_generation",
    }


FAMILIES = {
    "hunyuan3d_2_1": Family(
        "comfy.ldm.hunyuan3dv2_1.hunyuandit.HunYuanDiTPlain",
        HUNYUAN3D_2_1,
        ("blocks",),
        latent=(1, 64, LATENT_TOKENS),
        core_config="Hunyuan3Dv2_1",
        change=stronger(200, "final_layer.linear"),
        cfg=2.0,
        published=HUNYUAN3D_2_1_PUBLISHED,
        published_parameters=3.3,
    ),
    "triposplat": Family(
        "comfy.ldm.triposplat.model.LatentSeqMMFlowModel",
        TRIPOSPLAT,
        ("blocks",),
        latent=(1, LATENT_TOKENS, 16),
        more_latents=((1, 1, 5),),
        core_config="TripoSplat",
        calm_weight=2.0,
        published=TRIPOSPLAT_PUBLISHED,
        bypassed=("repo_layers",),
    ),
    "trellis2": Family(
        "comfy.ldm.trellis2.model.Trellis2",
        TRELLIS2,
        ("img2shape.blocks",),
        latent=(1, 32, VOXELS, 1),
        core_config="Trellis2",
        extra=_voxels,
    ),
}
