"""Tiny models by name: every family that ComfyUI samples, in one or more configurations each."""

from __future__ import annotations

from . import (
    audio,
    cosmos,
    cross_attention,
    flux,
    hidream_o1,
    lightricks,
    lumina,
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
    stable_diffusion_3,
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
