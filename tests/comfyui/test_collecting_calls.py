"""Models whose blocks collect keys and values for later calls: a skipped block there would leave them out.

HiDream-O1 collects those of the text in its first call, causal Wan those of the frames in every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from checks import custom_run, node
from in_process import NEVER, USUAL

if TYPE_CHECKING:
    from in_process import ComfyUI, Run

FAMILY = "hidream_o1"
STEPS = 10
ALL = 1.0
LAYERS = 4


def sample_from_nothing(comfy: ComfyUI, threshold: float | None) -> Run:
    """A run of a model that has not collected anything yet; threshold None leaves the node out."""
    model = comfy.model(FAMILY)
    model.model.diffusion_model.clear_kv_cache()
    return comfy.sample(model if threshold is None else comfy.cached(model, threshold), FAMILY, steps=STEPS, cfg=2.0)


@pytest.mark.parametrize("threshold", [NEVER, USUAL])
def test_the_collecting_call_is_computed_and_not_counted(comfy: ComfyUI, threshold: float) -> None:
    cached = sample_from_nothing(comfy, threshold)
    assert cached.counts[0] == STEPS - 1
    entries = comfy.model(FAMILY).model.diffusion_model._kv_cache_entries
    assert [len(entry["kv"]) for entry in entries] == [LAYERS] * len(entries)
    assert entries


def test_a_run_that_begins_with_it_equals_the_plain_run(comfy: ComfyUI) -> None:
    plain, cached = sample_from_nothing(comfy, None), sample_from_nothing(comfy, NEVER)
    assert torch.equal(cached.latent, plain.latent)


def test_steps_are_reused_after_it_and_what_it_collected_stays(comfy: ComfyUI) -> None:
    first = sample_from_nothing(comfy, USUAL)
    kept = [tensor.clone() for entry in _collected(comfy) for tensor in entry]
    assert first.reused > 0
    comfy.sample(comfy.cached(comfy.model(FAMILY), USUAL), FAMILY, steps=STEPS, cfg=2.0)
    again = [tensor for entry in _collected(comfy) for tensor in entry]
    assert len(again) == len(kept)
    assert all(torch.equal(tensor, earlier) for tensor, earlier in zip(again, kept, strict=True))


def _collected(comfy: ComfyUI) -> list[tuple[torch.Tensor, torch.Tensor]]:
    entries = comfy.model(FAMILY).model.diffusion_model._kv_cache_entries
    return [pair for entry in entries for pair in entry["kv"]]


@pytest.mark.parametrize("strategy", ["classic", "forecast"])
def test_a_video_sampled_frame_by_frame_is_always_computed(comfy: ComfyUI, strategy: str) -> None:
    sampler = comfy.call(node("nodes_ar_video", "SamplerARVideo"), num_frame_per_block=1)
    start = torch.randn(comfy.empty_latent("wan_causal").shape, generator=torch.Generator().manual_seed(3))

    def run(model: Any, **how: Any) -> torch.Tensor:
        # The sampler makes caches for one cond only.
        return custom_run(model, "wan_causal", torch.linspace(1, 0, 5), start, cfg=1.0, **how)

    model = comfy.model("wan_causal")
    plain = run(model, sampler=sampler)
    assert torch.isfinite(plain).all()
    assert not torch.equal(plain, run(model))
    assert torch.equal(run(comfy.cached(model, ALL, strategy=strategy), sampler=sampler), plain)
    assert comfy.texts.last() == (
        "Wan causal · cache idle: with ar_state its blocks fill caches that later calls read, so every call is computed"
    )
