"""Two hundred random prompts in one process: compiles stay within a formula, memory stays flat, pictures stay exact.

Counted with the backend "eager". The seed is printed; WAVESPEED_SOAK_SEED sets another one.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch
from compiling import Compiles, compiled, fresh_compiler  # noqa: F401
from in_process import USUAL, tensors_alive
from test_compile import comfy_sample, lora
from tiny_models import build, conditioning

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from in_process import ComfyUI

PROMPTS = 200
SEED = int(os.environ.get("WAVESPEED_SOAK_SEED", "20261124"))
STEPS = 3
CHECKPOINTS = 3
SIZES = ((16, 16), (16, 24), (24, 16), (8, 16), (32, 8))
TOKENS = (6, 12, 18)
KINDS, BATCHES = 2, 2
"""Of blocks (double and single), and of batches: one, and more than one."""
PLACES = 3
"""A patch that computes with the number of a block is other code for 0, for 1 and for all others."""
GROWTH_MAX = 32 << 20
"""Bytes of the process in the second half. Python's and the allocator's own pools move by a few MiB."""


def scaled(q: Any, k: Any, v: Any, pe: Any = None, attn_mask: Any = None, extra_options: Any = None) -> Any:
    return {"q": q * 1.25, "k": k, "v": v, "pe": pe, "attn_mask": attn_mask}


def by_block(q: Any, k: Any, v: Any, pe: Any = None, attn_mask: Any = None, extra_options: Any = None) -> Any:
    return {"q": q * (1.0 + 0.1 * extra_options["block_index"]), "k": k, "v": v, "pe": pe, "attn_mask": attn_mask}


PATCHES = {None: 1, scaled: 1, by_block: PLACES}
"""With how many forms of code each needs."""
COMPILES_MAX = KINDS * BATCHES * sum(PATCHES.values())
"""Sizes, lengths of prompts, LoRA, checkpoints, clones, bypasses and the order of nodes are no factors."""


@dataclass(frozen=True)
class Prompt:
    """One prompt; `nodes` are the names of the nodes between loader and sampler, in their order."""

    checkpoint: int
    nodes: tuple[str, ...]
    patch: Callable[..., Any] | None
    strengths: tuple[float, float]
    size: tuple[int, int]
    batch: int
    tokens: int
    cfg: float


def draw(dice: random.Random) -> Prompt:
    nodes = [name for name in ("lora", "lora", "patch", "clone", "cache", "disabled") if dice.random() < 0.4]
    if dice.random() < 0.9:
        nodes.append("compile")
    dice.shuffle(nodes)
    return Prompt(
        dice.randrange(CHECKPOINTS),
        tuple(nodes),
        dice.choice([patch for patch in PATCHES if patch is not None]) if "patch" in nodes else None,
        (dice.uniform(-2, 2), dice.uniform(-2, 2)),
        dice.choice(SIZES),
        dice.choice((1, 1, 2)),
        dice.choice(TOKENS),
        dice.choice((1.0, 1.0, 3.0)),
    )


def picture(comfy: ComfyUI, checkpoint: Any, prompt: Prompt, *, compiles: bool) -> torch.Tensor:
    model = checkpoint.clone()
    strengths = iter(prompt.strengths)
    for node in prompt.nodes:
        if node == "lora":
            model = lora(model, next(strengths))
        elif node == "patch":
            model = model.clone()
            model.set_model_patch(prompt.patch, "attn1_patch")
        elif node == "clone":
            model = model.clone()
        elif node == "cache":
            model = comfy.cached(model, USUAL)
        elif compiles:
            model = compiled(comfy, model, disable=node == "disabled")
    conds = [conditioning("flux_dev", seed=seed) for seed in (1, 2)]
    for cond in conds:
        cond[0][0] = cond[0][0].repeat(1, prompt.tokens // cond[0][0].shape[1], 1)
    empty = torch.zeros((prompt.batch, 16, *prompt.size))
    with torch.inference_mode():
        return comfy_sample(model, empty, *conds, prompt.cfg, STEPS)


def test_two_hundred_random_prompts(comfy: ComfyUI, capsys: pytest.CaptureFixture[str]) -> None:
    from comfy import model_management

    dice = random.Random(SEED)
    checkpoints = [build("flux_dev", seed=seed) for seed in range(CHECKPOINTS)]
    counted = 0
    memory: list[tuple[int, int]] = []
    for number in range(PROMPTS):
        prompt = draw(dice)
        if number % 20 == 19:  # another file in the place of one of the checkpoints
            checkpoints[dice.randrange(CHECKPOINTS)] = build("flux_dev", seed=number)
        plain = picture(comfy, checkpoints[prompt.checkpoint], prompt, compiles=False)
        with Compiles() as compiles:
            behind = picture(comfy, checkpoints[prompt.checkpoint], prompt, compiles=True)
        counted += compiles.graphs
        assert torch.equal(behind, plain), f"seed {SEED}, prompt {number}: {prompt}"
        assert counted <= COMPILES_MAX, f"seed {SEED}, prompt {number}: {counted} compiles"
        del plain, behind
        comfy.texts.sent.clear()
        if number + 1 in (PROMPTS // 2, PROMPTS):
            model_management.unload_all_models()  # a merged LoRA keeps the weights from before it
            memory.append((tensors_alive(), psutil.Process().memory_info().rss))
    (tensors, size), (tensors_after, size_after) = memory
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {PROMPTS} prompts, {counted} compiles (at most {COMPILES_MAX}); in the second half "
            f"{tensors_after - tensors:+d} tensors, {(size_after - size) / (1 << 20):+.1f} MiB"
        )
    assert tensors_after <= tensors
    assert size_after - size < GROWTH_MAX
