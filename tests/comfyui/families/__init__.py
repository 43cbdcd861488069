"""Tiny models by name: every family that ComfyUI samples, in one or more configurations each."""

from __future__ import annotations

from . import flux, stable_diffusion_3, unet_tmp, wan

FAMILIES = {**flux.FAMILIES, **stable_diffusion_3.FAMILIES, **wan.FAMILIES, **unet_tmp.FAMILIES}
