"""The set speedup on real samplers: the share that was asked for is computed, and the picture is worth it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest
import tiny_models
import torch
from demo_pictures import DEMO_STEPS, SUBJECTS, demo_model, distance_in_decibels, draw
from in_process import CACHE_NODE_ID, COUNTS

if TYPE_CHECKING:
    from in_process import ComfyUI

NODE = "WaveSpeedFirstBlockCache"
SAMPLERS = (
    "euler", "heun", "heunpp2", "dpm_2", "lms", "dpmpp_2m", "uni_pc", "res_multistep", "ipndm", "deis", "ddim",
    "euler_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "er_sde", "seeds_3", "sa_solver",
)  # fmt: skip


def with_speedup(comfy: ComfyUI, model: Any, speedup: float = 2.0, **inputs: Any) -> Any:
    return comfy.call(NODE, model=model, speedup=speedup, unique_id=CACHE_NODE_ID, **inputs)


@pytest.mark.parametrize("steps", [20, 50])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_share_asked_for_is_computed(comfy: ComfyUI, sampler: str, steps: int) -> None:
    """Within 5 %, or to the nearest whole evaluation where one is more than that."""
    for speedup in (1.5, 2.0, 3.0):
        run = comfy.sample(with_speedup(comfy, comfy.model("flux_dev"), speedup), steps=steps, sampler=sampler)
        evaluations, computed, _ = run.counts
        asked = evaluations / speedup
        assert abs(computed - asked) <= max(0.05 * asked, 0.5), f"{computed} of {evaluations} for {speedup}"


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "dpmpp_sde"])
def test_the_seed_does_not_change_the_share(comfy: ComfyUI, sampler: str) -> None:
    model = with_speedup(comfy, comfy.model("flux_dev"))
    counts = {comfy.sample(model, steps=20, sampler=sampler, seed=seed).counts for seed in range(4)}
    assert len(counts) == 1


@pytest.mark.parametrize("family", ["flux_dev", "sd35", "wan", "sdxl"])
def test_it_runs_on_every_family_and_gives_the_same_latent_twice(comfy: ComfyUI, family: str) -> None:
    model = with_speedup(comfy, comfy.model(family))
    first, second = (comfy.sample(model, family, steps=12, cfg=2.0) for _ in range(2))
    assert first.counts == (12, 6, 6)
    assert torch.isfinite(first.latent).all()
    assert torch.equal(first.latent, second.latent)


def test_a_speedup_of_one_equals_the_plain_run_bit_for_bit(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    cached = comfy.sample(with_speedup(comfy, model, 1.0), steps=8)
    assert torch.equal(cached.latent, comfy.sample(model, steps=8).latent)
    assert cached.counts == (8, 8, 0)


def test_the_old_node_without_a_speedup_keeps_its_pictures(comfy: ComfyUI) -> None:
    """And with one it does what the new node does."""
    model = comfy.model("flux_dev")
    old, new = (comfy.sample(comfy.cached(model, 0.2, **given)) for given in ({}, {"speedup": 0.0}))
    assert old.reused > 0
    assert torch.equal(old.latent, new.latent)
    set_there = comfy.sample(comfy.cached(model, 0.2, strategy="forecast", speedup=2.0))
    assert torch.equal(set_there.latent, comfy.sample(with_speedup(comfy, model)).latent)


def test_a_shorter_run_through_a_part_of_the_schedule_keeps_the_share(comfy: ComfyUI) -> None:
    """KSampler (Advanced) ends above sigma 0, and begins below the highest one."""
    model = with_speedup(comfy, comfy.model("flux_dev"))
    empty = comfy.empty_latent("flux_dev")
    conds = [tiny_models.conditioning("flux_dev", seed=seed) for seed in (1, 2)]
    for first, last in ((0, 20), (10, 40)):
        with torch.inference_mode():
            comfy.call(
                "KSamplerAdvanced",
                model=model,
                add_noise="enable",
                noise_seed=1,
                steps=40,
                cfg=1.0,
                sampler_name="heun",
                scheduler="simple",
                positive=conds[0],
                negative=conds[1],
                latent_image={"samples": empty},
                start_at_step=first,
                end_at_step=last,
                return_with_leftover_noise="enable",
            )
        text = comfy.texts.last()
        found = COUNTS.search(text)
        assert found is not None, text
        evaluations, computed = int(found[1]), int(found[2])
        assert abs(computed - evaluations / 2) <= 1, text


def test_start_and_end_are_stronger_and_the_node_says_so(comfy: ComfyUI) -> None:
    run = comfy.sample(with_speedup(comfy, comfy.model("flux_dev"), 4.0, start=0.5, end=0.6), steps=20)
    assert "asked 25 %: start, end or max_consecutive_cache_hits kept" in run.text


@pytest.mark.parametrize(
    ("sampler", "strategy", "told"),
    [("euler_ancestral", "forecast", True), ("dpmpp_2m_sde", "forecast", True), ("euler", "forecast", False),
     ("euler_ancestral", "classic", False)],
)  # fmt: skip
def test_the_node_says_that_fresh_noise_cannot_be_foreseen(
    comfy: ComfyUI, sampler: str, strategy: str, told: bool
) -> None:
    model = with_speedup(comfy, comfy.model("flux_dev"), strategy=strategy)
    text = comfy.sample(model, steps=8, sampler=sampler).text
    assert ("This sampler adds new noise in every step" in text) is told


def test_no_hits_allowed_switches_it_off(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    assert with_speedup(comfy, model, max_consecutive_cache_hits=0) is model
    assert comfy.texts.last() == "Off: max_consecutive_cache_hits is 0."


def test_it_is_nearer_to_the_full_picture_than_fewer_steps_and_than_classic(comfy: ComfyUI) -> None:
    """On the demo model at half the steps: the mean over four subjects."""
    model = demo_model(comfy)
    gaps = []
    for subject in SUBJECTS:
        full = draw(comfy, model, subject, DEMO_STEPS)
        reached, stale, fewer = (
            distance_in_decibels(draw(comfy, patched, subject, steps), full)
            for patched, steps in (
                (with_speedup(comfy, model), DEMO_STEPS),
                (with_speedup(comfy, model, strategy="classic"), DEMO_STEPS),
                (model, DEMO_STEPS // 2),
            )
        )
        gaps.append((reached - fewer, reached - stale))
    assert statistics.fmean(gap for gap, _ in gaps) > 1
    assert statistics.fmean(gap for _, gap in gaps) > 4
