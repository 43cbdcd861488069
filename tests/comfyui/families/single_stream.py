"""Image models with one list of blocks for text and picture: OmniGen2, Krea 2, Ideogram 4, Ernie."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

OMNIGEN2: dict[str, Any] = {
    "image_model": "omnigen2",
    "hidden_size": 96,
    "num_attention_heads": 1,
    "num_kv_heads": 1,
    "axes_dim_rope": [32, 32, 32],
    "num_layers": 4,
    "num_refiner_layers": 1,
    "text_feat_dim": 64,
    "multiple_of": 32,
    "timestep_scale": 1000.0,
}
# Source: VectorSpaceLab/OmniGen2 options/ft.yml.
OMNIGEN2_PUBLISHED = {
    "hidden_size": 2520,
    "num_attention_heads": 21,
    "num_kv_heads": 7,
    "axes_dim_rope": [40, 40, 40],
    "num_layers": 32,
    "num_refiner_layers": 2,
    "text_feat_dim": 2048,
    "multiple_of": 256,
}
KREA2: dict[str, Any] = {
    "image_model": "krea2",
    "features": 128,
    "heads": 1,
    "kvheads": 1,
    "layers": 4,
    "txtdim": 40,
    "txtlayers": 2,
}
IDEOGRAM4: dict[str, Any] = {
    "image_model": "ideogram4",
    "num_layers": 4,
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "intermediate_size": 64,
    "adaln_dim": 32,
    "llm_features_dim": 64,
}
ERNIE: dict[str, Any] = {
    "image_model": "ernie",
    "hidden_size": 128,
    "num_attention_heads": 1,
    "num_layers": 4,
    "ffn_hidden_size": 64,
    "text_in_dim": 64,
}
# Source: huggingface/diffusers transformer_krea2.py; krea/Krea-2-Raw model card (12 billion).
KREA2_PUBLISHED = {"features": 6144, "heads": 48, "kvheads": 12, "layers": 28, "txtdim": 2560, "txtlayers": 12}
# Source: huggingface/diffusers transformer_ideogram4.py.
IDEOGRAM4_PUBLISHED = {
    "num_layers": 34,
    "num_attention_heads": 18,
    "attention_head_dim": 256,
    "intermediate_size": 12288,
    "adaln_dim": 512,
    "llm_features_dim": 53248,
}
# Source: Comfy-Org/ComfyUI comfy/ldm/ernie/model.py, defaults of the class; huggingface/diffusers
# pipelines/ernie_image.md (8 billion).
ERNIE_PUBLISHED = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_layers": 36,
    "ffn_hidden_size": 12288,
    "text_in_dim": 3072,
}


def _attention_mask(_generator: torch.Generator) -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, TOKENS, dtype=torch.long)}


def _reference_latents(generator: torch.Generator) -> dict[str, Any]:
    latent = torch.randn(1, 16, 8, 8, generator=generator)
    return {**_attention_mask(generator), "reference_latents": [latent]}


OMNIGEN2_CLASS = "comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel"
OMNIGEN2_TIMED = r"norm1\.linear|norm_out\.linear_1"
FAMILIES = {
    "omnigen2": Family(
        OMNIGEN2_CLASS,
        OMNIGEN2,
        ("layers",),
        core_config="Omnigen2",
        published=OMNIGEN2_PUBLISHED,
        extra=_attention_mask,
        timed=OMNIGEN2_TIMED,
    ),
    "omnigen2_reference_latents": Family(
        OMNIGEN2_CLASS, OMNIGEN2, ("layers",), core_config="Omnigen2", extra=_reference_latents, timed=OMNIGEN2_TIMED
    ),
    "krea2": Family(
        "comfy.ldm.krea2.model.SingleStreamDiT",
        KREA2,
        ("blocks",),
        latent=(1, 16, 1, 8, 8),
        context=KREA2["txtlayers"] * KREA2["txtdim"],
        timed="tproj",
        published=KREA2_PUBLISHED,
        published_parameters=12,
    ),
    "ideogram4": Family(
        "comfy.ldm.ideogram4.model.Ideogram4Transformer2DModel",
        IDEOGRAM4,
        ("layers",),
        latent=(1, 128, 4, 4),
        core_config="Ideogram4",
        published=IDEOGRAM4_PUBLISHED,
    ),
    "ernie": Family(
        "comfy.ldm.ernie.model.ErnieImageModel",
        ERNIE,
        ("layers",),
        latent=(1, 128, 4, 4),
        core_config="ErnieImage",
        calm_weight=1.0,
        published=ERNIE_PUBLISHED,
        published_parameters=8,
    ),
}
