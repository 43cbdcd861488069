"""Compile Model+ in the real ComfyUI: how often torch compiles, and that the picture stays what it is.

Counted with the backend "eager", which compiles nothing to machine code and so computes the very same bits.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from compiling import NODE, STEPS, WIDGETS, Compiles, compiled, fresh_compiler  # noqa: F401
from in_process import NEVER, USUAL, relative_difference
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from in_process import ComfyUI


def sample(
    model: Any, *, size: tuple[int, int] = (16, 16), batch: int = 1, tokens: int = 6, cfg: float = 1.0
) -> torch.Tensor:
    empty = torch.zeros((batch, 16, *size))
    positive, negative = conditioning("flux_dev", seed=1), conditioning("flux_dev", seed=2)
    for cond in (positive, negative):
        cond[0][0] = cond[0][0][:, :1].expand(-1, tokens, -1).clone()
    return comfy_sample(model, empty, positive, negative, cfg)


def comfy_sample(
    model: Any, empty: torch.Tensor, positive: Any, negative: Any, cfg: float, steps: int = STEPS
) -> torch.Tensor:
    import comfy.sample

    noise = comfy.sample.prepare_noise(empty, 1)
    how = {"denoise": 1.0, "disable_pbar": True, "seed": 1}
    with torch.inference_mode():
        return comfy.sample.sample(model, noise, steps, cfg, "euler", "simple", positive, negative, empty, **how)


ELEVEN: list[tuple[str, dict[str, Any]]] = [
    ("first", {}),
    ("same", {}),
    ("wider", {"size": (16, 24)}),
    ("higher", {"size": (32, 16)}),
    ("larger", {"size": (40, 40)}),
    ("longer prompt", {"tokens": 12}),
    ("longest prompt", {"tokens": 20}),
    ("cfg", {"cfg": 3.0}),
    ("batch 2", {"batch": 2}),
    ("batch 3", {"batch": 3}),
    ("back", {}),
]


@pytest.mark.parametrize("dynamic", [False, True])
def test_eleven_runs_compile_four_regions(comfy: ComfyUI, dynamic: bool) -> None:
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model, dynamic=dynamic)
    counts = {}
    for name, how in ELEVEN:
        plain = sample(model, **how)
        with Compiles() as compiles:
            latent = sample(behind, **how)
        counts[name] = compiles.graphs
        assert compiles.breaks == 0
        assert torch.equal(latent, plain), name
    assert counts == {name: {"first": 2, "cfg": 2}.get(name, 0) for name, _ in ELEVEN}


def test_core_node_beside_it_compiles_more(comfy: ComfyUI, capsys: pytest.CaptureFixture[str]) -> None:
    """The same eleven runs, also behind ComfyUI's own TorchCompileModel, which compiles the model as a whole.

    Two blocks are enough: it compiles as often, only quicker.
    """
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = build("flux_dev", sizes={"depth": 1, "depth_single_blocks": 1})
    of_core = model.clone()
    set_torch_compile_wrapper(model=of_core, backend="eager")  # all that the node does, with a backend that only counts
    both = {"ours": compiled(comfy, model), "core": of_core}
    counts: dict[str, dict[str, int]] = {name: {} for name in both}
    for run, how in ELEVEN:
        for name, behind in both.items():
            with Compiles() as compiles:
                sample(behind, **how)
            counts[name][run] = compiles.graphs
    totals = {name: sum(found.values()) for name, found in counts.items()}
    with capsys.disabled():
        print(f"\ncompiles in eleven runs: {totals} regions and whole models: {counts}")
    assert totals == {"ours": 4, "core": 6}


def test_another_prompt_checkpoint_or_lora_compiles_nothing(comfy: ComfyUI) -> None:
    model, other = comfy.model("flux_dev"), build("flux_dev", seed=99)
    sample(compiled(comfy, model))
    for again in (model, other, lora(model, 0.5), lora(model, 2.0), model):
        plain = sample(again)
        with Compiles() as compiles:
            assert torch.equal(sample(compiled(comfy, again)), plain)
        assert compiles.graphs == 0


def lora(model: Any, strength: float) -> Any:
    patched = model.clone()
    weights = {
        f"diffusion_model.{name}": ("diff", (torch.full_like(weight, 0.01),))
        for name, weight in model.model.diffusion_model.named_parameters()
        if name.endswith("linear1.weight")
    }
    assert patched.add_patches(weights, strength)
    return patched


ORDERS = {
    "compile, cache": lambda comfy, model, threshold: comfy.cached(compiled(comfy, model), threshold),
    "cache, compile": lambda comfy, model, threshold: compiled(comfy, comfy.cached(model, threshold)),
    "twice": lambda comfy, model, threshold: compiled(comfy, comfy.cached(compiled(comfy, model), threshold)),
    "lora first": lambda comfy, model, threshold: comfy.cached(compiled(comfy, lora(model, 1.0)), threshold),
    "lora last": lambda comfy, model, threshold: lora(compiled(comfy, comfy.cached(model, threshold)), 1.0),
}


@pytest.mark.parametrize("threshold", [NEVER, USUAL])
@pytest.mark.parametrize("order", ORDERS)
def test_order_of_the_nodes_does_not_matter(comfy: ComfyUI, order: str, threshold: float) -> None:
    model = comfy.model("flux_dev")
    reference = comfy.sample(comfy.cached(lora(model, 1.0) if "lora" in order else model, threshold))
    with Compiles() as compiles:
        run = comfy.sample(ORDERS[order](comfy, model, threshold))
    assert compiles.graphs == 2
    assert torch.equal(run.latent, reference.latent)
    assert run.calls == reference.calls
    assert (run.calls[1] < run.calls[0]) == (threshold == USUAL)


def by_block(q: Any, k: Any, v: Any, pe: Any = None, attn_mask: Any = None, extra_options: Any = None) -> Any:
    return {"q": q * (1.0 + 0.1 * extra_options["block_index"]), "k": k, "v": v, "pe": pe, "attn_mask": attn_mask}


def test_a_patch_added_after_the_first_run_takes_effect(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    sample(behind)
    results = []
    for patched in (model, behind):
        patched = patched.clone()
        patched.set_model_patch(by_block, "attn1_patch")
        results.append(sample(patched))
    assert torch.equal(*results)
    assert not torch.equal(results[0], sample(model))


@pytest.mark.parametrize("order", ORDERS)
def test_a_patch_added_after_the_first_run_takes_effect_in_every_order(comfy: ComfyUI, order: str) -> None:
    """Beside First Block Cache and LoRA; the picture is the uncompiled cache's."""
    model = comfy.model("flux_dev")
    plain = comfy.cached(lora(model, 1.0) if "lora" in order else model, USUAL)
    pictures = []
    for made in (plain, ORDERS[order](comfy, model, USUAL)):
        before = comfy.sample(made)
        patched = made.clone()
        patched.set_model_patch(by_block, "attn1_patch")
        pictures.append((before.latent, comfy.sample(patched).latent, comfy.sample(made).latent))
    for expected, found in zip(*pictures, strict=True):
        assert torch.equal(found, expected)
    assert not torch.equal(pictures[0][0], pictures[0][1])


def test_an_option_changed_between_runs_takes_effect(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")

    def scaled(q: Any, k: Any, v: Any, pe: Any = None, attn_mask: Any = None, extra_options: Any = None) -> Any:
        return {"q": q * extra_options["strength"], "k": k, "v": v, "pe": pe, "attn_mask": attn_mask}

    for strength in (1.0, 2.0, 0.5):
        results = []
        for patched in (model.clone(), compiled(comfy, model)):
            patched.set_model_patch(scaled, "attn1_patch")
            patched.model_options["transformer_options"]["strength"] = strength
            results.append(sample(patched))
        assert torch.equal(*results)


def test_disable_takes_effect_at_once_and_keeps_the_code(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    sample(behind)
    with Compiles() as compiles:
        run = comfy.sample(compiled(comfy, behind, disable=True))
        assert "compiled" not in run.text
        comfy.sample(behind)
    assert compiles.graphs == 0


def test_a_model_without_the_node_runs_as_it_is_and_its_code_is_kept(comfy: ComfyUI) -> None:
    """The first model of a prompt that no longer has the node is the loader's."""
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    latent = sample(behind)
    comfy.texts.sent.clear()
    with Compiles() as compiles:
        assert torch.equal(sample(model), latent)
        assert comfy.texts.sent == []
        assert torch.equal(sample(behind), latent)
    assert compiles.graphs == 0
    assert "compiled 100 % of calls · 0 compiles" in comfy.texts.last()


def test_clones_and_several_samplers_share_the_code(comfy: ComfyUI) -> None:
    """One sampler goes on from the other's picture; a clone behind another node keeps what was asked before it."""
    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    clone = behind.clone()
    clone.set_model_patch(by_block, "attn1_patch")
    other = compiled(comfy, behind.clone(), dynamic=True)
    counts = []
    for used in (behind, behind.clone(), clone, other, behind, clone, other):
        plain = model.clone()
        if used is clone:
            plain.set_model_patch(by_block, "attn1_patch")
        latent = sample(plain)
        with Compiles() as compiles:
            first = sample(used)
            second = comfy_sample(used, first, *conditions(), 1.0)
        counts.append(compiles.graphs)
        assert torch.equal(first, latent)
        assert torch.equal(second, comfy_sample(plain, latent, *conditions(), 1.0))
        assert "compiled 100 % of calls" in comfy.texts.last()
    assert counts[:2] == [2, 0]
    assert counts[4:] == [0, 0, 0]


def conditions() -> tuple[Any, Any]:
    return conditioning("flux_dev", seed=1), conditioning("flux_dev", seed=2)


def test_the_node_says_what_was_done(comfy: ComfyUI) -> None:
    behind = compiled(comfy, comfy.model("flux_dev"))
    first = comfy.sample(behind).text
    assert "Flux · 2 regions, 7 blocks · compiled 100 % of calls · 2 compiles (" in first
    assert first.endswith(" · cold start")
    texts = [text for node, text in comfy.texts.sent if node == WIDGETS["unique_id"]]
    assert "Compiling DoubleStreamBlock (1 of 2)" in texts
    assert "Compiling SingleStreamBlock (2 of 2)" in texts
    assert comfy.sample(behind).text == "Flux · 2 regions, 7 blocks · compiled 100 % of calls · 0 compiles"
    text = comfy.sample(behind, cfg=2.0).text
    assert "compiled again because the batch size changed" in text or "compiled again because a size changed" in text


def test_a_block_that_cannot_be_compiled_runs_as_it_is(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")

    def untraceable(q: Any, k: Any, v: Any, pe: Any = None, attn_mask: Any = None, extra_options: Any = None) -> Any:
        torch._dynamo.graph_break()
        return {"q": q, "k": k, "v": v, "pe": pe, "attn_mask": attn_mask}

    behind = compiled(comfy, model, fullgraph=True)
    behind.set_model_patch(untraceable, "attn1_patch")
    run = comfy.sample(behind)
    assert torch.equal(run.latent, comfy.sample(model).latent)
    assert "cannot be compiled and runs as it is: " in run.text


@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor_computes_the_same_picture(comfy: ComfyUI, dynamic: bool) -> None:
    model = comfy.model("flux_dev")
    run = comfy.sample(compiled(comfy, model, backend="inductor", dynamic=dynamic), steps=8)
    assert relative_difference(run.latent, comfy.sample(model, steps=8).latent) < 1e-4
    assert "2 regions" in run.text
    sys.stderr.write(f"\n{run.text}\n")


def test_the_widgets_of_an_old_workflow(comfy: ComfyUI) -> None:
    names = [name for name in comfy.nodes[NODE].INPUT_TYPES()["required"] if name != "model"]
    old = [True, "diffusion_model", "torch.compile", False, False, "", "", False, "inductor"]
    assert comfy.call(NODE, model=comfy.model("flux_dev"), **dict(zip(names, old, strict=True))) is not None


def test_what_the_signature_stands_for_is_noticed_when_it_changes(comfy: ComfyUI) -> None:
    """torch no longer checks the block itself, so a changed block must come to other code."""
    model = build("flux_dev")
    behind = compiled(comfy, model)
    first = sample(behind)
    block = model.model.diffusion_model.single_blocks[1]
    block.mlp_act = torch.nn.ReLU()
    changed = sample(behind)
    assert torch.equal(changed, sample(model))
    assert not torch.equal(changed, first)
    block.norm.query_norm.eps = 0.5
    again = sample(behind)
    assert torch.equal(again, sample(model))
    assert not torch.equal(again, changed)


def test_another_attention_function_is_noticed(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other nodes exchange it for the whole process."""
    flux_math = importlib.import_module("comfy.ldm.flux.math")
    original = flux_math.optimized_attention

    def doubled(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        return original(q, k, v * 2, *args, **kwargs)

    model = comfy.model("flux_dev")
    behind = compiled(comfy, model)
    first = sample(behind)
    monkeypatch.setattr(flux_math, "optimized_attention", doubled)
    changed = sample(behind)
    assert torch.equal(changed, sample(model))
    assert not torch.equal(changed, first)


def test_blocks_with_patches_on_offloaded_weights_run_as_they_are(comfy: ComfyUI) -> None:
    model = comfy.model("flux_dev")
    plain = sample(model)
    layer = model.model.diffusion_model.single_blocks[1].linear1
    layer.weight_function.append(lambda weight: weight * 1.5)
    try:
        run = comfy.sample(compiled(comfy, model), steps=STEPS)
        reference = comfy.sample(model, steps=STEPS)
    finally:
        layer.weight_function.clear()
    assert torch.equal(run.latent, reference.latent)
    assert not torch.equal(run.latent, plain)
    assert "not compiled: 1 block, because LoRA patches of a kind that torch cannot compile are applied" in run.text


def test_a_region_is_compiled_more_often_than_torch_would(comfy: ComfyUI) -> None:
    """torch's own limit is eight, beyond which it goes on uncompiled without a word."""
    model = comfy.model("flux_dev")

    def scaled(q: Any, k: Any, v: Any, pe: Any = None, attn_mask: Any = None, extra_options: Any = None) -> Any:
        return {"q": q * float(extra_options["strength"]), "k": k, "v": v, "pe": pe, "attn_mask": attn_mask}

    with Compiles() as compiles:
        for number in range(9):
            behind = compiled(comfy, model)
            behind.set_model_patch(scaled, "attn1_patch")
            behind.model_options["transformer_options"]["strength"] = str(number)
            sample(behind)
            assert "2 regions, 7 blocks · compiled 100 % of calls · 2 compiles" in comfy.texts.last()
    assert compiles.graphs == 18
