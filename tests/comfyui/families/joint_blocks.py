"""Blocks that carry text and picture side by side: AuraFlow, Mochi, CogVideoX, Boogu."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

AURA_FLOW: dict[str, Any] = {
    "max_seq": 64,
    "cond_seq_dim": 64,
    "n_double_layers": 3,
    "n_layers": 7,
    "dim": 64,
    "n_heads": 2,
    "global_conddim": 64,
}
MOCHI: dict[str, Any] = {
    "image_model": "mochi_preview",
    "depth": 3,
    "patch_size": 2,
    "num_heads": 1,
    "hidden_size_x": 96,
    "hidden_size_y": 48,
    "mlp_ratio_x": 128.0,  # The class insists on the hidden width of the MLP.
    "mlp_ratio_y": 2.0,
    "learn_sigma": False,
    "in_channels": 12,
    "qk_norm": True,
    "qkv_bias": False,
    "out_bias": True,
    "attn_drop": 0.0,
    "patch_embed_bias": True,
    "posenc_preserve_area": True,
    "timestep_mlp_bias": True,
    "attend_to_padding": False,
    "timestep_scale": 1000.0,
    "use_t5": True,
    "t5_feat_dim": 64,
    "t5_token_length": TOKENS,
    "rope_theta": 10000.0,
}
# Source: genmoai/mochi src/genmo/mochi_preview/pipelines.py and README.md.
MOCHI_PREVIEW = {
    "depth": 48,
    "num_heads": 24,
    "hidden_size_x": 3072,
    "hidden_size_y": 1536,
    "mlp_ratio_x": 4.0,
    "mlp_ratio_y": 4.0,
    "t5_feat_dim": 4096,
    "t5_token_length": 256,
}
COGVIDEOX: dict[str, Any] = {
    "image_model": "cogvideox",
    "num_attention_heads": 1,
    "attention_head_dim": 64,
    "in_channels": 16,
    "time_embed_dim": 64,
    "text_embed_dim": 64,
    "num_layers": 4,
    "use_rotary_positional_embeddings": True,
}
# Source: huggingface/diffusers scripts/convert_cogvideox_to_diffusers.py and cogvideox_transformer_3d.py.
COGVIDEOX_5B = {"num_attention_heads": 48, "num_layers": 42, "time_embed_dim": 512, "text_embed_dim": 4096}
BOOGU: dict[str, Any] = {
    "image_model": "boogu",
    "hidden_size": 96,
    "num_layers": 4,
    "num_double_stream_layers": 3,
    "num_refiner_layers": 1,
    "num_attention_heads": 1,
    "num_kv_heads": 1,
    "multiple_of": 32,
    "axes_dim_rope": (32, 32, 32),
    "instruction_feat_dim": 64,
}
# Source: huggingface/diffusers auraflow_transformer_2d.py; the collection fal/auraflow says 6.8 billion.
AURA_FLOW_PUBLISHED = {
    "max_seq": 1024,
    "cond_seq_dim": 2048,
    "n_double_layers": 4,
    "n_layers": 36,
    "dim": 3072,
    "n_heads": 12,
    "global_conddim": 3072,
}
# Source: Comfy-Org/ComfyUI comfy/ldm/boogu/model.py, defaults of the class; boogu-project/Boogu-Image README.md.
BOOGU_PUBLISHED: dict[str, Any] = {
    "hidden_size": 3360,
    "num_layers": 32,
    "num_double_stream_layers": 8,
    "num_refiner_layers": 2,
    "num_attention_heads": 28,
    "num_kv_heads": 7,
    "multiple_of": 256,
    "axes_dim_rope": (40, 40, 40),
    "instruction_feat_dim": 4096,
}
AURA_FLOW_CLASS = "comfy.ldm.aura.mmdit.MMDiT"
MOCHI_CLASS = "comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint"
COGVIDEOX_CLASS = "comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel"
BOOGU_CLASS = "comfy.ldm.boogu.model.BooguTransformer2DModel"
COGVIDEOX_TIMED = r"time_embedding|norm\d\.linear"
BOOGU_TIMED = r"timestep_embedder|norm1\.linear"
BOOGU_STAGES = ("double_stream_layers", "single_stream_layers")
VIDEO = (1, 16, 3, 8, 8)


def _mask(_generator: torch.Generator) -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, TOKENS, dtype=torch.int64)}


def _mask_and_reference(generator: torch.Generator) -> dict[str, Any]:
    return {**_mask(generator), "reference_latents": [torch.randn(1, 16, 8, 8, generator=generator)]}


FAMILIES = {
    "aura_flow": Family(
        AURA_FLOW_CLASS,
        AURA_FLOW,
        ("double_layers", "single_layers"),
        (1, 4, 16, 16),
        core_config="AuraFlow",
        timed=r"^t_embedder",
        calm_weight=0.6,
        published=AURA_FLOW_PUBLISHED,
        published_parameters=6.8,
    ),
    "mochi": Family(
        MOCHI_CLASS,
        MOCHI,
        ("blocks",),
        (1, 12, 2, 8, 8),
        core_config="GenmoMochi",
        extra=_mask,
        published=MOCHI_PREVIEW,
        published_parameters=10,
    ),
    "cogvideox": Family(
        COGVIDEOX_CLASS,
        COGVIDEOX,
        ("blocks",),
        VIDEO,
        timed=COGVIDEOX_TIMED,
        published=COGVIDEOX_5B,
    ),
    "cogvideox_image": Family(
        COGVIDEOX_CLASS, {**COGVIDEOX, "in_channels": 32}, ("blocks",), VIDEO, timed=COGVIDEOX_TIMED
    ),
    "boogu": Family(
        BOOGU_CLASS,
        BOOGU,
        BOOGU_STAGES,
        core_config="Boogu",
        timed=BOOGU_TIMED,
        extra=_mask,
        published=BOOGU_PUBLISHED,
        published_parameters=10,
    ),
    "boogu_edit": Family(
        BOOGU_CLASS, BOOGU, BOOGU_STAGES, core_config="Boogu", timed=BOOGU_TIMED, extra=_mask_and_reference
    ),
}
