"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from typing import Any

from family import Family

MODEL_CLASS = "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper"
SD3: dict[str, Any] = {
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "depth": 4,
    "input_size": None,
    "adm_in_channels": 32,
    "num_patches": 1024,
    "pos_embed_max_size": 32,
    "qk_norm": "rms",
    "pos_embed_scaling_factor": None,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 256}},
}

FAMILIES = {
    "sd3": Family(MODEL_CLASS, SD3, ("joint_blocks",)),
    "sd35": Family(MODEL_CLASS, {**SD3, "x_block_self_attn_layers": [0, 1]}, ("joint_blocks",)),
}
