"""Compile Model+ with every kind of model: how often torch compiles, and that the result stays what it is.

Counted with the backend "eager". The table "Compiles per family" in docs/compile.md holds these numbers, and a test
compares.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from compiling import STEPS, Compiles, compiled, fresh_compiler  # noqa: F401
from in_process import USUAL
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from in_process import ComfyUI

RUNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("first", {}),
    ("another seed", {"seed": 7}),
    ("another size", {"wider": 8}),
    ("a third size", {"wider": 16}),
    ("longer prompt", {"tokens": 12}),
    ("cfg", {"cfg": 3.0}),
    ("batch 2", {"batch": 2}),
    ("back", {}),
)
COUNTS: dict[str, tuple[int, ...]] = {
    "flux_dev": (2, 0, 0, 0, 0, 2, 0, 0),
    "flux2": (2, 0, 0, 0, 0, 2, 0, 0),
    "chroma": (2, 0, 0, 0, 0, 2, 0, 0),
    "sd3": (2, 0, 0, 0, 0, 2, 0, 0),
    "sd35": (4, 0, 0, 0, 0, 4, 0, 0),
    "wan": (2, 0, 0, 0, 0, 2, 0, 0),
    "qwen_image": (1, 0, 0, 0, 0, 1, 0, 0),
    "sdxl": (14, 0, 0, 0, 0, 14, 0, 0),
    "sd1": (9, 0, 0, 0, 0, 9, 0, 0),
}
"""Compiles in each of RUNS. SD3's last block gives no text and the first of SD3.5 attend twice: other kinds of blocks.
The very first of SD3.5 and of Wan also get their input in another order in memory (strides), which costs one more. The
blocks of UNets have many widths."""


def row(name: str, counts: tuple[int, ...], runs: tuple[tuple[str, Any], ...]) -> str:
    """A line of the table in docs/compile.md."""
    by_run = dict(zip((name for name, _ in runs), counts, strict=True))
    larger = [by_run[name] for name in ("cfg", "batch 2") if name in by_run]
    others = [count for name, count in by_run.items() if name not in ("first", "cfg", "batch 2")]
    return f"| {name} | {by_run['first']} | {sum(larger)} | {sum(others)} |"


def sample(
    comfy_ui: ComfyUI,
    model: Any,
    family: str,
    *,
    seed: int = 1,
    wider: int = 0,
    tokens: int = 6,
    cfg: float = 1.0,
    batch: int = 1,
    positive: Any = None,
) -> torch.Tensor:
    """A run of which also the size and the length of the prompt are chosen."""
    import comfy.sample

    shape = list(comfy_ui.empty_latent(family, batch).shape)
    shape[-1] += wider
    empty = torch.zeros(shape)
    conds = [positive or conditioning(family, seed=1), conditioning(family, seed=2)]
    for cond in conds:
        cond[0][0] = cond[0][0].repeat(1, tokens // cond[0][0].shape[1], 1)
    with torch.inference_mode():
        return comfy.sample.sample(
            model,
            comfy.sample.prepare_noise(empty, seed),
            STEPS,
            cfg,
            "euler",
            "simple",
            *conds,
            empty,
            disable_pbar=True,
            seed=seed,
        )


@pytest.mark.parametrize("family", COUNTS)
def test_a_family_compiles_as_often_as_it_has_kinds_of_blocks(
    comfy: ComfyUI, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = comfy.model(family)
    behind = compiled(comfy, model)
    counts = []
    for name, how in RUNS:
        plain = sample(comfy, model, family, **how)
        with Compiles() as compiles:
            latent = sample(comfy, behind, family, **how)
        counts.append(compiles.graphs)
        assert compiles.breaks == 0
        assert torch.equal(latent, plain), name
    # First Block Cache, in both orders, runs the same code.
    cached = sample(comfy, comfy.cached(model, USUAL), family)
    with Compiles() as compiles:
        assert torch.equal(sample(comfy, comfy.cached(behind, USUAL), family), cached)
        assert torch.equal(sample(comfy, compiled(comfy, comfy.cached(model, USUAL)), family), cached)
    assert compiles.graphs == 0
    with capsys.disabled():
        print("\n" + row(family, tuple(counts), RUNS))
    assert tuple(counts) == COUNTS[family]


def test_blocks_that_are_called_by_a_method_are_compiled(comfy: ComfyUI) -> None:
    """Wan Animate 2. Without comfy.sample, which counts the blocks in the very place of that method."""
    family = "wan_animate2"
    model = comfy.model(family)
    for made, expected in ((model, 2), (comfy.cached(model, USUAL), 0)):
        with torch.inference_mode(), Compiles() as compiles:
            reference = comfy.sample_latent(made, family, steps=STEPS)
            latent = comfy.sample_latent(compiled(comfy, made), family, steps=STEPS)
        assert compiles.graphs == expected
        assert torch.equal(latent, reference)
        assert any("1 region, 3 blocks · compiled 100 % of calls" in text for _, text in comfy.texts.sent)
    assert not any("forward_gen" in vars(block) for block in model.model.diffusion_model.blocks)


def scaled_by_place(q: Any, k: Any, v: Any, extra_options: Any) -> Any:
    kind, number = extra_options["block"]
    return q * (1.0 + len(kind) + 0.1 * number + 0.01 * extra_options["block_index"]), k, v


def overridden(function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs) * (1.0 + 0.1 * kwargs["transformer_options"]["block"][1])


def patch_attention(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model.set_model_attn2_patch(scaled_by_place)


def override_attention(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model.model_options["transformer_options"]["optimized_attention_override"] = overridden


def exchange_attention(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As packs do for the whole process."""
    from comfy.ldm.modules import attention

    monkeypatch.setattr(attention, "optimized_attention", partial(overridden, attention.optimized_attention))


def exchange_a_class(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from comfy.ldm.modules import attention

    original = attention.CrossAttention.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return overridden(partial(original, self), *args, **kwargs)

    monkeypatch.setattr(attention.CrossAttention, "forward", forward)


def exchange_a_forward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in model.model.diffusion_model.input_blocks[1][1].transformer_blocks:
        monkeypatch.setitem(vars(block.attn1), "forward", partial(overridden, block.attn1.forward))


def hook_a_layer(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(_module: Any, _args: Any, kwargs: Any, result: Any) -> Any:
        return result * (1.0 + 0.1 * kwargs["transformer_options"]["block"][1])

    layer = model.model.diffusion_model.input_blocks[2][1].transformer_blocks[0].attn2
    number = layer.register_forward_hook(hook, with_kwargs=True).id
    for hooks in (layer._forward_hooks, layer._forward_hooks_with_kwargs):
        monkeypatch.setitem(hooks, number, hooks.pop(number))


ONE_WIDTH = {
    "channel_mult": [1],
    "num_res_blocks": [2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1],
}
"""Sizes of a UNet with places enough: torch compiles once for each place that a block can ask for."""
ONE_BLOCK = {
    **ONE_WIDTH,
    "num_res_blocks": [1],
    "transformer_depth": [0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0],
}
"""Sizes of the smallest UNet with attention."""
ASK_FOR_THEIR_PLACE = (
    exchange_a_forward,
    hook_a_layer,
    patch_attention,
    override_attention,
    exchange_attention,
    exchange_a_class,
)


def test_what_asks_where_a_block_stands_is_told(comfy: ComfyUI) -> None:
    """The place of a UNet's block is kept from torch only while nothing could ask for it."""
    model = build("sd1", sizes=ONE_WIDTH)
    plain = sample(comfy, model, "sd1")
    assert torch.equal(sample(comfy, compiled(comfy, model), "sd1"), plain)
    for change in ASK_FOR_THEIR_PLACE:
        changed = model.clone()
        with pytest.MonkeyPatch.context() as monkeypatch:
            change(changed, monkeypatch)
            expected = sample(comfy, changed, "sd1")
            assert not torch.equal(expected, plain)
            assert torch.equal(sample(comfy, compiled(comfy, changed), "sd1"), expected), change.__name__
