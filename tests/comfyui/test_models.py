"""Every family that ComfyUI samples: a miss changes nothing, a hit runs one block and reproduces what was computed.

One test per configuration; the table at the end of the run says what each showed. A configuration that the ComfyUI at
hand does not have is listed as absent and skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import family
import predecessor
import pytest
import torch
from families import FAMILIES
from in_process import NEVER, USUAL, Evaluation, difference_of_norms
from matrix import ABSENT, LEFT_ALONE, VERIFIED

if TYPE_CHECKING:
    from in_process import ComfyUI
    from matrix import Matrix, Row

TOLERANCE = 1e-6
VISIBLE = 1e-5
"""Reuse must show: else the tolerance above would say nothing."""
SHORT, TEN = 4, 10


@pytest.fixture(scope="module")
def predecessor_node(comfy: ComfyUI) -> type | None:
    return predecessor.node(comfy)


@pytest.mark.parametrize("name", FAMILIES)
def test_family(comfy: ComfyUI, matrix: Matrix, predecessor_node: type | None, name: str) -> None:
    row = matrix.row(name, FAMILIES[name].model_class)
    try:
        model = comfy.model_or_absent(name)
    except family.AbsentModelError as problem:
        row.state, row.remark = ABSENT, str(problem)
        pytest.skip(f"This ComfyUI does not have {name}: {problem}.")
    descriptor = comfy.descriptor(model)
    row.family = descriptor.family if descriptor is not None else ""
    if descriptor is None or descriptor.excluded:
        check_is_left_alone(comfy, model, name, row)
    else:
        row.boundary = boundary(descriptor)
        check_miss(comfy, model, name)
        check_hit(comfy, model, name, row)
        check_sampling(comfy, model, name, row)
        row.saved_share = saved_share(name)
        if predecessor_node is not None:
            row.predecessor = predecessor.verdict(comfy, predecessor_node, name)
        row.state = VERIFIED


def test_minimax_music_is_left_alone(comfy: ComfyUI, matrix: Matrix) -> None:
    """Its sizes are fixed at 2.5 billion parameters, so it is made without values and only the node is asked."""
    from comfy import model_patcher, supported_models

    row = matrix.row("minimax_music_3", "MiniMaxMusic3DiT")
    config = getattr(supported_models, "MiniMaxMusic3", None)
    if config is None:
        row.state, row.remark = ABSENT, "there is no supported model MiniMaxMusic3"
        pytest.skip(f"This ComfyUI does not have minimax_music_3: {row.remark}.")
    settings = config({"audio_model": "minimax_music3"})
    settings.set_inference_dtype(torch.float32, None)
    with torch.device("meta"):
        model = settings.get_model({}, device="meta")
    assert type(model.diffusion_model).__name__ == row.model_class
    patcher = model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
    row.family = comfy.descriptor(patcher).family
    assert comfy.cached(patcher) is patcher
    row.state, row.remark = LEFT_ALONE, f"{passed_through(comfy.texts.last())} (not sampled)"


def boundary(descriptor: Any) -> str:
    if descriptor.early_exit is not None:
        return "early exit"
    return " or ".join(descriptor.final) if descriptor.final else "last block"


def check_is_left_alone(comfy: ComfyUI, model: Any, name: str, row: Row) -> None:
    plain = comfy.sample(model, name, steps=SHORT, cfg=2.0)
    behind_node = comfy.cached(model, USUAL)
    told = comfy.texts.last()
    assert torch.equal(comfy.sample(behind_node, name, steps=SHORT, cfg=2.0).latent, plain.latent)
    row.state, row.remark = LEFT_ALONE, passed_through(told)


def passed_through(told: str) -> str:
    """The reason that the node gave."""
    assert told.startswith("Passed through: ")
    return told.removeprefix("Passed through: ").rstrip(".")


def check_miss(comfy: ComfyUI, model: Any, name: str) -> None:
    plain = comfy.sample(model, name, steps=SHORT, cfg=2.0)
    cached = comfy.sample(comfy.cached(model, NEVER), name, steps=SHORT, cfg=2.0)
    assert torch.isfinite(plain.latent).all()
    assert torch.equal(cached.latent, plain.latent), "a miss is not the model's own result"
    assert cached.counts == (SHORT, SHORT, 0)
    assert cached.calls == plain.calls


def check_hit(comfy: ComfyUI, model: Any, name: str, row: Row) -> None:
    # Some models collect state in their first call, which is always computed; the plain run takes that call.
    cfg = FAMILIES[name].cfg
    plain = comfy.evaluate(model, name, [Evaluation()], cfg=cfg)
    cached = comfy.evaluate(comfy.cached(model), name, [Evaluation(), Evaluation()], cfg=cfg)
    assert cached.run.counts == (2, 1, 1)
    assert torch.equal(cached.outputs[0], plain.outputs[0])
    row.blocks, row.blocks_on_a_hit = len(cached.calls[1]), sum(cached.calls[1])
    assert cached.calls[0] == (1,) * row.blocks
    kept = FAMILIES[name].kept
    assert cached.calls[1] == (1,) * kept + (0,) * (row.blocks - kept)
    row.hit_difference = difference_of_norms(cached.outputs[1], cached.outputs[0])
    assert row.hit_difference <= TOLERANCE


def check_sampling(comfy: ComfyUI, model: Any, name: str, row: Row) -> None:
    behind_node = comfy.cached(model, USUAL)
    first = comfy.sample(behind_node, name, steps=TEN, cfg=2.0)
    again = comfy.sample(behind_node, name, steps=TEN, cfg=2.0)
    row.reused_of_ten = first.reused
    assert first.counts[0] == TEN
    assert 0 < first.reused < TEN
    assert torch.isfinite(first.latent).all()
    assert torch.equal(first.latent, again.latent)
    assert first.counts == again.counts
    plain = comfy.sample(model, name, steps=TEN, cfg=2.0)
    assert difference_of_norms(first.latent, plain.latent) > VISIBLE, (
        "what the blocks do hardly matters in this tiny model"
    )


def saved_share(name: str) -> float | None:
    """Share of parameters in the blocks and side modules that a hit skips, in the published size."""
    from blocks import executed_blocks

    description = FAMILIES[name]
    if description.published is None:
        return None
    model = family.instance(family.for_this_comfyui(description), published=True)
    stages = (*description.stages, *description.bypassed)
    skipped = executed_blocks(model, stages, whole=True)[description.kept :]
    return sum(map(parameters, skipped)) / parameters(model)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.usefixtures("comfy")
@pytest.mark.parametrize("name", [name for name, described in FAMILIES.items() if described.published_parameters])
def test_published_size(name: str) -> None:
    """Sizes that were written down wrongly would give a wrong share."""
    description = FAMILIES[name]
    try:
        model = family.instance(family.for_this_comfyui(description), published=True)
    except family.AbsentModelError as problem:
        pytest.skip(f"This ComfyUI does not have {name}: {problem}.")
    assert parameters(model) / 1e9 == pytest.approx(description.published_parameters, rel=0.1)
