"""Tiny models with random weights of every family, built through ComfyUI's own loaders.

Random weights prove plumbing and equality, never quality. One thing makes them behave like trained ones where it
matters: layers through which the timestep acts are calm (small weights, large biases), so that the first block changes
by a few per cent per step; with plain noise it changes by half, and no threshold that a user would type is ever met.
"""

from __future__ import annotations

import importlib
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

SPREAD = 0.05
TIMED_LAYER = re.compile(r"(^|[._])(mod|adaln|time_projection|distilled_guidance_layer.out_proj)|adaLN", re.IGNORECASE)
CALM_WEIGHT, STRONG_BIAS = 0.2, 10.0
TOKENS = 6


@dataclass(frozen=True)
class Family:
    """How a tiny model is built, and what it wants as conditioning."""

    model_class: str
    config: dict[str, Any]
    stages: tuple[str, ...] = ()
    """Names of its block lists in execution order; empty for a family that the cache does not support."""
    latent: tuple[int, ...] = (1, 16, 16, 16)
    context: int = 64
    pooled: int = 32
    """Older versions demand a pooled vector of every Flux, also of those that do not use it."""
    """Width of the pooled text; ComfyUI 0.9 demands one of every Flux, also where the model has no use for it."""
    core_config: str = ""
    """Class in comfy.supported_models, where detection has fixed the model's size; empty where the loader takes it."""
    extra: Callable[[torch.Generator], dict[str, Any]] = field(default=lambda _generator: {})
    """What the conditioning of this family carries besides the usual."""
    change: Callable[[Any], None] = field(default=lambda _diffusion_model: None)
    """Done to the loaded model."""


FLUX_CLASS = "comfy.ldm.flux.model.Flux"
CHROMA_CLASS = "comfy.ldm.chroma.model.Chroma"
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
CHROMA = {
    **{name: value for name, value in FLUX.items() if name != "guidance_embed"},
    "image_model": "chroma",
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": 128,
    "hidden_dim": 64,
    "n_layers": 5,
}
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


def _reference_latents(generator: torch.Generator) -> dict[str, Any]:
    return {"reference_latents": [torch.randn(1, 16, 8, 8, generator=generator)]}


def _skip_blocks(diffusion_model: Any) -> None:
    """Chroma's own lists of blocks that its loop leaves out: the first of both stages and the last of the first."""
    diffusion_model.skip_mmdit = [0, 2]
    diffusion_model.skip_dit = [0]


FLUX_STAGES = ("double_blocks", "single_blocks")
FAMILIES: dict[str, Family] = {
    "flux_dev": Family(FLUX_CLASS, FLUX, FLUX_STAGES),
    "flux_schnell": Family(FLUX_CLASS, {**FLUX, "guidance_embed": False}, FLUX_STAGES),
    "flux_reference_latents": Family(FLUX_CLASS, FLUX, FLUX_STAGES, extra=_reference_latents),
    "flux2": Family(FLUX_CLASS, FLUX2, FLUX_STAGES, latent=(1, 128, 8, 8)),
    "longcat": Family(FLUX_CLASS, LONGCAT, FLUX_STAGES, context=3584),
    "chroma": Family(CHROMA_CLASS, CHROMA, FLUX_STAGES, core_config="Chroma"),
    "chroma_skipping_blocks": Family(CHROMA_CLASS, CHROMA, FLUX_STAGES, core_config="Chroma", change=_skip_blocks),
    "sd3": Family("comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper", SD3, ("joint_blocks",)),
    "sd35": Family(
        "comfy.ldm.modules.diffusionmodules.mmdit.OpenAISignatureMMDITWrapper",
        {**SD3, "x_block_self_attn_layers": [0, 1]},
        ("joint_blocks",),
    ),
    "wan": Family("comfy.ldm.wan.model.WanModel", WAN, latent=(1, 16, 3, 8, 8), context=4096, pooled=0),
}
SUPPORTED = [name for name, family in FAMILIES.items() if family.stages]


def _weights(family: Family, seed: int) -> dict[str, torch.Tensor]:
    """Names and shapes from the model's own class, values from a seed."""
    import comfy.ops

    module, _, name = family.model_class.rpartition(".")
    model_class = getattr(importlib.import_module(module), name)
    try:
        precision = {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}
        empty = model_class(**family.config, **precision)
    except TypeError as problem:
        pytest.skip(f"This ComfyUI has no such model yet ({problem}).")
    weights = {}
    for key, value in sorted(empty.state_dict().items()):
        # Seeded by name: a ComfyUI that adds a weight does not change all others.
        generator = torch.Generator().manual_seed(seed + zlib.crc32(key.encode()))
        weight = torch.randn(value.shape, generator=generator) * SPREAD
        if TIMED_LAYER.search(key):
            weight *= STRONG_BIAS if key.endswith(".bias") else CALM_WEIGHT
        if weight.dim() == 1 and key.endswith((".scale", "norm.weight", "ln_q.weight", "ln_k.weight")):
            weight += 1.0
        weights[key] = weight
    return weights


def build(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, change_weights: Any = None) -> Any:
    """A ModelPatcher of a family. change_weights: called with the weights by name before they are loaded."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    family = FAMILIES[name]
    weights = _weights(family, seed)
    if change_weights is not None:
        change_weights(weights)
    patcher = None
    if not family.core_config and dtype is torch.float32:
        patcher = comfy.sd.load_diffusion_model_state_dict(dict(weights), model_options={"dtype": dtype})
        if patcher is None:
            pytest.skip(f"This ComfyUI does not recognise a tiny {name}.")
    else:
        # The tail of that loader, for sizes that its detection has fixed and for 16-bit arithmetic on a CPU.
        config = getattr(comfy.supported_models, family.core_config or "Flux")(dict(family.config))
        config.set_inference_dtype(dtype, None)
        model = config.get_model(weights, "")
        # The converted names are those of the class already: the weights come from it.
        model.diffusion_model.load_state_dict(weights)
        cpu = torch.device("cpu")
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    expected = family.model_class.rpartition(".")[2]
    assert type(patcher.model.diffusion_model).__name__ == expected
    family.change(patcher.model.diffusion_model)
    return patcher


def conditioning(name: str, *, seed: int = 1, **extra: Any) -> list[list[Any]]:
    """A CONDITIONING that the family understands."""
    family = FAMILIES[name]
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(1, TOKENS, family.context, generator=generator)
    values: dict[str, Any] = {"guidance": 3.5, **family.extra(generator)}
    if family.pooled:
        values["pooled_output"] = torch.randn(1, family.pooled, generator=generator)
    return [[content, {**values, **extra}]]
