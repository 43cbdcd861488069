"""cache-dit on the demo model: its own code on diffusers' Flux, with ComfyUI's noise, schedule, samplers and guidance.

    build/venv/bin/python -m pip install --no-deps --target build/cache_dit diffusers==0.42.1 cache-dit==1.5.3
    PYTHONPATH=build/cache_dit OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/quality.py --output build/lines.jsonl

The folder holds these two packages alone: what they need of others comes with ComfyUI, whose torch stays as it is.

cache-dit (https://github.com/vipshop/cache-dit) takes double and single blocks as one list. It computes the first F of
them, compares what they add with what they added in the last computed evaluation, and reuses or forecasts what the
other blocks add; B of the last ones may be computed again. The first W evaluations are computed. Positive and negative
prompt are forwards of their own, as in the pipelines that it knows to have guidance, each with its own decisions.

F is 1, as in First Block Cache, or 2, which is of 12 blocks what the default of 8 is of the 57 of FLUX.1; B is 0 and W
8, the defaults. W 4 is there because 8 is much of a run of 20 or 28 steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from diffusers_flux import diffusers_flux, in_place_of_comfyui
from safetensors.torch import load_file

from comfyui_tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import FluxTransformer2DModel

WEIGHTS = ROOT / "demo_model" / "diffusion_models" / "wavespeed_demo_flux.safetensors"
PACKAGES = {"diffusers": "diffusers", "cache_dit": "cache-dit"}
"""Module and name on PyPI."""


@dataclass(frozen=True)
class Configuration:
    first_blocks: int
    warm_up: int
    taylor: bool


CONFIGURATIONS = {
    f"cache-dit F{first}B0 W{warm_up}{' TaylorSeer' if taylor else ''}": Configuration(first, warm_up, taylor)
    for first, warm_up in ((1, 8), (1, 4), (2, 8))
    for taylor in (False, True)
}


def missing_package() -> str | None:
    return next((name for module, name in PACKAGES.items() if find_spec(module) is None), None)


class CacheDit:
    def __init__(self, count: Callable[[float], None]) -> None:
        """count is called with the share of an evaluation that each computed block is."""
        self._count = count
        self._plain: FluxTransformer2DModel = diffusers_flux(load_file(WEIGHTS))

    def patched(self, model: Any, configuration: Configuration, threshold: float, cfg: float) -> Any:
        """The model patcher for one run."""
        import cache_dit

        transformer = copy.deepcopy(self._plain)
        prompts = 1 if cfg == 1 else 2
        # As for every other method, the first block is charged to nobody.
        charged = [*transformer.transformer_blocks, *transformer.single_transformer_blocks][1:]
        for block in charged:
            block.register_forward_hook(lambda *_call: self._count(1 / (prompts * len(charged))))
        cache_dit.enable_cache(
            transformer,
            cache_config=cache_dit.DBCacheConfig(
                Fn_compute_blocks=configuration.first_blocks,
                Bn_compute_blocks=0,
                max_warmup_steps=configuration.warm_up,
                residual_diff_threshold=threshold,
                enable_separate_cfg=prompts == 2,
            ),
            calibrator_config=cache_dit.TaylorSeerCalibratorConfig() if configuration.taylor else None,
        )
        return in_place_of_comfyui(model, transformer)
