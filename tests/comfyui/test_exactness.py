"""A miss changes nothing, a hit with unchanged input reproduces what was computed: FLUX.1 in fp32, others in 16 bit.

All families in fp32 are in test_models.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from in_process import NEVER, STEPS, Evaluation, relative_difference
from tiny_models import build

if TYPE_CHECKING:
    from in_process import ComfyUI

TOLERANCE = 1e-6
SHORT = 6


@pytest.mark.parametrize("threshold", [0.0, NEVER])
def test_a_run_without_hits_equals_the_run_without_the_node_bit_for_bit(comfy: ComfyUI, threshold: float) -> None:
    model = comfy.model("flux_dev")
    plain = comfy.sample(model)
    cached = comfy.sample(comfy.cached(model, threshold))
    assert torch.isfinite(plain.latent).all()
    assert torch.equal(cached.latent, plain.latent)
    assert set(cached.calls) == {STEPS}


def test_the_usual_threshold_reuses_steps_and_gives_the_same_latent_twice(comfy: ComfyUI) -> None:
    model = comfy.cached(comfy.model("flux_dev"))
    first, second = comfy.sample(model), comfy.sample(model)
    evaluations, computed, reused = first.counts
    assert (evaluations, computed + reused) == (STEPS, STEPS)
    assert 0 < reused < STEPS - 1
    assert first.calls == (STEPS,) + (computed,) * (len(first.calls) - 1)
    assert torch.equal(first.latent, second.latent)
    assert first.counts == second.counts


# Cosmos-Predict2 and Anima keep the state of their blocks in fp32 when they compute in fp16.
SIXTEEN_BIT = [
    (family, dtype)
    for family in ("flux_dev", "qwen_image", "sdxl", "cosmos_predict2", "anima")
    for dtype in (torch.bfloat16, torch.float16)
]


@pytest.mark.parametrize(("family", "dtype"), SIXTEEN_BIT, ids=str)
def test_a_16_bit_model_is_exact_on_a_miss_and_on_a_hit(comfy: ComfyUI, family: str, dtype: torch.dtype) -> None:
    model = build(family, dtype=dtype)
    assert model.model.get_dtype() is dtype
    plain = comfy.evaluate(model, family, [Evaluation()])
    cached = comfy.evaluate(comfy.cached(model), family, [Evaluation(), Evaluation()])
    assert torch.isfinite(plain.outputs[0]).all()
    assert cached.run.counts == (2, 1, 1)
    assert torch.equal(cached.outputs[0], plain.outputs[0])
    # The residual is kept in fp32, and the sum of two 16-bit numbers and their difference in fp32 is exact.
    assert relative_difference(cached.outputs[1], cached.outputs[0]) <= TOLERANCE


@pytest.mark.parametrize(("family", "dtype"), SIXTEEN_BIT, ids=str)
def test_a_16_bit_run_that_always_misses_equals_the_plain_run(comfy: ComfyUI, family: str, dtype: torch.dtype) -> None:
    model = build(family, dtype=dtype)
    plain = comfy.sample(model, family, steps=SHORT)
    cached = comfy.sample(comfy.cached(model, NEVER), family, steps=SHORT)
    assert torch.isfinite(plain.latent).all()
    assert torch.equal(cached.latent, plain.latent)
