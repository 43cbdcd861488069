"""Beside other nodes: before or after them, the picture is the same, and never a wrong one."""

from __future__ import annotations

import inspect
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import torch
from blocks import executed_blocks
from checks import FLUX_CONTROL, SHORT, TOKENS, TOLERANCE, WIDTH, assert_exact, control_net, evaluated_twice, node
from in_process import NEVER, USUAL, Evaluation, captured_log, relative_difference
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from pathlib import Path

    from in_process import ComfyUI

# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lora(comfy: ComfyUI) -> str:
    """A LoRA file for the first and a later block, in ComfyUI's folder for them."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(5)
    weights = {}
    for layer in ("double_blocks.0.img_attn.proj", "double_blocks.2.img_mlp.0", "single_blocks.1.linear2"):
        rows, columns = comfy.model("flux_dev").model.diffusion_model.get_submodule(layer).weight.shape
        weights[f"diffusion_model.{layer}.lora_A.weight"] = torch.randn(4, columns, generator=generator) * 0.2
        weights[f"diffusion_model.{layer}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * 0.2
    folder: Path = comfy.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "tiny.safetensors")
    return "tiny.safetensors"


def test_a_lora_before_or_after_the_node_gives_the_same_picture_and_not_the_one_without(
    comfy: ComfyUI, lora: str
) -> None:
    def with_lora(model: Any) -> Any:
        return comfy.call("LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=1.0)

    model = comfy.model("flux_dev")
    before = comfy.sample(comfy.cached(with_lora(model)))
    after = comfy.sample(with_lora(comfy.cached(model)))
    without = comfy.sample(comfy.cached(model))
    assert torch.equal(before.latent, after.latent)
    assert before.counts == after.counts
    assert before.reused > 0
    assert relative_difference(before.latent, without.latent) > 0.01


def test_a_lora_and_an_always_missing_cache_equal_the_lora_alone(comfy: ComfyUI, lora: str) -> None:
    model = comfy.call("LoraLoaderModelOnly", model=comfy.model("flux_dev"), lora_name=lora, strength_model=1.0)
    assert_exact(comfy, model)


# ---- what writes between the blocks ----------------------------------------------------------------------------------


SKIP_CONNECTIONS = [(32, 8, 8)] * 3 + [(32, 4, 4)] + [(64, 4, 4)] * 2 + [(64, 2, 2)] + [(128, 2, 2)] * 2
"""Of the tiny SDXL, from the first to the last input block."""
CONTROLLED = {
    "flux": ("flux_dev", FLUX_CONTROL),
    "chroma": ("chroma", FLUX_CONTROL),
    "sd3": ("sd3", {"output": [(TOKENS, 256)] * 4}),
    "hunyuan_video": ("hunyuan_video", {"input": [(48, WIDTH)] * 3, "output": [(48, WIDTH)] * 4}),
    "qwen_image": ("qwen_image", {"input": [(TOKENS, WIDTH)] * 4}),
    # A ControlNet writes into the middle and the skip connections, a T2I-Adapter into the input blocks, last one first.
    "sdxl": ("sdxl", {"middle": [(128, 2, 2)], "output": SKIP_CONNECTIONS}),
    "sdxl with an adapter": ("sdxl", {"input": SKIP_CONNECTIONS[::-1]}),
}


@pytest.mark.parametrize(("family", "sizes"), CONTROLLED.values(), ids=CONTROLLED)
def test_a_controlnet_that_writes_into_the_blocks_is_exact(
    comfy: ComfyUI, family: str, sizes: dict[str, list[tuple[int, ...]]]
) -> None:
    control = {"control": control_net(sizes), "control_apply_to_uncond": True}
    positive, negative = conditioning(family, **control), conditioning(family, seed=2, **control)
    model = comfy.model(family)
    without = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    with captured_log() as log:
        with_control = comfy.sample(model, family, steps=SHORT, cfg=2.0, positive=positive, negative=negative)
    assert not [line for line in log if "control could not be applied" in line]
    assert relative_difference(with_control.latent, without.latent) > 0.001
    assert_exact(comfy, model, family, positive=positive, negative=negative)


def test_a_controlnet_on_one_of_two_conds_is_exact(comfy: ComfyUI) -> None:
    assert_exact(comfy, comfy.model("flux_dev"), positive=conditioning("flux_dev", control=control_net()))


@pytest.mark.parametrize("index", [0, 1, -2, -1])
def test_forward_hooks_of_others_that_change_a_block_stay_in_force(comfy: ComfyUI, index: int) -> None:
    model = build("flux_dev")
    block = executed_blocks(model.model.diffusion_model)[index]

    def change(_module: Any, _args: Any, output: Any) -> Any:
        return tuple(part * 1.05 for part in output) if isinstance(output, tuple) else output * 1.05

    unchanged = comfy.sample(model, steps=SHORT, cfg=2.0)
    handle = block.register_forward_hook(change)
    try:
        assert not torch.equal(comfy.sample(model, steps=SHORT, cfg=2.0).latent, unchanged.latent)
        assert_exact(comfy, model)
    finally:
        handle.remove()


# ---- replaced and skipped blocks -------------------------------------------------------------------------------------

BLOCKS = [("double_block", 0), ("double_block", 1), ("double_block", 2), ("single_block", 0), ("single_block", 3)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_patches_that_call_the_original_block_are_exact(comfy: ComfyUI, block: tuple[str, int]) -> None:
    def patch(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        out = dict(extra["original_block"](args))
        out["img"] = out["img"] * 1.02
        return out

    model = comfy.model("flux_dev")
    unpatched = comfy.sample(model, steps=SHORT, cfg=2.0)
    model.set_model_patch_replace(patch, "dit", *block)
    assert not torch.equal(comfy.sample(model, steps=SHORT, cfg=2.0).latent, unpatched.latent)
    assert_exact(comfy, model)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_patches_that_replace_a_block_are_exact_or_leave_the_cache_idle(comfy: ComfyUI, block: tuple[str, int]) -> None:
    model = comfy.model("flux_dev")
    model.set_model_patch_replace(lambda args, _extra: args, "dit", *block)
    if block != ("double_block", 0):
        assert_exact(comfy, model)
        return
    # Nothing can be decided without the first block: everything is computed, and the node says why.
    plain = comfy.sample(model, steps=SHORT, cfg=2.0)
    cached = comfy.sample(comfy.cached(model, 1.0), steps=SHORT, cfg=2.0)
    assert torch.equal(cached.latent, plain.latent)
    assert "the first block was never called" in cached.text


# ---- more than one call per evaluation -------------------------------------------------------------------------------


def windows(comfy: ComfyUI, name: str, family: str, schedule: str, **size: int) -> Any:
    """A tiny model behind a node for context windows."""
    how = {
        "context_schedule": schedule,
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "freenoise": False,
        **size,
    }
    windows_node = node("nodes_context_windows", name)
    if "freenoise" not in inspect.signature(windows_node.execute).parameters:  # older than 0.8
        del how["freenoise"]
    return comfy.call(windows_node, model=comfy.model(family), **how)


def with_windows(comfy: ComfyUI, schedule: str = "standard_static") -> Any:
    """The tiny Flux with context windows over the rows of the picture."""
    size = {"context_length": 8, "context_overlap": 4, "dim": 2}
    return windows(comfy, "ContextWindowsManualNode", "flux_dev", schedule, **size)


def with_windows_over_frames(comfy: ComfyUI, schedule: str = "standard_static") -> Any:
    """The tiny Wan with context windows of two of its three frames (of the latent: 5 of 9 of the video)."""
    size = {"context_length": 5, "context_overlap": 4}
    return windows(comfy, "WanContextWindowsManualNode", "wan", schedule, **size)


WINDOWS = {"flux_dev": with_windows, "wan": with_windows_over_frames}


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform"])
@pytest.mark.parametrize("family", WINDOWS)
def test_context_windows_are_exact(comfy: ComfyUI, family: str, schedule: str) -> None:
    model = WINDOWS[family](comfy, schedule)
    assert comfy.sample(model, family, steps=2).calls[0] > 2
    plain = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    missed = comfy.sample(comfy.cached(model, NEVER), family, steps=SHORT, cfg=2.0)
    assert torch.equal(missed.latent, plain.latent)
    twice = evaluated_twice(comfy, comfy.cached(model), family, cfg=2.0)
    assert relative_difference(twice.outputs[1], twice.outputs[0]) <= TOLERANCE


@pytest.mark.parametrize("family", WINDOWS)
def test_context_windows_are_reused(comfy: ComfyUI, family: str) -> None:
    assert comfy.sample(comfy.cached(WINDOWS[family](comfy)), family, cfg=2.0).reused > 0


def test_every_context_window_keeps_its_own_residual_in_whatever_order_they_come(comfy: ComfyUI) -> None:
    model = with_windows(comfy)
    handler = model.model_options["context_handler"]
    in_order = handler.get_context_windows

    def reverse_from_now_on() -> None:
        handler.get_context_windows = lambda *args, **kwargs: in_order(*args, **kwargs)[::-1]

    evaluations = [Evaluation(), Evaluation(before=reverse_from_now_on)]
    result = comfy.evaluate(comfy.cached(model), "flux_dev", evaluations, cfg=2.0)
    assert result.run.counts == (2, 1, 1)
    assert relative_difference(result.outputs[1], result.outputs[0]) <= TOLERANCE


def test_every_cond_keeps_its_own_residual_in_whatever_order_they_come(comfy: ComfyUI) -> None:
    from comfy.patcher_extension import WrappersMP

    reverse = [False]

    def in_reverse(executor: Any, *args: Any, **kwargs: Any) -> Any:
        if not reverse[0]:
            return executor(*args, **kwargs)
        *tensors, control, options = (arg.flip(0) if isinstance(arg, torch.Tensor) else arg for arg in args)
        options = {**options, **{name: options[name][::-1] for name in ("cond_or_uncond", "uuids")}}
        others = {name: arg.flip(0) if isinstance(arg, torch.Tensor) else arg for name, arg in kwargs.items()}
        return executor(*tensors, control, options, **others).flip(0)

    def reverse_from_now_on() -> None:
        reverse[0] = True

    model = comfy.model("flux_dev")
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", in_reverse)
    evaluations = [Evaluation(), Evaluation(before=reverse_from_now_on)]
    result = comfy.evaluate(comfy.cached(model), "flux_dev", evaluations, cfg=4.0)
    assert result.run.counts == (2, 1, 1)
    assert relative_difference(result.outputs[1], result.outputs[0]) <= 2 * TOLERANCE


def area(rows: int, columns: int, top: int, left: int) -> dict[str, tuple[int, int, int, int]]:
    return {"area": (rows, columns, top, left)}


def test_areas_whose_conds_core_repeats_with_the_same_uuid_are_exact(comfy: ComfyUI) -> None:
    positive = [
        *conditioning("flux_dev", **area(8, 16, 0, 0)),
        *conditioning("flux_dev", seed=4, **area(8, 16, 8, 0)),
        *conditioning("flux_dev", seed=5),
    ]
    assert_exact(comfy, comfy.model("flux_dev"), positive=positive)


@pytest.mark.parametrize("family", ["flux_dev", "sdxl"])
def test_regional_prompts_with_masks_are_exact(comfy: ComfyUI, family: str) -> None:
    *_, height, width = comfy.empty_latent(family).shape
    left = torch.zeros(1, height, width)
    left[..., : width // 2] = 1.0
    positive = [
        *conditioning(family, mask=left, mask_strength=1.0),
        *conditioning(family, seed=4, mask=1.0 - left, mask_strength=0.7),
    ]
    model = comfy.model(family)
    unmasked = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    masked = comfy.sample(model, family, steps=SHORT, cfg=2.0, positive=positive)
    assert not torch.equal(masked.latent, unmasked.latent)
    assert_exact(comfy, model, family, positive=positive)


def test_two_conds_with_the_same_uuid_keep_their_own_residuals(comfy: ComfyUI) -> None:
    """Core makes a uuid per cond; here all of them get the same one."""
    same = uuid.UUID(int=7)

    def one_uuid(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = dict(args[5])
        options["uuids"] = [same] * len(options["uuids"])
        return executor(*args[:5], options, *args[6:], **kwargs)

    from comfy.patcher_extension import WrappersMP

    model = comfy.model("flux_dev")
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", one_uuid)
    positive = [*conditioning("flux_dev"), *conditioning("flux_dev", seed=4)]
    assert_exact(comfy, model, positive=positive)


@pytest.mark.parametrize("cached_model", ["positive", "negative", "both"])
def test_a_guider_with_two_models_keeps_them_apart(comfy: ComfyUI, cached_model: str) -> None:
    guider = node("nodes_custom_sampler", "DualModelGuider")
    advanced = node("nodes_custom_sampler", "SamplerCustomAdvanced")
    noise = node("nodes_custom_sampler", "RandomNoise")
    sampler = node("nodes_custom_sampler", "KSamplerSelect")
    models = {"positive": comfy.model("flux_dev"), "negative": build("flux_dev", seed=99)}

    def latent(threshold: float | None) -> torch.Tensor:
        used = {
            name: model if threshold is None or cached_model not in (name, "both") else comfy.cached(model, threshold)
            for name, model in models.items()
        }
        chosen = comfy.call(
            guider,
            model=used["positive"],
            model_negative=used["negative"],
            positive=conditioning("flux_dev"),
            negative=conditioning("flux_dev", seed=2),
            cfg=2.0,
        )
        with torch.inference_mode():
            return comfy.call(
                advanced,
                noise=comfy.call(noise, noise_seed=1),
                guider=chosen,
                sampler=comfy.call(sampler, sampler_name="euler"),
                sigmas=torch.linspace(1, 0, SHORT + 1),
                latent_image={"samples": comfy.empty_latent("flux_dev")},
            )["samples"]

    plain = latent(None)
    assert torch.equal(latent(NEVER), plain)
    reused = latent(USUAL)
    assert torch.isfinite(reused).all()
    assert relative_difference(reused, plain) < 0.5


def test_a_node_that_changes_the_schedule_after_ours_is_respected(comfy: ComfyUI) -> None:
    shift = node("nodes_model_advanced", "ModelSamplingFlux")
    values = {"max_shift": 3.0, "base_shift": 2.5, "width": 1024, "height": 1024}
    model = comfy.model("flux_dev")
    range_of_steps = {"start": 0.3, "end": 0.7}
    before = comfy.sample(comfy.cached(comfy.call(shift, model=model, **values), 1.0, **range_of_steps))
    after = comfy.sample(comfy.call(shift, model=comfy.cached(model, 1.0, **range_of_steps), **values))
    unshifted = comfy.sample(comfy.cached(model, 1.0, **range_of_steps))
    assert torch.equal(before.latent, after.latent)
    assert before.counts == after.counts
    assert not torch.equal(before.latent, unshifted.latent)
