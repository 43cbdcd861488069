"""Compile Model+ on a GPU, with the demo model in the real ComfyUI: pictures, compiles, the cache, LoRA, warm start.

Compared with the same model uncompiled on the same device: to the bit with the backend "eager", within the rounding of
the model's dtype with "inductor". `--device cpu` runs all of it on the CPU.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from comfyui_here import ComfyUIHere
from compiled_start import start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 4
COUNTS = re.compile(r"(\d+) evaluations?: (\d+) computed, (\d+) reused")
NEVER, USUAL = 1e-30, 0.12
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""What the pictures of one evaluation may differ by, as norms. The 16-bit ones are guesses until a GPU has run this."""


@pytest.fixture(scope="module")
def device(pytestconfig: pytest.Config) -> str:
    name = str(pytestconfig.getoption("device"))
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return name


@pytest.fixture(scope="module")
def comfyui(device: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keeps nothing, so that every test compiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVESPEED_CACHE_DIR", "0")
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("torch")))
        yield ComfyUIHere(device=device)


@pytest.fixture(autouse=True)
def _fresh_compiler(comfyui: ComfyUIHere) -> None:
    """Each test begins with nothing compiled."""
    import torch._dynamo

    torch._dynamo.reset()
    node: Any = comfyui.node_class("EnhancedCompileModel")
    node.run.__self__.regions._regions.clear()


def draw(comfyui: ComfyUIHere, model: Any, *, steps: int = STEPS, cfg: float = 1.0, size: int = 128) -> torch.Tensor:
    return comfyui.sample(model, steps=steps, cfg=cfg, size=size, subject="apple", seed=0)


def compiles() -> int:
    """Graphs that torch has compiled so far; no part of the model may be left out of one."""
    counters = torch._dynamo.utils.counters
    assert not counters["graph_break"]
    return int(counters["stats"]["unique_graphs"])


def counts(text: str) -> tuple[str, ...]:
    """(evaluations, computed, reused), as the node says."""
    found = COUNTS.search(text)
    assert found is not None, text
    return found.groups()


def lora(model: Any, strength: float) -> Any:
    patched = model.clone()
    weights = {
        f"diffusion_model.{name}": ("diff", (torch.full_like(weight, 0.01, device="cpu"),))
        for name, weight in model.model.diffusion_model.named_parameters()
        if name.endswith("linear1.weight")
    }
    assert patched.add_patches(weights, strength)
    return patched


def test_the_model_is_on_the_device(comfyui: ComfyUIHere, device: str) -> None:
    """Else everything here would be another test of the CPU."""
    draw(comfyui, comfyui.with_compile(backend="eager"), steps=1)
    assert next(comfyui.diffusion_model().parameters()).device.type == device


@pytest.mark.parametrize("mode", ["", "max-autotune-no-cudagraphs"])
def test_inductor_computes_the_same_picture(comfyui: ComfyUIHere, mode: str) -> None:
    """One evaluation, in which no region has gone back to running as it is yet; then whole runs, in which it may."""
    plain = draw(comfyui, comfyui.model, steps=1)
    behind = comfyui.with_compile(mode=mode)
    compiled = draw(comfyui, behind, steps=1)
    assert "2 regions, 12 blocks · compiled 100 % of calls · 2 compiles (" in comfyui.texts.last_text
    dtype = comfyui.model.model.manual_cast_dtype or comfyui.model.model.get_dtype()
    assert (compiled - plain).norm() <= TOLERANCE[dtype] * plain.norm()
    before = compiles()
    again = draw(comfyui, behind)
    assert again.isfinite().all()
    assert torch.equal(draw(comfyui, behind), draw(comfyui, behind))
    assert compiles() == before


def test_it_compiles_as_often_as_on_the_cpu(comfyui: ComfyUIHere) -> None:
    """The numbers of tests/comfyui/test_compile.py."""
    behind = comfyui.with_compile(backend="eager")
    expected = [
        ("first", {}, 2),
        ("same", {}, 0),
        ("larger", {"size": 192}, 0),
        ("cfg", {"cfg": 3.0}, 2),
        ("back", {}, 0),
    ]
    for name, how, new in expected:
        plain = draw(comfyui, comfyui.model, **how)
        before = compiles()
        assert torch.equal(draw(comfyui, behind, **how), plain), name
        assert compiles() - before == new, name


def test_another_lora_compiles_nothing(comfyui: ComfyUIHere) -> None:
    without = draw(comfyui, comfyui.with_compile(backend="eager"))
    for patched in (lora(comfyui.model, 0.5), lora(comfyui.model, 2.0), comfyui.model):
        plain = draw(comfyui, patched)
        assert torch.equal(plain, without) == (patched is comfyui.model)
        before = compiles()
        assert torch.equal(draw(comfyui, comfyui.with_compile(patched, backend="eager")), plain)
        assert compiles() == before


ORDERS: dict[str, Callable[[ComfyUIHere, float, str], Any]] = {
    "compile, cache": lambda comfyui, threshold, backend: comfyui.with_cache(
        threshold, comfyui.with_compile(backend=backend)
    ),
    "cache, compile": lambda comfyui, threshold, backend: comfyui.with_compile(
        comfyui.with_cache(threshold), backend=backend
    ),
}


@pytest.mark.parametrize("threshold", [NEVER, USUAL])
@pytest.mark.parametrize("order", ORDERS)
def test_the_cache_decides_and_draws_as_without_compiling(comfyui: ComfyUIHere, order: str, threshold: float) -> None:
    steps = 12
    plain = draw(comfyui, comfyui.with_cache(threshold), steps=steps)
    expected = counts(comfyui.texts.last_text)
    assert (expected[2] != "0") == (threshold == USUAL)
    texts: list[str] = []
    with comfyui.texts.kept(texts):
        compiled = draw(comfyui, ORDERS[order](comfyui, threshold, "eager"), steps=steps)
    assert torch.equal(compiled, plain)
    assert expected in [counts(text) for text in texts if COUNTS.search(text)]
    if threshold == NEVER:
        assert torch.equal(plain, draw(comfyui, comfyui.model, steps=steps))


def test_a_speedup_is_kept_with_compiled_blocks(comfyui: ComfyUIHere) -> None:
    """Rounding may move a threshold's decision, never how many steps a speedup computes."""
    steps = 12
    draw(comfyui, comfyui.with_speedup(2.0), steps=steps)
    expected = counts(comfyui.texts.last_text)
    texts: list[str] = []
    with comfyui.texts.kept(texts):
        compiled = draw(comfyui, comfyui.with_speedup(2.0, comfyui.with_compile()), steps=steps)
    assert compiled.isfinite().all()
    assert expected in [counts(text) for text in texts if COUNTS.search(text)]
    assert any("2 regions, 12 blocks" in text for text in texts)


def test_the_second_process_compiles_nothing(device: str, tmp_path: Path) -> None:
    """Not even with torch's own folder emptied. Processes are not counted: Triton may build its launchers."""
    folders = {"WAVESPEED_CACHE_DIR": str(tmp_path / "compiled"), "XDG_CONFIG_HOME": str(tmp_path / "key")}
    cold, warm = (
        start(device, {**folders, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / name)}) for name in ("torch", "emptied")
    )
    assert (cold["traced"], cold["written"]) == (2, 2)
    assert (warm["traced"], warm["written"]) == (0, 0)
    assert warm["latent"] == cold["latent"]
    assert "compiled 100 % of calls · 0 compiles · warm start: 2 loaded in " in warm["node"]
