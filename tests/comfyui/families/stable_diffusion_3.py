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
# Source: huggingface/diffusers transformer_sd3.py and single_file_utils.py, where checkpoints are told apart by shapes;
# Stability-AI/sd3.5 sd3_impls.py (width of 64 per block, 2 billion).
MEDIUM: dict[str, Any] = {
    "depth": 24,
    "adm_in_channels": 2048,
    "num_patches": 36864,
    "pos_embed_max_size": 192,
    "qk_norm": None,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536}},
}
MEDIUM_35 = {
    **MEDIUM,
    "num_patches": 147456,
    "pos_embed_max_size": 384,
    "qk_norm": "rms",
    "x_block_self_attn_layers": list(range(13)),
}

FAMILIES = {
    "sd3": Family(MODEL_CLASS, SD3, ("joint_blocks",), published=MEDIUM, published_parameters=2),
    "sd35": Family(MODEL_CLASS, {**SD3, "x_block_self_attn_layers": [0, 1]}, ("joint_blocks",), published=MEDIUM_35),
}
