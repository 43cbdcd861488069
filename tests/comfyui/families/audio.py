"""Models that make sound: Stable Audio, ACE-Step, and MiniMax H3, which makes video with it."""

from __future__ import annotations

from typing import Any

import torch
from family import TOKENS, Family, stronger

STABLE_AUDIO_TEXT = 768
"""ComfyUI appends the length of the piece to the text, in this width."""
STABLE_AUDIO_1: dict[str, Any] = {
    "audio_model": "dit1.0",
    "io_channels": 64,
    "embed_dim": 128,
    "num_heads": 2,
    "depth": 4,
    "cond_token_dim": STABLE_AUDIO_TEXT,
    "project_cond_tokens": True,
    "global_cond_dim": 2 * STABLE_AUDIO_TEXT,
}
STABLE_AUDIO_3 = {
    **STABLE_AUDIO_1,
    "io_channels": 256,
    "global_cond_dim": STABLE_AUDIO_TEXT,
    "global_cond_type": "adaLN",
    "global_cond_shared_embed": True,
    "local_add_cond_dim": 257,
    "num_memory_tokens": 2,
    "timestep_features_type": "expo",
}
ACE_STEP_1: dict[str, Any] = {
    "audio_model": "ace",
    "num_layers": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "max_position": 128,
    "text_embedding_dim": 64,
    "ssl_latent_dims": [8, 8],
    "lyric_encoder_vocab_size": 64,
}
ACE_STEP_1_5: dict[str, Any] = {
    "audio_model": "ace1.5",
    "hidden_size": 64,
    "text_hidden_dim": 64,
    "num_dit_layers": 4,
    "num_lyric_layers": 1,
    "num_timbre_layers": 1,
    "num_tokenizer_layers": 1,
    "num_heads": 2,
    "num_kv_heads": 1,
    "head_dim": 32,
    "intermediate_size": 64,
    "fsq_dim": 64,
    "encoder_hidden_size": 64,
    "encoder_intermediate_size": 64,
    "encoder_num_heads": 2,
}
MINIMAX_H3: dict[str, Any] = {
    "image_model": "minimax_h3",
    "hidden_size": 64,
    "num_layers": 4,
    "token_refiner_num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "ffn_hidden_size": 64,
    "text_dim": 48,
    "timestep_input_dim": 32,
    "time_embed_hidden_size": 64,
    "time_embed_dim": 32,
    "rope_inv_freq_len": 4,
}


def _seconds(name: str, features: int) -> dict[str, tuple[int, ...]]:
    """The weights that turn a number of seconds into a text token."""
    embedding = f"conditioner.conditioners.seconds_{name}.embedder.embedding"
    return {f"{embedding}.1.weight": (STABLE_AUDIO_TEXT, features), f"{embedding}.1.bias": (STABLE_AUDIO_TEXT,)}


def _learned_seconds(name: str) -> dict[str, tuple[int, ...]]:
    embedding = f"conditioner.conditioners.seconds_{name}.embedder.embedding"
    return {**_seconds(name, 257), f"{embedding}.0.weights": (128,)}


def _lyric_numbers(generator: torch.Generator) -> dict[str, Any]:
    return {"conditioning_lyrics": torch.randint(1, 64, (1, TOKENS), generator=generator)}


def _lyric_features(generator: torch.Generator) -> dict[str, Any]:
    return {"conditioning_lyrics": torch.randn(1, TOKENS, 64, generator=generator)}


def _without_dropout(diffusion_model: Any) -> None:
    """ComfyUI 0.3.64 and older leave the dropout in the encoder of the lyrics on: two runs differ."""
    diffusion_model.eval()


# Source: Stability-AI/stable-audio-tools stable_audio_tools/configs/model_configs/txt2audio/stable_audio_2_0.json.
STABLE_AUDIO_1_OPEN = {"embed_dim": 1536, "num_heads": 24, "depth": 24, "project_cond_tokens": False}
# Source: huggingface/diffusers transformer_stable_audio3.py, scripts/convert_stable_audio_3_to_diffusers.py (medium).
STABLE_AUDIO_3_MEDIUM: dict[str, Any] = {
    "embed_dim": 1536,
    "num_heads": 24,
    "depth": 24,
    "num_memory_tokens": 64,
    "attn_kwargs": {"qk_norm": "rms", "differential": True},
    "norm_type": "rms_norm",
}
# Source: ace-step/ACE-Step acestep/models/config.json.
ACE_STEP_1_3B = {
    "num_layers": 24,
    "num_attention_heads": 20,
    "attention_head_dim": 128,
    "mlp_ratio": 2.5,
    "text_embedding_dim": 768,
    "ssl_latent_dims": [1024, 768],
    "lyric_encoder_vocab_size": 6693,
}
# Source: huggingface/diffusers ace_step_transformer.py; Comfy-Org/ComfyUI comfy/ldm/ace/ace_step15.py, defaults of the
# class, for the encoders.
ACE_STEP_1_5_PUBLISHED = {
    "hidden_size": 2048,
    "text_hidden_dim": 1024,
    "num_dit_layers": 24,
    "num_lyric_layers": 8,
    "num_timbre_layers": 4,
    "num_tokenizer_layers": 2,
    "num_heads": 16,
    "num_kv_heads": 8,
    "head_dim": 128,
    "intermediate_size": 6144,
    "fsq_dim": 2048,
    "encoder_hidden_size": 2048,
    "encoder_intermediate_size": 6144,
    "encoder_num_heads": 16,
}
# Source: huggingface/diffusers transformer_minimax_h3.py.
MINIMAX_H3_PUBLISHED = {
    "hidden_size": 5376,
    "num_layers": 50,
    "token_refiner_num_layers": 2,
    "num_attention_heads": 56,
    "attention_head_dim": 128,
    "ffn_hidden_size": 14336,
    "text_dim": 5120,
    "timestep_input_dim": 256,
    "time_embed_hidden_size": 5376,
    "time_embed_dim": 2688,
    "rope_inv_freq_len": 16,
}
STABLE_AUDIO_CLASS = "comfy.ldm.audio.dit.AudioDiffusionTransformer"
FAMILIES = {
    "stable_audio_1": Family(
        STABLE_AUDIO_CLASS,
        STABLE_AUDIO_1,
        ("transformer.layers",),
        latent=(1, 64, 16),
        context=STABLE_AUDIO_TEXT,
        pooled=0,
        core_config="StableAudio",
        published=STABLE_AUDIO_1_OPEN,
        beside={**_learned_seconds("start"), **_learned_seconds("total")},
        timed="to_timestep_embed",
    ),
    "stable_audio_3": Family(
        STABLE_AUDIO_CLASS,
        STABLE_AUDIO_3,
        ("transformer.layers",),
        latent=(1, 256, 16),
        context=STABLE_AUDIO_TEXT,
        pooled=0,
        core_config="StableAudio3",
        published=STABLE_AUDIO_3_MEDIUM,
        beside=_seconds("total", 256),
        timed="global_cond_embedder",
    ),
    "ace_step_1": Family(
        "comfy.ldm.ace.model.ACEStepTransformer2DModel",
        ACE_STEP_1,
        ("transformer_blocks",),
        latent=(1, 8, 16, 16),
        pooled=0,
        core_config="ACEStep",
        published=ACE_STEP_1_3B,
        published_parameters=3.5,
        change=_without_dropout,
        extra=_lyric_numbers,
        timed="t_block",
    ),
    "ace_step_1_5": Family(
        "comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel",
        ACE_STEP_1_5,
        ("decoder.layers",),
        latent=(1, 64, 20),
        pooled=0,
        core_config="ACEStep15",
        published=ACE_STEP_1_5_PUBLISHED,
        extra=_lyric_features,
        timed=r"time_embed(_r)?\.time_proj",
        calm_weight=3.0,
    ),
    "minimax_h3": Family(
        "comfy.ldm.minimax.model.MiniMaxH3Model",
        MINIMAX_H3,
        ("blocks",),
        latent=(1, 24, 2, 4, 4),
        more_latents=((1, 32, 2, 6),),
        context=48,
        pooled=0,
        published=MINIMAX_H3_PUBLISHED,
        change=stronger(40, "time_embedder.proj_in", "time_embedder.proj_out"),
    ),
}
