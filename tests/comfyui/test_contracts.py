"""The widgets mean what they say, however the sampler and ComfyUI's batching call the model."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from in_process import NEVER, STEPS, Evaluation, relative_difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from in_process import ComfyUI

ALWAYS = 1.0
"""The highest threshold: every evaluation of the calm models may be reused."""
PLENTY = 1 << 50


def set_free_memory(monkeypatch: pytest.MonkeyPatch, answers: Iterator[int]) -> None:
    """What core believes to be free when it decides how many conds share a batch, and nowhere else."""
    import comfy.model_management
    import comfy.samplers
    from comfy.model_patcher import ModelPatcher

    if hasattr(ModelPatcher, "get_free_memory"):
        monkeypatch.setattr(ModelPatcher, "get_free_memory", lambda _self, _device: next(answers))
        return
    # Older versions ask the module, which answers other questions as before.
    management = SimpleNamespace(**vars(comfy.model_management))
    management.get_free_memory = lambda _device: next(answers)
    monkeypatch.setattr(comfy.samplers, "model_management", management)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_max_consecutive_cache_hits_computes_a_step_after_that_many_hits(comfy: ComfyUI, limit: int) -> None:
    run = comfy.sample(comfy.cached(comfy.model("flux_dev"), ALWAYS, max_consecutive_cache_hits=limit))
    computed = math.ceil(STEPS / (limit + 1))
    assert run.counts == (STEPS, computed, STEPS - computed)
    assert run.calls == (STEPS,) + (computed,) * (len(run.calls) - 1)


def test_no_limit_reuses_everything_after_the_first_step(comfy: ComfyUI) -> None:
    run = comfy.sample(comfy.cached(comfy.model("flux_dev"), ALWAYS, max_consecutive_cache_hits=-1))
    assert run.counts == (STEPS, 1, STEPS - 1)


@pytest.mark.parametrize("off", [{"residual_diff_threshold": 0.0}, {"max_consecutive_cache_hits": 0}])
def test_a_zero_switches_the_cache_off_and_the_node_says_which(comfy: ComfyUI, off: dict[str, float]) -> None:
    model = comfy.model("flux_dev")
    assert comfy.cached(model, **off) is model
    assert comfy.texts.last() == f"Off: {next(iter(off))} is 0."


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.5), (0.5, 1.0), (0.3, 0.7), (1.0, 0.0)])
def test_steps_are_reused_only_between_start_and_end(comfy: ComfyUI, start: float, end: float) -> None:
    from comfy.samplers import KSampler

    model = comfy.model("flux_dev")
    sampling = model.get_model_object("model_sampling")
    highest, lowest = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)
    sigmas = KSampler(model, STEPS, "cpu", "euler", "simple").sigmas[:-1].tolist()
    # The sigmas of the schedule are fp32; one that lies exactly on a limit belongs to the range.
    expected = sum(lowest * (1 - 1e-6) <= sigma <= highest * (1 + 1e-6) for sigma in sigmas[1:])
    run = comfy.sample(comfy.cached(model, ALWAYS, start=start, end=end))
    assert run.counts == (STEPS, STEPS - expected, expected)


@pytest.mark.parametrize("start", [0.2, 0.31, 0.5])
def test_start_and_end_include_the_sigma_they_name(comfy: ComfyUI, start: float) -> None:
    model = comfy.model("flux_dev")
    end = start + 0.2
    sampling = model.get_model_object("model_sampling")
    first, last = (float(sampling.percent_to_sigma(share)) for share in (start, end))
    points = [Evaluation(sigma) for sigma in (first + 0.01, first + 0.01, first, last, last - 0.01)]
    result = comfy.evaluate(comfy.cached(model, ALWAYS, start=start, end=end), "flux_dev", points)
    assert [calls[-1] for calls in result.calls] == [1, 1, 0, 0, 1]


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("free", [PLENTY, 0], ids=["batched", "split"])
def test_cfg_misses_exactly_and_hits_with_one_decision_for_both_conds(
    comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch, cfg: float, free: int
) -> None:
    set_free_memory(monkeypatch, itertools.repeat(free))
    model = comfy.model("flux_dev")
    plain = comfy.sample(model, cfg=cfg)
    missed = comfy.sample(comfy.cached(model, NEVER), cfg=cfg)
    cached = comfy.sample(comfy.cached(model), cfg=cfg)
    per_evaluation = 2 if cfg > 1 and free == 0 else 1
    evaluations, computed, reused = cached.counts
    assert plain.calls[0] == STEPS * per_evaluation
    assert torch.equal(missed.latent, plain.latent)
    assert (evaluations, computed + reused) == (STEPS, STEPS)
    assert reused > 0
    assert cached.calls == (per_evaluation * STEPS,) + (per_evaluation * computed,) * (len(cached.calls) - 1)


def test_batches_that_split_in_every_other_step_still_hit(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    model = comfy.cached(comfy.model("flux_dev"), ALWAYS)
    set_free_memory(monkeypatch, itertools.cycle([PLENTY, 0, 0]))
    run = comfy.sample(model, cfg=4.0)
    assert run.counts == (STEPS, 1, STEPS - 1)
    assert run.calls[0] == STEPS * 3 // 2


@pytest.mark.parametrize("order", [[PLENTY, 0, 0], [0, 0, PLENTY]], ids=["batched first", "split first"])
def test_a_hit_in_another_split_gives_the_computed_output(
    comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch, order: list[int]
) -> None:
    set_free_memory(monkeypatch, itertools.cycle(order))
    model = comfy.cached(comfy.model("flux_dev"))
    computed, reused = comfy.evaluate(model, "flux_dev", [Evaluation(), Evaluation()], cfg=4.0).outputs
    assert relative_difference(reused, computed) <= 2e-6  # another batch size rounds the first block differently


def test_a_batch_of_two_pictures_hits_exactly(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    plain = comfy.sample(model, cfg=4.0, batch=2, steps=6)
    missed = comfy.sample(comfy.cached(model, NEVER), cfg=4.0, batch=2, steps=6)
    cached = comfy.sample(comfy.cached(model), cfg=4.0, batch=2)
    assert torch.equal(missed.latent, plain.latent)
    assert cached.reused > 0


@pytest.mark.parametrize(("sampler", "evaluations"), [("heun", 23), ("dpmpp_2m", 12), ("uni_pc", 12)])
def test_other_samplers_miss_exactly_and_hit(comfy: ComfyUI, sampler: str, evaluations: int) -> None:
    model = comfy.model("flux_dev")
    plain = comfy.sample(model, steps=12, sampler=sampler)
    missed = comfy.sample(comfy.cached(model, NEVER), steps=12, sampler=sampler)
    first, second = (comfy.sample(comfy.cached(model), steps=12, sampler=sampler) for _ in range(2))
    assert torch.equal(missed.latent, plain.latent)
    assert missed.counts == (evaluations, evaluations, 0)
    assert first.reused > 0
    assert torch.equal(first.latent, second.latent)


def test_two_samplers_on_one_patched_model_do_not_know_of_each_other(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    alone = [comfy.sample(comfy.cached(model), seed=seed) for seed in (1, 2)]
    shared = comfy.cached(model)
    together = [comfy.sample(shared, seed=seed) for seed in (1, 2)]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.latent, other.latent)
        assert one.counts == other.counts


def test_of_two_cache_nodes_in_a_row_the_last_one_counts(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    twice = comfy.sample(comfy.cached(comfy.cached(model, ALWAYS), ALWAYS, max_consecutive_cache_hits=1))
    once = comfy.sample(comfy.cached(model, ALWAYS, max_consecutive_cache_hits=1))
    assert torch.equal(twice.latent, once.latent)
    assert twice.counts == once.counts == (STEPS, STEPS // 2, STEPS // 2)


def test_another_shape_in_the_next_run_starts_afresh(comfy: ComfyUI) -> None:
    model = comfy.cached(comfy.model("flux_dev"))
    before = comfy.sample(model)
    comfy.sample(model, batch=3, steps=4)
    assert torch.equal(comfy.sample(model).latent, before.latent)


@pytest.mark.parametrize("strategy", ["classic", "forecast"])
def test_a_cache_that_rests_on_the_cpu_gives_the_same_picture(comfy: ComfyUI, strategy: str) -> None:
    model = comfy.model("flux_dev")
    runs = [
        comfy.sample(comfy.cached(model, cache_device=device, strategy=strategy), cfg=2.0) for device in ("gpu", "cpu")
    ]
    assert runs[0].reused > 0
    assert runs[0].text == runs[1].text
    assert torch.equal(runs[0].latent, runs[1].latent)


def test_an_unknown_cache_device_is_refused_with_the_choices(comfy: ComfyUI) -> None:
    with pytest.raises(ValueError, match="cache_device is 'disk'; it must be one of gpu, cpu"):
        comfy.cached(comfy.model("flux_dev"), cache_device="disk")
