"""Beside nodes that guide: they call the model again in an evaluation, with blocks skipped or attention replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from checks import SHORT, TOLERANCE, assert_exact, evaluated_twice, node
from in_process import NEVER, USUAL, Evaluation, one_tensor, relative_difference
from tiny_models import conditioning

if TYPE_CHECKING:
    from in_process import ComfyUI


def assert_guided_exactly(comfy: ComfyUI, guided: Any, family: str, *, cfg: float = 2.0) -> None:
    """The guidance has an effect, a miss changes nothing and a hit reproduces what was computed."""
    plain = comfy.sample(guided, family, steps=SHORT, cfg=cfg)
    assert not torch.equal(plain.latent, comfy.sample(comfy.model(family), family, steps=SHORT, cfg=cfg).latent)
    missed = comfy.sample(comfy.cached(guided, NEVER), family, steps=SHORT, cfg=cfg)
    assert torch.equal(missed.latent, plain.latent)
    twice = evaluated_twice(comfy, comfy.cached(guided), family, cfg=cfg)
    assert relative_difference(twice.outputs[1], twice.outputs[0]) <= 10 * TOLERANCE
    reused = comfy.sample(comfy.cached(guided, USUAL), family, steps=SHORT, cfg=cfg)
    assert torch.isfinite(reused.latent).all()


# ---- skipped layers --------------------------------------------------------------------------------------------------

LAYERS_OF_FLUX = [("0", ""), ("1", ""), ("", "0"), ("", "3"), ("0, 1, 2", "0, 1, 2, 3")]
LAYERS = [
    *(("flux_dev", *layers) for layers in LAYERS_OF_FLUX),
    *(("wan", layer, "") for layer in ("0", "1", "2")),
    *(("aura_flow", *layers) for layers in (("0", ""), ("", "0"), ("", "3"))),
]
"""(family, double layers, single layers): the first, middle and last. AuraFlow's trunk ends at its last block."""


@pytest.mark.parametrize(("family", "double", "single"), LAYERS)
def test_skip_layer_guidance_is_exact(comfy: ComfyUI, family: str, double: str, single: str) -> None:
    slg = node("nodes_slg", "SkipLayerGuidanceDiT")
    layers = {"double_layers": double, "single_layers": single}
    how = {"scale": 2.0, "start_percent": 0.0, "end_percent": 1.0, "rescaling_scale": 0.0}
    assert_guided_exactly(comfy, comfy.call(slg, model=comfy.model(family), **layers, **how), family)


@pytest.mark.parametrize("layers", ["0", "2", "3"])
def test_skip_layer_guidance_of_sd3_is_exact(comfy: ComfyUI, layers: str) -> None:
    slg = node("nodes_sd3", "SkipLayerGuidanceSD3")
    how = {"scale": 2.0, "start_percent": 0.0, "end_percent": 1.0}
    assert_guided_exactly(comfy, comfy.call(slg, model=comfy.model("sd3"), layers=layers, **how), "sd3")


def test_a_skipped_pass_whose_last_block_is_replaced_is_computed(comfy: ComfyUI) -> None:
    """Where the trunk ends at the last block's result, nothing would take the cached state there."""
    slg = node("nodes_slg", "SkipLayerGuidanceDiT")
    how = {"scale": 2.0, "start_percent": 0.0, "end_percent": 1.0, "rescaling_scale": 0.0}
    guided = comfy.call(slg, model=comfy.model("aura_flow"), double_layers="", single_layers="3", **how)
    twice = evaluated_twice(comfy, comfy.cached(guided), "aura_flow", cfg=2.0)
    first, second = twice.calls
    # Two of three passes are reused: the one without its last block is not.
    assert second[1] == 1
    assert first[1] == 2
    assert "cache off" not in twice.run.text


# ---- perturbed attention, blurred attention, negative prompts --------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_perturbed_attention_guidance_is_exact(comfy: ComfyUI, scale: float) -> None:
    pag = node("nodes_pag", "PerturbedAttentionGuidance")
    assert_guided_exactly(comfy, comfy.call(pag, model=comfy.model("sdxl"), scale=scale), "sdxl")


def test_self_attention_guidance_is_exact_where_it_computes(comfy: ComfyUI) -> None:
    """On a hit it blurs with the attention of the last computed evaluation: the scores come from skipped layers."""
    sag = node("nodes_sag", "SelfAttentionGuidance")
    guided = comfy.call(sag, model=comfy.model("sdxl"), scale=0.5, blur_sigma=2.0)
    plain = comfy.sample(guided, "sdxl", steps=SHORT, cfg=2.0)
    missed = comfy.sample(comfy.cached(guided, NEVER), "sdxl", steps=SHORT, cfg=2.0)
    assert torch.equal(missed.latent, plain.latent)
    reused = comfy.sample(comfy.cached(guided, USUAL), "sdxl", steps=SHORT, cfg=2.0)
    assert reused.reused > 0
    assert torch.isfinite(reused.latent).all()


@pytest.mark.parametrize("family", ["wan", "flux_dev"])
def test_normalized_attention_guidance_is_exact(comfy: ComfyUI, family: str) -> None:
    nag = node("nodes_nag", "NAGuidance")
    guided = comfy.call(nag, model=comfy.model(family), nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5)
    assert_guided_exactly(comfy, guided, family, cfg=1.0)


def test_a_perpendicular_negative_prompt_is_exact(comfy: ComfyUI) -> None:
    perpendicular = node("nodes_perpneg", "PerpNegGuider")
    advanced = node("nodes_custom_sampler", "SamplerCustomAdvanced")
    noise = comfy.call(node("nodes_custom_sampler", "RandomNoise"), noise_seed=1)
    euler = comfy.call(node("nodes_custom_sampler", "KSamplerSelect"), sampler_name="euler")

    def latent(model: Any) -> torch.Tensor:
        guider = comfy.call(
            perpendicular,
            model=model,
            positive=conditioning("sd3"),
            negative=conditioning("sd3", seed=2),
            empty_conditioning=conditioning("sd3", seed=3),
            cfg=3.0,
            neg_scale=1.0,
        )
        with torch.inference_mode():
            return comfy.call(
                advanced,
                noise=noise,
                guider=guider,
                sampler=euler,
                sigmas=torch.linspace(1, 0, SHORT + 1),
                latent_image={"samples": comfy.empty_latent("sd3")},
            )["samples"]

    plain = latent(comfy.model("sd3"))
    assert torch.equal(latent(comfy.cached(comfy.model("sd3"), NEVER)), plain)
    reused = latent(comfy.cached(comfy.model("sd3"), 1.0, max_consecutive_cache_hits=1))
    assert not torch.equal(reused, plain)
    assert relative_difference(reused, plain) < 0.5


# ---- video with sound ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", ["0", "1", "2", "0, 1, 2"])
def test_spatio_temporal_guidance_is_exact(comfy: ComfyUI, blocks: str) -> None:
    stg = node("nodes_lt", "LTXVSpatioTemporalGuidance")
    how = {"scale": 1.0, "blocks": blocks, "start_percent": 0.0, "end_percent": 1.0}
    assert_guided_exactly(comfy, comfy.call(stg, model=comfy.model("ltx2"), **how), "ltx2")


def with_modality_guidance(comfy: ComfyUI, model: Any) -> Any:
    modality = node("nodes_lt", "LTXVModalityGuidance")
    return comfy.call(modality, model=model, modality_scale=3.0, start_percent=0.0, end_percent=1.0)


def test_modality_guidance_is_exact(comfy: ComfyUI) -> None:
    assert_guided_exactly(comfy, with_modality_guidance(comfy, comfy.model("ltx2")), "ltx2")


def test_passes_that_stop_in_the_middle_of_a_run_do_not_lend_their_residuals_to_others(comfy: ComfyUI) -> None:
    """Two guidances evaluate the positive cond again, with the uuid it has; then only the second one does."""
    import comfy.samplers as samplers

    active = [True]

    def without_sound(args: dict[str, Any]) -> torch.Tensor:
        """As core's LTXVReferenceAudio does: the same cond without the reference."""
        if not active[0]:
            return args["denoised"]
        conds = [dict(cond, model_conds=dict(cond["model_conds"])) for cond in args["cond"]]
        for cond in conds:
            del cond["model_conds"]["ref_audio"]
        options = args["model_options"]
        (other,) = samplers.calc_cond_batch(args["model"], [conds], args["input"], args["sigma"], options)
        return args["denoised"] + args["cond_denoised"] - other

    def stop() -> None:
        active[0] = False

    family = "ltx2_reference_sound"
    model = comfy.model(family)
    model.set_model_sampler_post_cfg_function(without_sound)
    guided = with_modality_guidance(comfy, model)
    evaluations = [Evaluation(before=lambda: active.__setitem__(0, True)), Evaluation(before=stop)]
    plain = comfy.evaluate(guided, family, evaluations, cfg=2.0)
    cached = comfy.evaluate(comfy.cached(guided, 1.0), family, evaluations, cfg=2.0)
    assert cached.run.reused == 1
    assert relative_difference(one_tensor(cached.outputs[1]), one_tensor(plain.outputs[1])) <= 10 * TOLERANCE


# ---- patches of UNets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FreeU", "FreeU_V2"])
def test_free_u_is_exact(comfy: ComfyUI, name: str) -> None:
    free_u = node("nodes_freelunch", name)
    model = comfy.model("sdxl")
    assert_guided_exactly(comfy, comfy.call(free_u, model=model, b1=1.3, b2=1.4, s1=0.9, s2=0.2), "sdxl")


@pytest.mark.parametrize("block", [1, 2, 3])
def test_deep_shrink_is_exact_or_computed(comfy: ComfyUI, block: int) -> None:
    """It halves the resolution after a block for half the schedule. Within the first block the cache waits."""
    shrink = node("nodes_model_downscale", "PatchModelAddDownscale")
    how = {"downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.5, "downscale_after_skip": True}
    methods = {"downscale_method": "bicubic", "upscale_method": "bicubic"}
    model = comfy.call(shrink, model=comfy.model("sdxl"), block_number=block, **how, **methods)
    plain = comfy.sample(model, "sdxl", steps=SHORT, cfg=2.0)
    assert not torch.equal(plain.latent, comfy.sample(comfy.model("sdxl"), "sdxl", steps=SHORT, cfg=2.0).latent)
    assert torch.equal(comfy.sample(comfy.cached(model, NEVER), "sdxl", steps=SHORT, cfg=2.0).latent, plain.latent)
    reused = comfy.sample(comfy.cached(model, USUAL), "sdxl", steps=SHORT, cfg=2.0)
    assert torch.isfinite(reused.latent).all()
    assert reused.reused > 0
    assert "cache off" not in reused.text


# ---- patches after the blocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["wan", "qwen_image", "z_image"])
def test_patches_that_write_between_blocks_are_exact(comfy: ComfyUI, family: str) -> None:
    """As the ControlNets of these families do: in place, after every block."""
    generator = torch.Generator().manual_seed(9)
    added: dict[int, torch.Tensor] = {}

    def patch(given: dict[str, Any]) -> dict[str, Any]:
        hidden = given["img"]
        index = given["block_index"]
        if index not in added:
            added[index] = 0.3 * torch.randn(hidden.shape[1:], generator=generator)
        hidden += added[index]
        return given

    model = comfy.model(family)
    model.set_model_patch(patch, "double_block")
    unpatched = comfy.sample(comfy.model(family), family, steps=SHORT, cfg=2.0)
    patched = comfy.sample(model, family, steps=SHORT, cfg=2.0)
    if not added:
        pytest.skip(f"This ComfyUI's {family} calls no patches between its blocks.")
    assert not torch.equal(patched.latent, unpatched.latent)
    assert_exact(comfy, model, family)
