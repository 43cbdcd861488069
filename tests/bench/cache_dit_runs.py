"""cache-dit on the demo model: its own code on diffusers' Flux, with ComfyUI's noise, schedule, samplers and guidance.

    build/venv/bin/python -m pip install --no-deps --target build/cache_dit diffusers==0.42.1 cache-dit==1.5.3
    PYTHONPATH=build/cache_dit OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/quality.py --output build/lines.jsonl

The folder holds these two packages alone: what they need of others comes with ComfyUI, whose torch stays as it is.

cache-dit (https://github.com/vipshop/cache-dit) takes double and single blocks as one list. It computes the first F of
them, compares what they add with what they added in the last computed evaluation, and reuses or forecasts what the
other blocks add; B of the last ones may be computed again. The first W evaluations are computed, and at most MC are
left out in a row. Positive and negative prompt are forwards of their own that share a decision: its default, decisions
of their own, gives worse pictures here.

F is 1, as in First Block Cache, or 2, which is of 12 blocks what its default of 8 is of the 57 of FLUX.1. By default
B is 0, W is 8 and MC has no limit; W 4 and MC 3 are the defaults of SGLang, which offers cache-dit
(https://docs.sglang.io/diffusion/environment_variables.html). W 3 with MC 2 or 3 is the best that was found for its
TaylorSeer on this model.
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


NO_LIMIT = -1


@dataclass(frozen=True)
class Configuration:
    first_blocks: int
    warm_up: int
    left_out_in_a_row: int
    taylor: bool


CONFIGURATIONS = {
    "cache-dit F1B0 W8": Configuration(1, 8, NO_LIMIT, taylor=False),
    "cache-dit F1B0 W8 TaylorSeer": Configuration(1, 8, NO_LIMIT, taylor=True),
    "cache-dit F2B0 W8": Configuration(2, 8, NO_LIMIT, taylor=False),
    "cache-dit F2B0 W8 TaylorSeer": Configuration(2, 8, NO_LIMIT, taylor=True),
    "cache-dit F1B0 W4 MC3": Configuration(1, 4, 3, taylor=False),
    "cache-dit F1B0 W3 MC2 TaylorSeer": Configuration(1, 3, 2, taylor=True),
    "cache-dit F1B0 W3 MC3 TaylorSeer": Configuration(1, 3, 3, taylor=True),
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
                max_continuous_cached_steps=configuration.left_out_in_a_row,
                residual_diff_threshold=threshold,
                enable_separate_cfg=prompts == 2,
                cfg_diff_compute_separate=False,
            ),
            calibrator_config=cache_dit.TaylorSeerCalibratorConfig() if configuration.taylor else None,
        )
        return in_place_of_comfyui(model, transformer)
