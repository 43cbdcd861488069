"""Lumina Image 2 and Z-Image. Detection knows them by their width."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family

STAGES = ("layers",)
LUMINA: dict[str, Any] = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 96,
    "n_layers": 3,
    "n_refiner_layers": 1,
    "n_heads": 1,
    "n_kv_heads": 1,
    "multiple_of": 32,
    "axes_dims": [32, 32, 32],
    "axes_lens": [300, 512, 512],
    "cap_feat_dim": 64,
    "qk_norm": True,
}
Z_IMAGE = {
    **LUMINA,
    "dim": 256,
    "n_heads": 2,
    "n_kv_heads": 2,
    "axes_dims": [32, 48, 48],
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
OMNI = {**Z_IMAGE, "siglip_feat_dim": 32}
PIXELS = {
    **Z_IMAGE,
    "image_model": "zimage_pixel",
    "patch_size": 4,
    "in_channels": 3,
    "decoder_in_channels": 48,
    "decoder_hidden_size": 32,
    "decoder_num_res_blocks": 1,
}
# Source: Alpha-VLLM/Lumina-Image-2.0 models/model.py (NextDiT_2B_GQA_patch2_Adaln_Refiner) and README.md;
# huggingface/diffusers transformer_lumina2.py for the refiners and the text.
LUMINA_IMAGE_2 = {
    "dim": 2304,
    "n_layers": 26,
    "n_refiner_layers": 2,
    "n_heads": 24,
    "n_kv_heads": 8,
    "multiple_of": 256,
    "cap_feat_dim": 2304,
}
# Source: Tongyi-MAI/Z-Image src/zimage/transformer.py and README.md; ComfyUI's model_detection for the MLP.
Z_IMAGE_PUBLISHED: dict[str, Any] = {
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "multiple_of": 256,
    "cap_feat_dim": 2560,
    "ffn_dim_multiplier": 8.0 / 3.0,
}
# Source: Comfy-Org/ComfyUI comfy/ldm/lumina/model.py, defaults of the class. It has none for the size of a patch, which
# hardly counts among the parameters.
PIXELS_PUBLISHED = {
    **Z_IMAGE_PUBLISHED,
    "decoder_hidden_size": 3840,
    "decoder_num_res_blocks": 4,
    "decoder_max_freqs": 8,
}


def _mask(_generator: torch.Generator) -> dict[str, Any]:
    """ComfyUI 0.3 counts the words in it."""
    return {"attention_mask": torch.ones(1, TOKENS, dtype=torch.long)}


def _references(generator: torch.Generator) -> dict[str, Any]:
    """Z-Image Omni: a picture as latent, as text and as what SigLIP sees."""
    import comfy.clip_vision

    seen = comfy.clip_vision.Output()
    seen["last_hidden_state"] = torch.randn(1, 4, 32, generator=generator)
    seen["image_sizes"] = [(3, 32, 32)]
    return {
        **_mask(generator),
        "clip_vision_outputs": [seen],
        "reference_latents": [torch.randn(1, 16, 8, 8, generator=generator)],
        "reference_latents_text_embeds": [torch.randn(1, 4, 64, generator=generator)],
    }


def _heed_the_trunk(diffusion_model: Any) -> None:
    """The random decoder of pixels hardly looks at the tokens: a wrong hit would not show."""
    diffusion_model.dec_net.cond_embed.weight.data *= 20.0
    for block in diffusion_model.dec_net.res_blocks:
        block.adaLN_modulation[1].weight.data *= 20.0


MODULE = "comfy.ldm.lumina.model"
FAMILIES = {
    "lumina2": Family(
        f"{MODULE}.NextDiT",
        LUMINA,
        STAGES,
        pooled=0,
        core_config="Lumina2",
        extra=_mask,
        published=LUMINA_IMAGE_2,
        published_parameters=2.6,
    ),
    "z_image": Family(
        f"{MODULE}.NextDiT",
        Z_IMAGE,
        STAGES,
        pooled=0,
        core_config="ZImage",
        extra=_mask,
        published=Z_IMAGE_PUBLISHED,
        published_parameters=6,
    ),
    "z_image_omni": Family(f"{MODULE}.NextDiT", OMNI, STAGES, pooled=0, core_config="ZImage", extra=_references),
    "z_image_pixels": Family(
        f"{MODULE}.NextDiTPixelSpace",
        PIXELS,
        STAGES,
        (1, 3, 32, 32),
        pooled=0,
        core_config="ZImagePixelSpace",
        extra=_mask,
        change=_heed_the_trunk,
        published=PIXELS_PUBLISHED,
    ),
}
