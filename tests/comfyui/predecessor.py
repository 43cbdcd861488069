"""What Comfy-WaveSpeed, whose workflows this pack runs, does with the same tiny models: for docs/models.md.

Only where COMFY_WAVESPEED_DIR names a copy of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tiny_models
import torch
from in_process import NEVER, NODE, USUAL

if TYPE_CHECKING:
    from in_process import ComfyUI

STEPS = 10
LONGEST = 90


def node(comfy: ComfyUI) -> type | None:
    folder = os.environ.get("COMFY_WAVESPEED_DIR")
    return comfy.load_pack(Path(folder)).nodes[NODE] if folder else None


def verdict(comfy: ComfyUI, node_class: type, name: str) -> str:
    """In a few words: what it raises, "never reuses" or "reuses". On a fresh model, because it leaves things there."""
    model = tiny_models.build(name)

    def sampled(threshold: float | None) -> tuple[torch.Tensor, int]:
        patched = model.clone()
        if threshold is not None:
            patched = comfy.call(
                node_class,
                model=patched,
                object_to_patch="diffusion_model",
                residual_diff_threshold=threshold,
                start=0.0,
                end=1.0,
                max_consecutive_cache_hits=-1,
            )
        with comfy.count_blocks(model, name) as counter, torch.inference_mode():
            latent = comfy.sample_latent(patched, name, steps=STEPS)
        return latent, sum(counter.counts())

    plain, all_calls = sampled(None)
    try:
        missed, _ = sampled(NEVER)
        _, calls = sampled(USUAL)
    except Exception as problem:  # whatever it raises is the answer
        text = str(problem).strip().split("\n", 1)[0]
        return f"{type(problem).__name__}: {text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'}"
    difference = ((missed - plain).norm() / plain.norm()).item()
    wrong = "" if torch.equal(missed, plain) else f", and a run without hits is {difference:.1%} off"
    return ("reuses" if calls < all_calls else "never reuses") + wrong
