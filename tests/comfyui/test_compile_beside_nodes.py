"""Compile Model+ beside nodes that work on the same blocks: their work stays theirs, and the node says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from compiling import STEPS, Compiles, compiled, fresh_compiler  # noqa: F401
from in_process import USUAL
from test_compile import sample
from tiny_models import build

if TYPE_CHECKING:
    from in_process import ComfyUI


@pytest.mark.parametrize("compiled_first", [False, True])
def test_a_model_without_described_blocks_is_cached_rather_than_compiled_as_a_whole(
    comfy: ComfyUI, compiled_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = comfy.model("flux_dev")
    monkeypatch.delitem(comfy.engine().architectures, "Flux")
    comfy.sample(comfy.cached(model, USUAL), steps=STEPS)  # finds the blocks
    expected = comfy.sample(comfy.cached(model, USUAL), steps=STEPS)
    if compiled_first:
        both = comfy.cached(compiled(comfy, model), USUAL)
    else:
        both = compiled(comfy, comfy.cached(model, USUAL))
    with Compiles() as compiles:
        run = comfy.sample(both, steps=STEPS)
    assert compiles.graphs == 0
    assert torch.equal(run.latent, expected.latent)
    assert run.calls == expected.calls
    assert any("First Block Cache works between its layers" in text for _, text in comfy.texts.sent)


def test_a_block_that_another_node_runs_is_left_to_it(comfy: ComfyUI) -> None:
    model = build("flux_dev")
    blocks = model.model.diffusion_model.single_blocks
    original = blocks[0].forward
    blocks[0].forward = lambda *args, **kwargs: original(*args, **kwargs) * 1.5
    blocks[1].compile(backend="eager")
    plain = sample(model)
    assert torch.equal(sample(compiled(comfy, model)), plain)
    text = comfy.texts.last()
    assert "not compiled: 1 block, because another node runs them in its own way" in text
    assert "not compiled: 1 block, because another node has compiled them" in text
    assert "2 regions, 5 blocks · compiled 83 % of calls" in text
