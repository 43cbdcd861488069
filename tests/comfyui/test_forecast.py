"""The forecast strategy on real models: exact where it computes, and worth its memory where it does not."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
import torch
from demo_pictures import DEMO_STEPS, SUBJECTS, demo_model, distance_in_decibels, draw
from in_process import NEVER, Evaluation, relative_difference

if TYPE_CHECKING:
    from in_process import ComfyUI

TOLERANCE = 1e-6
FAMILIES = ("flux_dev", "chroma_skipping_blocks", "sd35", "wan")
SHORT = 6


@pytest.mark.parametrize("family", FAMILIES)
def test_always_missing_equals_the_plain_run_bit_for_bit(comfy: ComfyUI, family: str) -> None:
    model = comfy.model(family)
    plain = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    cached = comfy.sample(comfy.cached(model, NEVER, strategy="forecast"), family, steps=SHORT, cfg=2.0)
    assert torch.equal(cached.latent, plain.latent)
    assert cached.counts == (SHORT, SHORT, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hit_on_unchanged_input_runs_one_block_and_gives_the_computed_output(comfy: ComfyUI, family: str) -> None:
    model = comfy.cached(comfy.model(family), strategy="forecast")
    cached = comfy.evaluate(model, family, [Evaluation()] * 3)
    blocks = len(cached.calls[0])
    assert cached.run.counts == (3, 2, 1)
    assert cached.calls[-1] == (1,) + (0,) * (blocks - 1)
    assert relative_difference(cached.outputs[2], cached.outputs[1]) <= TOLERANCE


@pytest.mark.parametrize("family", ["ltx2", "hunyuan_video_reference_latent", "sdxl"])
def test_a_history_of_other_states(comfy: ComfyUI, family: str) -> None:
    """Several streams packed into one, a head that is given a part of the tokens, and the early exit of a UNet."""
    model = comfy.model(family)
    plain = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    cached = comfy.sample(comfy.cached(model, NEVER, strategy="forecast"), family, steps=SHORT, cfg=2.0)
    assert torch.equal(cached.latent, plain.latent)
    repeated = comfy.evaluate(comfy.cached(model, strategy="forecast"), family, [Evaluation()] * 4)
    assert repeated.run.counts == (4, 2, 2)
    assert relative_difference(repeated.outputs[3], repeated.outputs[1]) <= TOLERANCE


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_steps_are_left_out_and_the_same_latent_comes_twice(comfy: ComfyUI, sampler: str, cfg: float) -> None:
    model = comfy.cached(comfy.model("flux_dev"), 0.2, strategy="forecast")
    first, second = (comfy.sample(model, cfg=cfg, sampler=sampler) for _ in range(2))
    assert first.reused > 0
    assert torch.isfinite(first.latent).all()
    assert torch.equal(first.latent, second.latent)


def test_an_unknown_strategy_is_refused(comfy: ComfyUI) -> None:
    with pytest.raises(ValueError, match=r"strategy is 'guess'; it must be one of classic, forecast\."):
        comfy.cached(comfy.model("flux_dev"), strategy="guess")


def test_it_is_nearer_to_the_full_picture_than_fewer_steps_and_than_classic(comfy: ComfyUI) -> None:
    """On the demo model: the same number of computed steps, the mean over four subjects."""
    model = demo_model(comfy)
    gaps = []
    for subject in SUBJECTS:
        full = draw(comfy, model, subject, DEMO_STEPS)
        forecast = draw(comfy, comfy.cached(model, 0.08, strategy="forecast"), subject, DEMO_STEPS)
        computed = int(comfy.texts.last().split(" evaluations: ")[1].split()[0])
        assert DEMO_STEPS / 3 < computed < DEMO_STEPS * 2 / 3
        classic = draw(comfy, comfy.cached(model, 0.1), subject, DEMO_STEPS)
        reached, fewer, stale = (
            distance_in_decibels(latent, full) for latent in (forecast, draw(comfy, model, subject, computed), classic)
        )
        gaps.append((reached - fewer, reached - stale))
    assert statistics.fmean(gap for gap, _ in gaps) > 3
    assert statistics.fmean(gap for _, gap in gaps) > 6
