"""Tiny models by name: every family that ComfyUI samples, in one or more configurations each."""

from __future__ import annotations

from . import cosmos, flux, lightricks, lumina, stable_diffusion_3, wan, wan_side_modules

FAMILIES = {
    **flux.FAMILIES,
    **stable_diffusion_3.FAMILIES,
    **wan.FAMILIES,
    **wan_side_modules.FAMILIES,
    **lightricks.FAMILIES,
    **lumina.FAMILIES,
    **cosmos.FAMILIES,
}
SUPPORTED = [name for name, family in FAMILIES.items() if family.stages]
