"""A miss changes nothing, a hit with unchanged input reproduces what was computed: for every family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from in_process import NEVER, STEPS, USUAL, Evaluation, relative_difference
from tiny_models import SUPPORTED, build

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


@pytest.mark.parametrize("family", SUPPORTED)
def test_always_missing_equals_the_plain_run_bit_for_bit(comfy: ComfyUI, family: str) -> None:
    model = comfy.model(family)
    plain = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    cached = comfy.sample(comfy.cached(model, NEVER), family, steps=SHORT, cfg=2.0)
    assert torch.isfinite(plain.latent).all()
    assert torch.equal(cached.latent, plain.latent)
    assert cached.counts == (SHORT, SHORT, 0)


@pytest.mark.parametrize("family", SUPPORTED)
def test_a_hit_on_unchanged_input_runs_one_block_and_gives_the_computed_output(comfy: ComfyUI, family: str) -> None:
    model = comfy.model(family)
    plain = comfy.evaluate(model, family, [Evaluation()])
    cached = comfy.evaluate(comfy.cached(model), family, [Evaluation(), Evaluation()])
    computed, reused = cached.outputs
    blocks = len(cached.calls[0])
    assert cached.run.counts == (2, 1, 1)
    assert cached.calls == [(1,) * blocks, (1,) + (0,) * (blocks - 1)]
    assert torch.equal(computed, plain.outputs[0])
    assert relative_difference(reused, computed) <= TOLERANCE


@pytest.mark.parametrize("family", SUPPORTED)
def test_hits_happen_and_stay_near_the_plain_picture(comfy: ComfyUI, family: str) -> None:
    model = comfy.model(family)
    plain = comfy.sample(model, family, steps=12)
    cached = comfy.sample(comfy.cached(model), family, steps=12)
    assert cached.reused > 0
    assert relative_difference(cached.latent, plain.latent) < 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_16_bit_model_is_exact_on_a_miss_and_on_a_hit(comfy: ComfyUI, dtype: torch.dtype) -> None:
    model = build("flux_dev", dtype=dtype)
    assert model.model.get_dtype() is dtype
    plain = comfy.evaluate(model, "flux_dev", [Evaluation()])
    cached = comfy.evaluate(comfy.cached(model), "flux_dev", [Evaluation(), Evaluation()])
    assert torch.isfinite(plain.outputs[0]).all()
    assert cached.run.counts == (2, 1, 1)
    assert torch.equal(cached.outputs[0], plain.outputs[0])
    # The residual is kept in fp32, and the sum of two 16-bit numbers and their difference in fp32 is exact.
    assert relative_difference(cached.outputs[1], cached.outputs[0]) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_16_bit_run_that_always_misses_equals_the_plain_run(comfy: ComfyUI, dtype: torch.dtype) -> None:
    model = build("flux_dev", dtype=dtype)
    plain = comfy.sample(model, steps=SHORT)
    cached = comfy.sample(comfy.cached(model, NEVER), steps=SHORT)
    assert torch.equal(cached.latent, plain.latent)


def test_an_unsupported_family_passes_through_and_the_node_names_its_class(comfy: ComfyUI) -> None:
    model = comfy.model("wan")
    plain = comfy.sample(model, "wan", steps=SHORT)
    behind_node = comfy.cached(model, USUAL)
    text = comfy.texts.last()
    cached = comfy.sample(behind_node, "wan", steps=SHORT)
    assert torch.equal(cached.latent, plain.latent)
    assert text.startswith("Passed through: models of class WanModel are not supported yet")
