"""A tiny VAE, CLIP and ControlNet of ComfyUI's own classes, with random weights."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import Any

import torch
from families.unet import SD1

CLIP_CONFIG = {
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}


def _fill(module: torch.nn.Module) -> Any:
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return module


def vae() -> Any:
    """The autoencoder of Stable Diffusion, narrow; it halves the sides once."""
    import comfy.sd

    layers = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32}
    layers |= {"ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    found = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": layers, "embed_dim": 4}}, dtype=torch.float32)
    _fill(found.first_stage_model)
    return found


def clip() -> Any:
    import comfy.sd
    from comfy import sd1_clip

    class TinyClip(sd1_clip.SD1ClipModel):
        def __init__(self, **how: Any) -> None:
            super().__init__(clip_model=sd1_clip.SDClipModel, textmodel_json_config=dict(CLIP_CONFIG), **how)

    target = SimpleNamespace(params={}, clip=TinyClip, tokenizer=sd1_clip.SD1Tokenizer)
    found = comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
    _fill(found.cond_stage_model)
    return found


def control_net(sizes: dict[str, Any] | None = None) -> Any:
    """For the tiny Stable Diffusion 1, also of other sizes."""
    import comfy.cldm.cldm
    import comfy.controlnet

    cpu = torch.device("cpu")
    config = {name: value for name, value in {**SD1, **(sizes or {})}.items() if name != "out_channels"}
    model = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32, device=cpu)
    return comfy.controlnet.ControlNet(_fill(model), load_device=cpu)
