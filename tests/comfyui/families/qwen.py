"""Blocks of Qwen-Image and their relatives: Qwen-Image, Mage-Flow, Lens, JoyImage."""

from __future__ import annotations

from typing import Any

import torch
from family import Family

QWEN_CLASS = "comfy.ldm.qwen_image.model.QwenImageTransformer2DModel"
QWEN: dict[str, Any] = {
    "image_model": "qwen_image",
    "in_channels": 64,
    "num_layers": 4,
    "joint_attention_dim": 64,
    "num_attention_heads": 1,
}
LAYERED = {**QWEN, "use_additional_t_cond": True, "default_ref_method": "negative_index"}
EDIT_2511 = {**QWEN, "default_ref_method": "index_timestep_zero"}
MAGE_CLASS = "comfy.ldm.mage_flow.model.MageFlowTransformer2DModel"
MAGE = {**QWEN, "image_model": "mage_flow", "in_channels": 128}
LENS_CLASS = "comfy.ldm.lens.model.LensTransformer2DModel"
LENS: dict[str, Any] = {
    "image_model": "lens",
    "in_channels": 128,
    "out_channels": 32,
    "num_layers": 4,
    "num_attention_heads": 1,
    "enc_hidden_dim": 32,
    "multi_layer_encoder_feature": True,
    "selected_layer_index": (0, 1),
}
JOY_CLASS = "comfy.ldm.joyimage.model.JoyImageTransformer3DModel"
JOY: dict[str, Any] = {
    "image_model": "joyimage",
    "in_channels": 16,
    "hidden_size": 128,
    "patch_size": [1, 2, 2],
    "num_layers": 4,
    "num_attention_heads": 1,
    "text_dim": 4096,
}
JOY_TIMED = r"^condition_embedder.time"
BLOCKS = ("transformer_blocks",)


def _reference_latents(*shape: int) -> Any:
    """Conditioning with one latent of an image to be edited."""

    def extra(generator: torch.Generator) -> dict[str, Any]:
        return {"reference_latents": [torch.randn(shape, generator=generator)]}

    return extra


ONE_FRAME = (1, 16, 1, 8, 8)
# Source: huggingface/diffusers transformer_qwenimage.py; QwenLM/Qwen-Image README.md (20 billion).
QWEN_IMAGE = {"num_layers": 60, "num_attention_heads": 24, "joint_attention_dim": 3584}
# Source: Comfy-Org/ComfyUI comfy/ldm/mage_flow/model.py, defaults of the class; microsoft/Mage README.md.
MAGE_FLOW = {"num_layers": 12, "num_attention_heads": 24, "joint_attention_dim": 2560}
# Source: Comfy-Org/ComfyUI comfy/ldm/lens/model.py, defaults of the class; microsoft/Lens model card.
LENS_PUBLISHED: dict[str, Any] = {
    "num_layers": 48,
    "num_attention_heads": 24,
    "enc_hidden_dim": 2880,
    "selected_layer_index": (5, 11, 17, 23),
}
# Source: huggingface/diffusers scripts/convert_joyimage_edit_to_diffusers.py and pipelines/joyimage_edit.md.
JOY_EDIT = {"hidden_size": 4096, "num_layers": 40, "num_attention_heads": 32, "text_dim": 4096}
FAMILIES = {
    "qwen_image": Family(
        QWEN_CLASS,
        QWEN,
        BLOCKS,
        (1, 16, 1, 16, 16),
        core_config="QwenImage",
        published=QWEN_IMAGE,
        published_parameters=20,
    ),
    "qwen_image_edit": Family(
        QWEN_CLASS, QWEN, BLOCKS, (1, 16, 1, 16, 16), core_config="QwenImage", extra=_reference_latents(*ONE_FRAME)
    ),
    "qwen_image_edit_2511": Family(
        QWEN_CLASS, EDIT_2511, BLOCKS, (1, 16, 1, 16, 16), core_config="QwenImage", extra=_reference_latents(*ONE_FRAME)
    ),
    "qwen_image_layered": Family(
        QWEN_CLASS, LAYERED, BLOCKS, (1, 16, 3, 8, 8), core_config="QwenImage", extra=_reference_latents(*ONE_FRAME)
    ),
    "mage_flow": Family(
        MAGE_CLASS, MAGE, BLOCKS, (1, 128, 8, 8), core_config="MageFlow", published=MAGE_FLOW, published_parameters=4
    ),
    "mage_flow_edit": Family(
        MAGE_CLASS, MAGE, BLOCKS, (1, 128, 8, 8), core_config="MageFlow", extra=_reference_latents(1, 128, 4, 4)
    ),
    "lens": Family(
        LENS_CLASS, LENS, BLOCKS, (1, 128, 8, 8), calm_weight=1.3, published=LENS_PUBLISHED, published_parameters=3.8
    ),
    "joyimage": Family(
        JOY_CLASS,
        JOY,
        ("double_blocks",),
        (1, 16, 1, 16, 16),
        4096,
        timed=JOY_TIMED,
        published=JOY_EDIT,
        published_parameters=16,
    ),
    "joyimage_edit": Family(
        JOY_CLASS,
        JOY,
        ("double_blocks",),
        (1, 16, 1, 16, 16),
        4096,
        timed=JOY_TIMED,
        extra=_reference_latents(*ONE_FRAME),
    ),
}
