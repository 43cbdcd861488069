"""Unusual runs: several models, threads, samplers that repeat evaluations or raise sigma again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from checks import SHORT, custom_run, node
from in_process import NEVER, USUAL, relative_difference
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from in_process import ComfyUI

ALL = 1.0


def test_two_experts_in_two_runs_keep_to_themselves(comfy: ComfyUI) -> None:
    """Wan 2.2: a model for high noise, another for low noise, each behind a cache of its own."""
    high, low = comfy.model("wan"), build("wan", seed=99)
    sigmas = torch.linspace(1, 0, 9)
    start = torch.randn(comfy.empty_latent("wan").shape, generator=torch.Generator().manual_seed(3))

    def both(threshold: float | None) -> torch.Tensor:
        models = (high, low) if threshold is None else (comfy.cached(high, threshold), comfy.cached(low, threshold))
        middle = custom_run(models[0], "wan", sigmas[:5], start)
        return custom_run(models[1], "wan", sigmas[4:], middle)

    plain = both(None)
    assert torch.equal(both(NEVER), plain)
    first, second = both(USUAL), both(USUAL)
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert relative_difference(first, plain) < 0.5


@pytest.mark.parametrize(
    "sampler", ["dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde", "dpm_adaptive", "res_multistep", "uni_pc", "sa_solver_pece"]
)
def test_samplers_with_more_evaluations_or_noise_miss_exactly_and_end_finite(comfy: ComfyUI, sampler: str) -> None:
    from comfy.samplers import SAMPLER_NAMES

    if sampler not in SAMPLER_NAMES:
        pytest.skip(f"This ComfyUI has no sampler {sampler}.")
    model = comfy.model("flux_dev")
    plain = comfy.sample(model, steps=SHORT, sampler=sampler)
    missed = comfy.sample(comfy.cached(model, NEVER), steps=SHORT, sampler=sampler)
    assert torch.equal(missed.latent, plain.latent)
    assert missed.calls == plain.calls
    reused = comfy.sample(comfy.cached(model, USUAL), steps=SHORT, sampler=sampler)
    assert torch.isfinite(reused.latent).all()


def test_a_sampler_that_raises_sigma_again_needs_no_reset(comfy: ComfyUI) -> None:
    sigmas = torch.tensor([1.0, 0.8, 0.6, 0.9, 0.7, 0.5, 0.8, 0.4, 0.0])
    start = torch.randn(comfy.empty_latent("flux_dev").shape, generator=torch.Generator().manual_seed(3))
    model = comfy.model("flux_dev")
    plain = custom_run(model, "flux_dev", sigmas, start)
    assert torch.equal(custom_run(comfy.cached(model, NEVER), "flux_dev", sigmas, start), plain)
    for strategy in ("classic", "forecast"):
        reused = custom_run(comfy.cached(model, 0.3, strategy=strategy), "flux_dev", sigmas, start)
        assert torch.isfinite(reused).all()
        assert relative_difference(reused, plain) < 1.0


def test_one_run_on_two_devices_at_once(comfy: ComfyUI) -> None:
    """Several GPUs: core calls a clone of the model per device, each from a thread of its own, in one evaluation."""
    from comfy.patcher_extension import WrappersMP

    first, second = comfy.model("flux_dev"), build("flux_dev", seed=0)
    assert first.model is not second.model
    seen: list[int] = []

    def spread(executor: Any, *args: Any, **kwargs: Any) -> Any:
        """The call goes to both models at the same time; ComfyUI gets the first one's result."""
        results: dict[int, torch.Tensor] = {}
        together = threading.Barrier(2)

        def work(index: int, model: Any) -> None:
            with torch.inference_mode():
                together.wait(timeout=60)
                options = {**args[5], "wrappers": inner}
                results[index] = model.apply_model(*args[:5], options, *args[6:], **kwargs)

        inner = {kind: dict(wrappers) for kind, wrappers in args[5]["wrappers"].items()}
        inner[WrappersMP.APPLY_MODEL].pop("test")
        threads = [threading.Thread(target=work, args=pair) for pair in enumerate((first.model, second.model))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        seen.append(len(results))
        assert torch.equal(results[0], results[1]), "two models with the same weights gave different results"
        return results[0]

    from comfy.model_management import load_models_gpu

    load_models_gpu([first, second])
    plain = comfy.sample(first, steps=SHORT, cfg=2.0)
    spreading = comfy.cached(first, USUAL)
    spreading.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", spread)
    run = comfy.sample(spreading, steps=SHORT, cfg=2.0)
    assert set(seen) == {2}
    assert run.text.count("evaluations:") == 2
    alone = comfy.sample(comfy.cached(first, USUAL), steps=SHORT, cfg=2.0)
    assert torch.equal(run.latent, alone.latent)
    assert run.latent.shape == plain.latent.shape


def test_keyframes_of_a_lora_start_a_new_history(comfy: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The weights change in the middle of the run, and no residual of the old ones is reused."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(5)
    layer = "double_blocks.2.img_mlp.0"
    rows, columns = comfy.model("flux_dev").model.diffusion_model.get_submodule(layer).weight.shape
    folder = comfy.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"diffusion_model.{layer}.lora_A.weight": torch.randn(4, columns, generator=generator) * 0.3,
        f"diffusion_model.{layer}.lora_B.weight": torch.randn(rows, 4, generator=generator) * 0.3,
    }
    save_file(weights, folder / "keyframed.safetensors")
    hooks = comfy.call(
        node("nodes_hooks", "CreateHookLoraModelOnly"), lora_name="keyframed.safetensors", strength_model=1.0
    )
    frames = None
    for strength, start in ((0.0, 0.0), (1.0, 0.5)):
        frames = comfy.call(
            node("nodes_hooks", "CreateHookKeyframe"), strength_mult=strength, start_percent=start, prev_hook_kf=frames
        )
    hooks = comfy.call(node("nodes_hooks", "SetHookKeyframes"), hooks=hooks, hook_kf=frames)

    def conds() -> dict[str, Any]:
        return {
            name: comfy.call(node("nodes_hooks", "SetModelHooksOnCond"), conditioning=cond, hooks=hooks)
            for name, cond in (("positive", conditioning("flux_dev")), ("negative", conditioning("flux_dev", seed=2)))
        }

    model = comfy.model("flux_dev")
    plain = comfy.sample(model, steps=8, cfg=2.0, **conds())
    without = comfy.sample(model, steps=8, cfg=2.0)
    assert not torch.equal(plain.latent, without.latent)
    missed = comfy.sample(comfy.cached(model, NEVER), steps=8, cfg=2.0, **conds())
    assert torch.equal(missed.latent, plain.latent)
    everything = comfy.sample(comfy.cached(model, ALL), steps=8, cfg=2.0, **conds())
    # One evaluation is computed with each set of weights; all others are reused.
    assert everything.counts[1] == 2


def test_calls_in_which_gradients_are_recorded_pass_through(comfy: ComfyUI) -> None:
    """As ComfyUI's node for training makes them: a reused state would lend the gradient of another step."""
    from comfy.patcher_extension import WrappersMP

    def recording(executor: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad():
            return executor(*args, **kwargs)

    model = comfy.model("flux_dev")
    plain = comfy.sample(model, steps=SHORT)
    cached = comfy.cached(model, ALL)
    cached.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", recording)
    recorded = comfy.sample(cached, steps=SHORT)
    assert torch.equal(recorded.latent, plain.latent)
    assert recorded.calls == plain.calls
    assert recorded.text == "Passed through: gradients were recorded, as in training."
