"""The Wan line: models that run nothing but their blocks, however many other inputs they have."""

from __future__ import annotations

from typing import Any

import torch
from family import CALM_WEIGHT, Family

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
# Source: Wan-Video/Wan2.1 wan/configs/wan_t2v_14B.py, Wan-Video/Wan2.2 wan/configs/wan_t2v_A14B.py.
WAN_14B: dict[str, Any] = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
# Source: Wan-Video/Wan2.1 wan/configs/wan_t2v_1_3B.py.
WAN_1_3B = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
# Source: Wan-Video/Wan2.2 wan/configs/wan_ti2v_5B.py.
WAN_5B = {"dim": 3072, "ffn_dim": 14336, "num_heads": 24, "num_layers": 30}
# Source: huggingface/diffusers scripts/convert_wan_to_diffusers.py (Wan2.1-FLF2V-14B-720P).
WAN_14B_FIRST_LAST = {**WAN_14B, "flf_pos_embed_token_number": 2 * 257}
STAGES = ("blocks",)
SHARED: dict[str, Any] = {"context": 4096, "pooled": 0, "calm_weight": 2.4}
VIDEO = (1, 16, 3, 8, 8)
IMAGE_TOKENS = 5


def random_video(generator: torch.Generator, channels: int = 16, frames: int = 3, size: int = 8) -> torch.Tensor:
    """A latent of (1, channels, frames, size, size)."""
    return torch.randn(1, channels, frames, size, size, generator=generator)


def random_clip_vision(generator: torch.Generator, tokens: int = IMAGE_TOKENS, width: int = 1280) -> Any:
    """What core's CLIP Vision Encode gives, with fewer tokens."""
    import comfy.clip_vision

    output = comfy.clip_vision.Output()
    output["penultimate_hidden_states"] = torch.randn(1, tokens, width, generator=generator)
    return output


def wan(model: str = "WanModel", *, module: str = "model", latent: tuple[int, ...] = VIDEO, **how: Any) -> Family:
    """A family of this line. how: fields of Family, and `config` for what differs from WAN."""
    config = {**WAN, **how.pop("config", {})}
    return Family(f"comfy.ldm.wan.{module}.{model}", config, STAGES, latent, **{**SHARED, **how})


def _first_image(generator: torch.Generator) -> dict[str, Any]:
    return {
        "concat_latent_image": random_video(generator),
        "concat_mask": torch.cat((torch.zeros(1, 1, 1, 8, 8), torch.ones(1, 1, 2, 8, 8)), dim=2),
        "clip_vision_output": random_clip_vision(generator),
    }


def _first_and_last_image(generator: torch.Generator) -> dict[str, Any]:
    return {**_first_image(generator), "clip_vision_output": random_clip_vision(generator, 2 * IMAGE_TOKENS)}


def _control_video(generator: torch.Generator) -> dict[str, Any]:
    return {
        "concat_latent_image": random_video(generator, 32),
        "clip_vision_output": random_clip_vision(generator),
        "reference_latents": [random_video(generator, frames=1)],
    }


def _in_context_references(generator: torch.Generator) -> dict[str, Any]:
    return {"context_latents": [random_video(generator, frames=1), random_video(generator, frames=2, size=4)]}


def _known_first_frame(_generator: torch.Generator) -> dict[str, Any]:
    """Each frame then has a timestep of its own."""
    return {"denoise_mask": torch.cat((torch.zeros(1, 48, 1, 8, 8), torch.ones(1, 48, 2, 8, 8)), dim=2)}


def _camera(generator: torch.Generator) -> dict[str, Any]:
    return {"camera_conditions": random_video(generator, 24, size=64), **_first_image(generator)}


def _audio_and_reference(generator: torch.Generator) -> dict[str, Any]:
    audio = torch.randn(1, 3, 8, 5, 1280, generator=generator)
    return {"audio_embed": audio, "reference_latents": [random_video(generator, frames=1)]}


def _pose(generator: torch.Generator) -> dict[str, Any]:
    return {
        "reference_latents": [random_video(generator, frames=1)],
        "pose_video_latent": random_video(generator, size=4),
        "clip_vision_output": random_clip_vision(generator),
    }


def _pose_and_masks(generator: torch.Generator) -> dict[str, Any]:
    # Masks come with the frames before the channels.
    return {
        **_pose(generator),
        "driving_mask_28ch": torch.rand(1, 3, 28, 4, 4, generator=generator),
        "ref_mask_28ch": torch.rand(1, 4, 28, 8, 8, generator=generator),
    }


IMAGE: dict[str, Any] = {"model_type": "i2v", "in_dim": 36}
CONTROL: dict[str, Any] = {"model_type": "i2v", "in_dim": 48, "in_dim_ref_conv": 16}
WAN22: dict[str, Any] = {"in_dim": 48, "out_dim": 48}
FAMILIES = {
    # Calm, because other tests sample it in few steps.
    "wan": wan(published=WAN_14B, published_parameters=14, calm_weight=CALM_WEIGHT),
    "wan_image": wan(config=IMAGE, extra=_first_image, published=WAN_14B),
    "wan_first_last_image": wan(
        config={**IMAGE, "flf_pos_embed_token_number": 2 * IMAGE_TOKENS},
        extra=_first_and_last_image,
        published=WAN_14B_FIRST_LAST,
    ),
    "wan_fun_control": wan(config=CONTROL, extra=_control_video),
    "wan_in_context": wan(extra=_in_context_references),
    "wan22_5b": wan(config=WAN22, latent=(1, 48, 3, 8, 8), published=WAN_5B, published_parameters=5),
    "wan22_5b_image": wan(config=WAN22, latent=(1, 48, 3, 8, 8), extra=_known_first_frame, calm_weight=3.0),
    # Source: Wan-Video/Wan-Dancer diffsynth/models/wan_video_dit.py (14B PAI control-camera).
    "wan_camera": wan(
        "CameraWanModel", config={"model_type": "camera", "in_dim": 32}, extra=_camera, published=WAN_14B
    ),
    # Source: Phantom-video/HuMo humo/configs/models/Wan_14B_I2V.yaml and README.md (17 billion).
    "wan_humo": wan(
        "HumoWanModel",
        config={"model_type": "humo"},
        extra=_audio_and_reference,
        published=WAN_14B,
        published_parameters=17,
    ),
    # Source: zai-org/SCAIL configs/video_model/Wan2.1-i2v-14Bsc-pose-xc-latent.yaml.
    "wan_scail": wan("SCAILWanModel", config={"model_type": "scail", "in_dim": 20}, extra=_pose, published=WAN_14B),
    "wan_scail2": wan("SCAIL2WanModel", config={"model_type": "scail2", "in_dim": 20}, extra=_pose_and_masks),
    # Source: guandeh17/Self-Forcing utils/wan_wrapper.py, which takes Wan2.1-T2V-1.3B.
    "wan_causal": wan(
        "CausalWanModel", module="ar_model", header={"causal_ar": True}, published=WAN_1_3B, published_parameters=1.3
    ),
}
