"""The Wan models whose side modules run between the blocks, and after the last one where the real layout has it so."""

from __future__ import annotations

from typing import Any

import torch

from .wan import WAN_14B, random_clip_vision, random_video, wan


def _two_controls(generator: torch.Generator) -> dict[str, Any]:
    return {
        "vace_frames": [random_video(generator, 32), random_video(generator, 32)],
        "vace_mask": [torch.ones(1, 64, 3, 8, 8), torch.zeros(1, 64, 3, 8, 8)],
        "vace_strength": [1.0, 0.5],
    }


def _speech(generator: torch.Generator) -> dict[str, Any]:
    return {
        "audio_embed": torch.randn(1, 25, 1024, 12, generator=generator),
        "reference_latents": [random_video(generator, frames=1)],
        "reference_motion": random_video(generator, frames=19),
        "control_video": random_video(generator),
    }


def _face_and_pose(generator: torch.Generator) -> dict[str, Any]:
    return {
        "concat_latent_image": random_video(generator),
        "clip_vision_output": random_clip_vision(generator),
        "pose_video_latent": random_video(generator, frames=2),
        "face_video_pixels": random_video(generator, 3, frames=1, size=64),
    }


def _take_small_faces(diffusion_model: Any) -> None:
    """Without three of the halvings in front of the blocks, which want faces of 512 pixels and seconds per step."""
    encoder = diffusion_model.motion_encoder.enc.net_app
    first, last = encoder.convs[:5], encoder.convs[-1:]
    encoder.convs = torch.nn.ModuleList([*first, *last])


def _pose_video(generator: torch.Generator) -> dict[str, Any]:
    return {
        "concat_latent_image": random_video(generator),
        "clip_vision_output": random_clip_vision(generator),
        "pose_video_latent": random_video(generator, frames=2),
    }


def _music(generator: torch.Generator, fps: float) -> dict[str, Any]:
    return {
        "audio_embed": torch.randn(1, 20, 35, generator=generator),
        "concat_latent_image": random_video(generator),
        "clip_vision_output": random_clip_vision(generator),
        "clip_vision_output_ref": random_clip_vision(generator),
        "fps": fps,
    }


VACE = {"model_type": "vace", "num_layers": 4, "vace_layers": 2, "vace_in_dim": 96}
VACE_AFTER_EVERY_BLOCK = {**VACE, "num_layers": 3, "vace_layers": 3}
# The sound is injected after every fourth block, so with five also after the last.
SOUND_LAYERS = 5
DANCER = {"model_type": "wandancer", "in_dim": 36, "num_layers": SOUND_LAYERS}
# Source: huggingface/diffusers scripts/convert_wan_to_diffusers.py (Wan2.1-VACE-14B, Wan2.2-Animate-14B).
VACE_14B = {**WAN_14B, "vace_layers": 8}
FAMILIES = {
    "wan_vace": wan("VaceWanModel", config=VACE, extra=_two_controls, published=VACE_14B, bypassed=("vace_blocks",)),
    "wan_vace_after_every_block": wan("VaceWanModel", config=VACE_AFTER_EVERY_BLOCK, extra=_two_controls),
    # Source: Wan-Video/Wan2.2 wan/configs/wan_s2v_14B.py.
    "wan_s2v": wan(
        "WanModel_S2V",
        config={"model_type": "s2v", "num_layers": SOUND_LAYERS},
        extra=_speech,
        published=WAN_14B,
        bypassed=("audio_injector",),
        calm_weight=3.2,
    ),
    # The face is added after every fifth block.
    "wan_animate": wan(
        "AnimateWanModel",
        module="model_animate",
        config={"model_type": "animate", "in_dim": 36, "num_layers": 10},
        extra=_face_and_pose,
        change=_take_small_faces,
        published=WAN_14B,
        bypassed=("face_adapter.fuser_blocks",),
    ),
    # No block is left out as a whole: the pose branch calls the same blocks on a hit.
    "wan_animate2": wan(
        "WanAnimate2Model",
        module="model_animate2",
        config={"model_type": "animate2", "in_dim": 36},
        header={"model_type": "animate2"},
        method="forward_gen",
        extra=_pose_video,
    ),
    # Source: Wan-Video/Wan-Dancer diffsynth/models/wan_video_dit.py (14B MIT2V).
    "wan_dancer": wan(
        "WanDancerModel",
        module="model_wandancer",
        config=DANCER,
        extra=lambda generator: _music(generator, 30.0),
        published=WAN_14B,
        bypassed=("music_injector",),
    ),
    # Any other rate takes another head.
    "wan_dancer_global": wan(
        "WanDancerModel", module="model_wandancer", config=DANCER, extra=lambda generator: _music(generator, 7.5)
    ),
}
