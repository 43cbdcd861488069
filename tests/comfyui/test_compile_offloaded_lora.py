"""LoRA on weights that stay outside of the device: compiled, and changed without compiling again.

There is no second device here. ComfyUI is told that only a part of the model fits, and does the rest itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from compiling import Compiles, compiled, forget, fresh_compiler  # noqa: F401
from in_process import relative_difference, tensors_alive
from test_compile import sample
from tiny_models import build

if TYPE_CHECKING:
    from in_process import ComfyUI

FITS = 0.3
"""Share of the model that ComfyUI may load."""
PATCHED = (".linear1.weight", ".linear2.weight", "attn.qkv.weight", "_mlp.0.weight", ".linear1.bias")


@pytest.fixture(params=[FITS, 1e-6], ids=["partly", "wholly"], autouse=True)
def _little_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, comfy: ComfyUI) -> None:
    from comfy.model_patcher import ModelPatcher

    load = ModelPatcher.partially_load

    def load_less(self: Any, device: Any, _memory: int, **how: Any) -> int:
        more = int(request.param * self.model_size()) - self.model.model_loaded_weight_memory
        return load(self, device, more, **how)

    monkeypatch.setattr(ModelPatcher, "partially_load", load_less)


def weights(model: Any) -> dict[str, torch.Tensor]:
    named = model.model.diffusion_model.named_parameters()
    return {f"diffusion_model.{name}": weight for name, weight in named if name.endswith(PATCHED)}


def lora(model: Any, strength: float, *, seed: int = 1, rank: int = 4, alpha: float | None = 2.0, **other: Any) -> Any:
    """A LoRA file's patches: low-rank products for weights, differences for biases."""
    from comfy.weight_adapter import LoRAAdapter

    generator = torch.Generator().manual_seed(seed)
    patches: dict[str, Any] = {}
    for name, weight in weights(model).items():
        if weight.dim() == 1:
            patches[name] = ("diff", (torch.randn(weight.shape, generator=generator) * 0.05,))
        else:
            up = torch.randn(weight.shape[0], rank, generator=generator) * 0.1
            down = torch.randn(rank, weight.shape[1], generator=generator) * 0.1
            values = {"alpha": alpha, "middle": None, "dora_scale": None, "reshape": None, **other}
            patches[name] = LoRAAdapter(set(), (up, down, *values.values()))
    patched = model.clone()
    assert patched.add_patches(patches, strength)
    return patched


def functions(model: Any) -> list[Any]:
    layers = model.model.diffusion_model.modules()
    return [found for layer in layers for found in vars(layer).get("weight_function") or ()]


def run(comfy: ComfyUI, model: Any, **how: Any) -> tuple[int, str]:
    """(compiles, what the node said), after a comparison with the uncompiled run bit for bit."""
    plain = sample(model, **how)
    before = functions(model)
    with Compiles() as compiles:
        behind = sample(compiled(comfy, model), **how)
    assert compiles.breaks == 0
    assert torch.equal(behind, plain)
    assert all(type(found).__name__ == "LowVramPatch" for found in functions(model))
    assert len(functions(model)) == len(before) > 0
    return compiles.graphs, comfy.texts.last()


def test_another_lora_or_strength_compiles_nothing(comfy: ComfyUI, request: pytest.FixtureRequest) -> None:
    model = build("flux_dev")
    first, text = run(comfy, lora(model, 0.7))
    assert "7 blocks · compiled 100 % of calls" in text
    assert "not compiled" not in text
    # Where the model is offloaded in part, the border may go through a block.
    assert first <= 4
    counts = {
        "strength": run(comfy, lora(model, -1.3))[0],
        "another": run(comfy, lora(model, 0.7, seed=2))[0],
        "another checkpoint": run(comfy, lora(build("flux_dev", seed=9), 0.5))[0],
        "another rank": run(comfy, lora(model, 0.7, rank=7))[0],
        "that rank again": run(comfy, lora(model, 0.2, rank=7, seed=3, alpha=None))[0],
        "two": run(comfy, lora(lora(model, 0.7), 0.4, seed=5, rank=7))[0],
    }
    assert [counts[name] for name in ("strength", "another", "another checkpoint", "that rank again")] == [0, 0, 0, 0]
    assert counts["another rank"] <= first
    assert counts["two"] <= first


def test_another_lora_starts_warm(comfy: ComfyUI) -> None:
    """Code that was kept with one LoRA serves another one after a start, and does not serve the model without any."""
    graphs, texts = [], []
    for patched in (lora(build("flux_dev"), 0.7), lora(build("flux_dev"), 0.2, seed=2), build("flux_dev")):
        forget(comfy)
        with Compiles() as compiles:
            behind = sample(compiled(comfy, patched, backend="inductor"))
        graphs.append(compiles.graphs)
        texts.append(comfy.texts.last())
        assert relative_difference(behind, sample(patched)) < 1e-5
    assert all("7 blocks · compiled 100 % of calls" in text for text in texts)
    assert graphs[1] == 0
    assert " · 0 compiles · warm start: " in texts[1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_the_same_bits(comfy: ComfyUI, dtype: torch.dtype) -> None:
    run(comfy, lora(build("flux_dev", dtype=dtype), 0.37))


def test_patches_of_a_part_of_a_weight(comfy: ComfyUI) -> None:
    """As LoRA files have them that keep query, key and value apart."""
    from comfy.weight_adapter import LoRAAdapter

    model = build("flux_dev")
    patched = model.clone()
    patches: dict[Any, Any] = {}
    for name, weight in weights(model).items():
        if name.endswith("attn.qkv.weight"):
            third = weight.shape[0] // 3
            for number in range(3):
                part = LoRAAdapter(
                    set(), (torch.full((third, 2), 0.1), torch.ones(2, weight.shape[1]), 1.0, *[None] * 3)
                )
                patches[name, (0, number * third, third)] = part
    assert patched.add_patches(patches, 0.8)
    assert "not compiled" not in run(comfy, lora(patched, 0.5))[1]


def test_what_has_no_tensor_form_runs_as_it_is(comfy: ComfyUI) -> None:
    model = build("flux_dev")
    some = next(iter(weights(model).values()))
    count, text = run(comfy, lora(model, 0.7, dora_scale=torch.ones(1, some.shape[1])))
    assert count <= 2
    assert "because LoRA patches of a kind that torch cannot compile are applied" in text


def test_functions_are_put_back_after_an_interruption(comfy: ComfyUI) -> None:
    model = lora(build("flux_dev"), 0.7)

    def stop(*_arguments: Any) -> None:
        raise RuntimeError("stopped")

    handle = model.model.diffusion_model.final_layer.register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="stopped"):
        sample(compiled(comfy, model))
    handle.remove()
    assert functions(model)
    assert all(type(found).__name__ == "LowVramPatch" for found in functions(model))


def test_compiled_code_keeps_no_lora_alive(comfy: ComfyUI) -> None:
    model = build("flux_dev")
    run(comfy, lora(model, 0.7))
    before = tensors_alive()
    for seed in range(3):
        run(comfy, lora(model, 0.7, seed=seed))
    assert tensors_alive() <= before


def test_weights_that_move_during_a_run_are_noticed(comfy: ComfyUI) -> None:
    """As a ControlNet's VAE may make them move, between two calls of the model."""
    from comfy.patcher_extension import WrappersMP

    model = lora(build("flux_dev"), 0.7)
    pictures = []
    for made in (model, compiled(comfy, model)):
        calls: list[int] = []

        def unload(executor: Any, *args: Any, calls: list[int] = calls, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                patcher = executor.class_obj.inner_model.current_patcher
                before = len(functions(patcher))
                patcher.partially_unload(torch.device("cpu"), 1e9)
                assert len(functions(patcher)) >= before
            return executor(*args, **kwargs)

        made = made.clone()
        made.add_wrapper(WrappersMP.PREDICT_NOISE, unload)
        pictures.append(sample(made))
    assert torch.equal(*pictures)
    assert "compiled 100 % of calls" in comfy.texts.last()


def test_inductor_computes_the_same_picture(comfy: ComfyUI) -> None:
    model = lora(build("flux_dev"), 0.7)
    behind = compiled(comfy, model, backend="inductor")
    assert relative_difference(sample(behind), sample(model)) < 1e-5
    assert "cannot be compiled" not in comfy.texts.last()
