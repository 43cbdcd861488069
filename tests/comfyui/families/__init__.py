"""Tiny models by name: every family that ComfyUI samples, in one or more configurations each."""

from __future__ import annotations

from . import (
    audio,
    cosmos,
    cross_attention,
    flux,
    hidream,
    hidream_o1,
    hunyuan,
    joint_blocks,
    kandinsky,
    lightricks,
    lumina,
    pixeldit,
    qwen,
    seedvr2,
    single_stream,
    stable_cascade,
    stable_diffusion_3,
    three_d,
    unet,
    wan,
    wan_side_modules,
)

LINES = (
    flux,
    hunyuan,
    kandinsky,
    stable_diffusion_3,
    qwen,
    hidream,
    joint_blocks,
    pixeldit,
    wan,
    wan_side_modules,
    lightricks,
    lumina,
    cosmos,
    cross_attention,
    single_stream,
    hidream_o1,
    audio,
    seedvr2,
    three_d,
    unet,
    stable_cascade,
)
FAMILIES = {name: family for line in LINES for name, family in line.FAMILIES.items()}
