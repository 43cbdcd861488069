"""The Wan line."""

from __future__ import annotations

from typing import Any

from family import Family

WAN: dict[str, Any] = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "dim": 128,
    "in_dim": 16,
    "out_dim": 16,
    "num_heads": 1,
    "ffn_dim": 64,
    "num_layers": 3,
    "patch_size": (1, 2, 2),
    "freq_dim": 256,
    "window_size": (-1, -1),
    "qk_norm": True,
    "cross_attn_norm": True,
    "eps": 1e-6,
}

WAN_14B = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}

FAMILIES = {
    "wan": Family(
        "comfy.ldm.wan.model.WanModel",
        WAN,
        ("blocks",),
        latent=(1, 16, 3, 8, 8),
        context=4096,
        pooled=0,
        published=WAN_14B,
    )
}
