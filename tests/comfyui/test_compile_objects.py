"""Compile Model+ with a VAE, CLIP and ControlNet: how often torch compiles, and that the result stays what it is.

Counted with the backend "eager". The table "Compiles per family" in docs/compile.md ends with these numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tiny_objects
import torch
from compiling import Compiles, compiled, fresh_compiler  # noqa: F401
from test_compile_families import COUNTS, RUNS, row, sample
from tiny_models import build, conditioning

from comfyui_tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from in_process import ComfyUI


def decode(_comfy: ComfyUI, vae: Any, *, side: int = 48, batch: int = 1) -> torch.Tensor:
    return vae.decode(torch.randn((batch, 4, side, side), generator=torch.Generator().manual_seed(1)))


def encode(_comfy: ComfyUI, vae: Any, *, side: int = 48, batch: int = 1) -> torch.Tensor:
    return vae.encode(torch.rand((batch, 2 * side, 2 * side, 3), generator=torch.Generator().manual_seed(1)))


def encode_text(_comfy: ComfyUI, clip: Any, *, side: int = 48, batch: int = 1) -> torch.Tensor:
    """Another size is a longer prompt; a batch is one of several times 77 tokens."""
    words = "word " * (side if batch == 1 else 100)
    return clip.encode_from_tokens(clip.tokenize(words))


def control(
    comfy: ComfyUI, control_net: Any, *, side: int = 48, batch: int = 1, sizes: dict[str, Any] | None = None
) -> torch.Tensor:
    """A picture of the tiny Stable Diffusion 1 under a ControlNet of the same sizes."""
    hint = torch.rand((1, 64, 64, 3), generator=torch.Generator().manual_seed(2))
    conds = conditioning("sd1", seed=1), conditioning("sd1", seed=2)
    positive = comfy.call(
        "ControlNetApplyAdvanced",
        positive=conds[0],
        negative=conds[1],
        control_net=control_net,
        image=hint,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    model = build("sd1", sizes=sizes) if sizes else comfy.model("sd1")
    return sample(comfy, model, "sd1", wider=(side - 48) * 2, batch=batch, positive=positive)


OBJECT_RUNS: tuple[tuple[str, dict[str, int]], ...] = (
    ("first", {}),
    ("again", {}),
    ("another size", {"side": 52}),
    ("a third size", {"side": 56}),
    ("batch 2", {"batch": 2}),
    ("back", {}),
)
OBJECTS: dict[str, tuple[Callable[[], Any], str, Callable[..., torch.Tensor], tuple[int, ...]]] = {
    "VAE decoder": (tiny_objects.vae, "decoder", decode, (1, 0, 0, 0, 1, 0)),
    "VAE encoder": (tiny_objects.vae, "encoder", encode, (1, 0, 0, 0, 1, 0)),
    "CLIP": (tiny_objects.clip, "clip_l.transformer.text_model.encoder", encode_text, (1, 0, 0, 0, 1, 0)),
    "ControlNet": (tiny_objects.control_net, "diffusion_model", control, (1, 0, 1, 0, 1, 0)),
}
"""How it is made, what of it is compiled, what is done with it, compiles in each of OBJECT_RUNS.

On a CPU torch makes other code for a convolution of one picture of at most 20480 numbers, and another size may be on
the other side of it. The ControlNet's second size is: its hint has 12288 numbers at first and 24576 then.
"""
CONVOLUTION_GUARD = "3*kwargs['hint'].size()[3]*kwargs['hint'].size()[2] <= 20480"


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_is_compiled_once_and_once_for_batches(
    comfy: ComfyUI, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, part, use, expected = OBJECTS[kind]
    plain = make()
    behind = compiled(comfy, plain, is_patcher=False, object_to_patch=part)
    counts = []
    for name, how in OBJECT_RUNS:
        with torch.inference_mode(), Compiles() as compiles:
            reference = use(comfy, plain, **how)
            assert compiles.graphs == 0, "the object before the node is compiled too"
            result = use(comfy, behind, **how)
        counts.append(compiles.graphs)
        assert torch.equal(result, reference), name
        if compiles.graphs and name == "another size":
            assert CONVOLUTION_GUARD in torch._dynamo.utils.get_compilation_metrics()[-1].recompile_reason
            assert "compiled again because a size changed" in comfy.texts.last()
    with capsys.disabled():
        print("\n" + row(kind, tuple(counts), OBJECT_RUNS))
    assert tuple(counts) == expected


def test_the_document_says_what_is_counted_here() -> None:
    document = (ROOT / "docs" / "compile.md").read_text(encoding="utf-8")
    lines = [row(family, counts, RUNS) for family, counts in COUNTS.items()]
    lines += [row(kind, entry[-1], OBJECT_RUNS) for kind, entry in OBJECTS.items()]
    assert "\n".join(lines) in document


def test_a_vae_is_compiled_and_the_original_is_not(comfy: ComfyUI) -> None:
    vae = comfy.call("VAELoader", vae_name="wavespeed_demo_vae.safetensors")
    latent = torch.randn(1, 16, 8, 8)
    decoded = []
    for used in (vae, compiled(comfy, vae, is_patcher=False, object_to_patch="taesd_decoder"), vae):
        with Compiles() as compiles, torch.inference_mode():
            decoded.append(used.decode(latent))
        decoded.append(compiles.graphs)
    plain, none, behind, some, again, none_again = decoded
    assert torch.equal(plain, behind)
    assert torch.equal(plain, again)
    assert (none, bool(some), none_again) == (0, True, 0)
    assert vars(vae.first_stage_model.taesd_decoder).get("_compiled_call_impl") is None


def test_a_wrong_object_is_answered_with_the_names_there_are(comfy: ComfyUI) -> None:
    vae = comfy.call("VAELoader", vae_name="wavespeed_demo_vae.safetensors")
    with pytest.raises(ValueError, match=r"It has: .*decoder"):
        compiled(comfy, vae, is_patcher=False)
    with pytest.raises(ValueError, match=r"It has: .*diffusion_model"):
        compiled(comfy, comfy.model("flux_dev"), object_to_patch="decoder")
    with pytest.raises(TypeError, match="switch is_patcher off"):
        compiled(comfy, vae)
    with pytest.raises(TypeError, match="no model patcher inside"):
        compiled(comfy, object(), is_patcher=False)


def test_what_changes_in_an_object_is_noticed(comfy: ComfyUI) -> None:
    """Its signature takes the place of torch's own checks."""
    vae = tiny_objects.vae()
    behind = compiled(comfy, vae, is_patcher=False, object_to_patch="decoder")
    with torch.inference_mode():
        first = decode(comfy, behind)
        vae.first_stage_model.decoder.mid.block_1.norm1.eps = 0.5
        changed = decode(comfy, behind)
        assert torch.equal(changed, decode(comfy, vae))
    assert not torch.equal(changed, first)


def test_another_object_of_the_same_kind_takes_the_same_code(comfy: ComfyUI) -> None:
    kinds = ((tiny_objects.vae, "decoder", decode), (tiny_objects.control_net, "diffusion_model", control))
    for make, part, use in kinds:
        objects = [make(), make()]
        graphs = []
        with torch.inference_mode():
            for found in objects:
                reference = use(comfy, found)
                with Compiles() as compiles:
                    behind = compiled(comfy, found, is_patcher=False, object_to_patch=part)
                    assert torch.equal(use(comfy, behind), reference)
                graphs.append(compiles.graphs)
        assert graphs == [1, 0]


def test_a_control_net_is_looked_at_once_per_node(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known holds while one node runs, and no longer."""
    utils = pytest.importorskip("comfy_execution.utils", reason="This ComfyUI does not say which node runs.")
    looked_at: list[torch.nn.Module] = []
    network = tiny_objects.control_net()
    behind = compiled(comfy, network, is_patcher=False)
    slot = behind.control_model_wrapped.object_patches["_compiled_call_impl"]
    find = slot._find_region
    monkeypatch.setattr(slot, "_find_region", lambda: (looked_at.append(slot.module), find())[1])
    with torch.inference_mode():
        for node in ("1", "2"):
            with utils.CurrentNodeContext("prompt", node):
                changed = control(comfy, behind)
            assert torch.equal(changed, control(comfy, network))
            network.control_model.middle_block[0].in_layers[0].eps = 0.5
    assert len(looked_at) == 2


def test_a_lora_on_a_text_encoder_that_does_not_fit_is_right(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions that ComfyUI hangs on offloaded layers are left to torch."""
    from comfy.model_patcher import ModelPatcher

    load = ModelPatcher.partially_load

    def load_little(self: Any, device: Any, _memory: int, **how: Any) -> int:
        return load(self, device, 1, **how)

    clip = tiny_objects.clip()
    part = "clip_l.transformer.text_model.encoder"
    plain = encode_text(comfy, clip)
    monkeypatch.setattr(ModelPatcher, "partially_load", load_little)
    for factor in (0.05, 0.1):
        patched = clip.clone()
        named = clip.cond_stage_model.named_parameters()
        weights = {
            name: ("diff", (torch.full_like(weight, factor),)) for name, weight in named if name.endswith("fc1.weight")
        }
        assert patched.add_patches(weights, 1.0)
        with torch.inference_mode():
            expected = encode_text(comfy, patched)
            behind = compiled(comfy, patched, is_patcher=False, object_to_patch=part)
            assert torch.equal(encode_text(comfy, behind), expected)
        assert not torch.equal(expected, plain)


def test_an_object_without_the_node_runs_as_it_is_and_its_code_is_kept(comfy: ComfyUI) -> None:
    vae = tiny_objects.vae()
    nodes = [compiled(comfy, vae, is_patcher=False, object_to_patch="decoder", disable=off) for off in (False, True)]
    results = []
    counts = []
    with torch.inference_mode():
        for used in (nodes[0], nodes[1], vae, nodes[0]):
            with Compiles() as compiles:
                results.append(decode(comfy, used))
            counts.append(compiles.graphs)
            slot = vars(vae.first_stage_model.decoder).get("_compiled_call_impl")
            assert (slot is not None) == (used is nodes[0])
    assert counts == [1, 0, 0, 0]
    assert all(torch.equal(result, results[0]) for result in results)
