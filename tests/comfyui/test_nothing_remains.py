"""After a run, also one that failed, the model and ComfyUI are as they were. Module attributes and state_dict keys are
checked after every single run of this folder (in_process.ComfyUI)."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import torch
from blocks import executed_blocks
from in_process import (
    NEVER,
    USUAL,
    Evaluation,
    assert_nothing_is_left,
    native_objects_alive,
    tensors_alive,
)
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from in_process import ComfyUI

FAILURES = ("in the first block", "in a later block", "in the head", "between two steps")


class Stop:
    """Raises when it is called for the n-th time, as an interruption or a lack of memory does."""

    def __init__(self, error: BaseException, calls: int) -> None:
        self._error = error
        self._left = calls

    def __call__(self, *_arguments: Any) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error


def failed_run(comfy: ComfyUI, model: Any, where: str, error: BaseException) -> BaseException:
    """Samples until the error comes, and returns what arrived. The frames of the run are gone by then."""
    diffusion_model = model.model.diffusion_model
    blocks = executed_blocks(diffusion_model)
    module = {
        "in the first block": blocks[0],
        "in a later block": blocks[len(blocks) // 2],
        "in the head": diffusion_model.final_layer,
    }.get(where)
    callback = Stop(error, 4) if module is None else None
    # The second pass of a later block: hooks see only computed steps.
    handle = None if module is None else module.register_forward_pre_hook(Stop(error, 2))
    try:
        comfy.sample(model, callback=callback)
    except type(error) as arrived:
        return arrived.with_traceback(None)
    finally:
        if handle is not None:
            handle.remove()
    pytest.fail("the run was meant to fail")


def interruption() -> BaseException:
    from comfy.model_management import InterruptProcessingException

    return InterruptProcessingException()


@pytest.mark.parametrize("where", FAILURES)
def test_a_run_after_an_interrupted_one_equals_a_fresh_one_bit_for_bit(comfy: ComfyUI, where: str) -> None:
    model = comfy.cached(comfy.model("flux_dev"))
    fresh = comfy.sample(model)
    failed_run(comfy, model, where, interruption())
    after = comfy.sample(model)
    assert torch.equal(after.latent, fresh.latent)
    assert after.counts == fresh.counts


def test_the_plain_model_after_an_interrupted_run_is_as_before(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    plain = comfy.sample(model)
    failed_run(comfy, comfy.cached(model), "in a later block", interruption())
    assert torch.equal(comfy.sample(model).latent, plain.latent)


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError, KeyboardInterrupt])
def test_errors_of_the_model_reach_comfyui_unchanged(comfy: ComfyUI, kind: type[BaseException]) -> None:
    error = kind("the model failed")
    caught = failed_run(comfy, comfy.cached(comfy.model("flux_dev")), "in a later block", error)
    assert caught is error


@pytest.mark.parametrize("where", [None, *FAILURES])
def test_no_tensor_and_no_native_object_of_the_cache_survives_a_run(comfy: ComfyUI, where: str | None) -> None:
    model = comfy.cached(comfy.model("flux_dev"))

    def run() -> None:
        if where is None:
            comfy.sample(model)
        else:
            failed_run(comfy, model, where, interruption())

    run()
    before = tensors_alive()
    run()
    assert tensors_alive() == before
    assert native_objects_alive() == 0


def test_the_options_of_a_run_are_clean_as_soon_as_the_cache_has_seen_its_end(comfy: ComfyUI) -> None:
    """Looked at from a wrapper around ours: core itself throws the options of a run away a moment later."""
    from comfy.patcher_extension import WrappersMP

    seen: list[str] = []

    def around(executor: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return executor(*args, **kwargs)
        finally:
            wrappers = executor.class_obj.model_options["transformer_options"]["wrappers"]
            seen.extend(
                kind for kind in (WrappersMP.PREDICT_NOISE, WrappersMP.APPLY_MODEL) if any(wrappers[kind].values())
            )

    model = comfy.model("flux_dev")
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "test", around)
    comfy.sample(comfy.cached(model), steps=3)
    failed_run(comfy, comfy.cached(model), "in a later block", interruption())
    assert seen == []


def test_a_report_of_an_error_that_somebody_keeps_holds_no_tensor_of_the_cache(comfy: ComfyUI) -> None:
    """The frames of a traceback keep the session alive, so closing it must have emptied it."""
    model = comfy.cached(comfy.model("flux_dev"))
    handle = model.model.diffusion_model.final_layer.register_forward_pre_hook(Stop(interruption(), 2))
    with pytest.raises(type(interruption())) as kept:
        comfy.sample(model)
    handle.remove()
    sessions = [
        item for item in gc.get_objects() if type(item).__name__ == "Session" and "_core" in type(item).__module__
    ]
    assert len(sessions) == 1
    assert not [item for item in gc.get_referents(sessions[0]) if isinstance(item, torch.Tensor)]
    kept.value.__traceback__ = None


def test_the_options_of_a_guider_are_as_before_its_run(comfy: ComfyUI) -> None:
    from comfy.samplers import CFGGuider, sampler_object

    guider = CFGGuider(comfy.cached(comfy.model("flux_dev")))
    guider.set_conds(conditioning("flux_dev"), conditioning("flux_dev"))
    options = repr(guider.model_options)
    empty = comfy.empty_latent("flux_dev")
    with torch.inference_mode():
        guider.sample(empty, empty, sampler_object("euler"), torch.tensor([1.0, 0.5, 0.0]), disable_pbar=True, seed=1)
    assert repr(guider.model_options) == options
    assert_nothing_is_left(guider.model_patcher)


def test_the_node_itself_changes_neither_the_model_nor_the_patcher_it_is_given(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    before = repr((model.model_options, model.wrappers))
    patched = comfy.cached(model)
    assert patched is not model
    assert patched.model is model.model
    assert repr((model.model_options, model.wrappers)) == before
    assert_nothing_is_left(model)


def test_what_another_node_has_put_into_a_block_is_there_again_after_the_run(comfy: ComfyUI) -> None:
    model = build("flux_dev")
    block = model.model.diffusion_model.double_blocks[1]
    calls: list[int] = []
    call = block._call_impl

    def others(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return call(*args, **kwargs)

    block.__dict__["_compiled_call_impl"] = others
    seen: list[object] = []
    model.model.diffusion_model.final_layer.register_forward_pre_hook(
        lambda *_: seen.append(block.__dict__["_compiled_call_impl"])
    )
    try:
        with pytest.raises(AssertionError, match="_compiled_call_impl"):
            comfy.sample(comfy.cached(model, NEVER), steps=3)
        assert block.__dict__["_compiled_call_impl"] is others
    finally:
        del block.__dict__["_compiled_call_impl"]
    assert len(calls) == 3
    assert all(value is not others for value in seen)


def never_finite(weights: dict[str, torch.Tensor]) -> None:
    weights["double_blocks.1.img_mlp.0.weight"].fill_(float("nan"))


def test_a_checkpoint_with_nan_is_computed_in_every_step_and_the_node_says_so(comfy: ComfyUI) -> None:
    run = comfy.sample(comfy.cached(build("flux_dev", change_weights=never_finite), USUAL), steps=5)
    assert run.latent.isnan().any()
    assert run.counts == (5, 5, 0)
    assert "NaN" in run.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("block", [("double_block", 1), ("single_block", 3)], ids=str)
def test_a_residual_that_is_not_finite_is_computed_again_and_never_reused(
    comfy: ComfyUI, value: float, block: tuple[str, int]
) -> None:
    model = comfy.model("flux_dev")
    plain = comfy.evaluate(model, "flux_dev", [Evaluation()])
    broken = [False]

    def patch(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        out = dict(extra["original_block"](args))
        if broken[0]:
            out["img"] = out["img"] * value
        return out

    def break_it() -> None:
        broken[0] = True

    def mend_it() -> None:
        broken[0] = False

    model.set_model_patch_replace(patch, "dit", *block)
    result = comfy.evaluate(
        comfy.cached(model), "flux_dev", [Evaluation(before=break_it), Evaluation(before=mend_it), Evaluation()]
    )
    assert not torch.isfinite(result.outputs[0]).all()
    assert torch.equal(result.outputs[1], plain.outputs[0])
    assert result.run.counts == (3, 2, 1)
