"""The demo model as diffusers' FluxTransformer2DModel, and that model in the place of ComfyUI's in ComfyUI's samplers.

Both are the same network. The tensors of the file have the names of the original Flux; diffusers has query, key and
value apart, and scale before shift in the last layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import fold, unfold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diffusers import FluxTransformer2DModel

Tensors = dict[str, torch.Tensor]
PATCH = 2
"""Rows and columns of the latent that make one token."""
AXES = (16, 56, 56)
"""Of a head's 128 numbers, how many turn with each coordinate of a token."""
NO_POOLED_TEXT = 1
"""Width of the pooled text: diffusers' Flux wants one, the demo model has none; its weights are zeros."""

WHOLE_MODEL = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
DOUBLE_BLOCK = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
SINGLE_BLOCK = {
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
    "linear2": "proj_out",
}
SPLIT = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}
BLOCKS = {
    "double_blocks": ("transformer_blocks", DOUBLE_BLOCK),
    "single_blocks": ("single_transformer_blocks", SINGLE_BLOCK),
}


def converted(original: Mapping[str, torch.Tensor]) -> Tensors:
    """original: the tensors of the demo model's file; the result has the names of diffusers, in fp32."""
    width = original["img_in.weight"].shape[0]
    result: Tensors = {}
    for name, stored in original.items():
        tensor = stored.float()
        module, kind = name.rsplit(".", 1)
        kind = "weight" if kind == "scale" else kind
        prefix, names = "", WHOLE_MODEL
        if module.startswith(tuple(BLOCKS)):
            blocks, number, module = module.split(".", 2)
            theirs, names = BLOCKS[blocks]
            prefix = f"{theirs}.{number}."
        if module == "final_layer.adaLN_modulation.1":
            shift, scale = tensor.chunk(2)
            result[f"norm_out.linear.{kind}"] = torch.cat([scale, shift])
        elif module in SPLIT:
            parts = SPLIT[module]
            sizes = [width] * 3 + [len(tensor) - 3 * width] * (len(parts) - 3)
            for part, rows in zip(parts, tensor.split(sizes), strict=True):
                result[f"{prefix}{part}.{kind}"] = rows.clone()
        else:
            result[f"{prefix}{names[module]}.{kind}"] = tensor
    return result


def without_pooled_text(width: int) -> Tensors:
    """Weights that add nothing to the embedding of time and guidance, whatever the pooled text."""
    name = "time_text_embed.text_embedder"
    return {
        f"{name}.linear_1.weight": torch.zeros(width, NO_POOLED_TEXT),
        f"{name}.linear_1.bias": torch.zeros(width),
        f"{name}.linear_2.weight": torch.zeros(width, width),
        f"{name}.linear_2.bias": torch.zeros(width),
    }


def diffusers_flux(original: Mapping[str, torch.Tensor]) -> FluxTransformer2DModel:
    from diffusers import FluxTransformer2DModel

    width, channels = original["img_in.weight"].shape
    numbers = {tuple(name.split(".")[:2]) for name in original if name.startswith(tuple(BLOCKS))}
    transformer = FluxTransformer2DModel(
        in_channels=channels,
        num_layers=sum(blocks == "double_blocks" for blocks, _ in numbers),
        num_single_layers=sum(blocks == "single_blocks" for blocks, _ in numbers),
        attention_head_dim=sum(AXES),
        num_attention_heads=width // sum(AXES),
        joint_attention_dim=original["txt_in.weight"].shape[1],
        pooled_projection_dim=NO_POOLED_TEXT,
        guidance_embeds=True,
        axes_dims_rope=AXES,
    )
    transformer.load_state_dict(converted(original) | without_pooled_text(width))
    return transformer.eval()


def velocity(
    transformer: FluxTransformer2DModel,
    latent: torch.Tensor,
    sigma: torch.Tensor,
    context: torch.Tensor,
    guidance: torch.Tensor,
) -> torch.Tensor:
    """What ComfyUI's model returns for the same arguments.

    latent (B, C, H, W), sigma and guidance (B,), context (B, tokens, width); the result is like the latent.
    """
    rows, columns = (edge // PATCH for edge in latent.shape[2:])
    places = torch.zeros(rows, columns, 3)
    places[..., 1] += torch.arange(rows)[:, None]
    places[..., 2] += torch.arange(columns)
    tokens = unfold(latent, PATCH, stride=PATCH).transpose(1, 2)
    out = transformer(
        hidden_states=tokens,
        encoder_hidden_states=context,
        pooled_projections=torch.zeros(len(latent), NO_POOLED_TEXT),
        timestep=sigma,
        img_ids=places.reshape(-1, 3),
        txt_ids=torch.zeros(context.shape[1], 3),
        guidance=guidance,
        return_dict=False,
    )[0]
    return fold(out.transpose(1, 2), latent.shape[2:], PATCH, stride=PATCH)


def in_place_of_comfyui(model: Any, transformer: FluxTransformer2DModel) -> Any:
    """The model patcher, sampling with the transformer: one forward per cond, the positive one first."""
    from comfy.patcher_extension import WrappersMP

    def forward(
        _comfyui: Callable[..., torch.Tensor],
        latent: torch.Tensor,
        sigma: torch.Tensor,
        context: torch.Tensor,
        _pooled: torch.Tensor,
        guidance: torch.Tensor,
        _reference_latents: None,
        _control: None,
        options: dict[str, Any],
        **_more: Any,
    ) -> torch.Tensor:
        conds = options["cond_or_uncond"]
        arguments = [tensor.chunk(len(conds)) for tensor in (latent, sigma, context, guidance)]
        result: list[torch.Tensor] = [latent] * len(conds)
        for place in sorted(range(len(conds)), key=conds.__getitem__):
            result[place] = velocity(transformer, *(argument[place] for argument in arguments))
        return torch.cat(result)

    clone = model.clone()
    clone.add_wrapper(WrappersMP.DIFFUSION_MODEL, forward)
    return clone
