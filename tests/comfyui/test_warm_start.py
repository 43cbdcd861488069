"""Compile Model+ in two real processes: the second one takes the code of the first and compiles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from compiling import NODE, STEPS, Compiles, compiled, forget
from in_process import relative_difference
from test_compile_families import ONE_BLOCK, ONE_WIDTH, patch_attention, sample
from test_compile_objects import OBJECTS
from tiny_models import build

from compiled_start import run_script, start

if TYPE_CHECKING:
    from in_process import ComfyUI

    from comfyui_tree import ComfyUITree


@pytest.fixture
def _empty_store(comfy: ComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept yet, also when other tests have kept the code of such blocks."""
    warm_start = comfy.nodes[NODE].run.__self__.regions.warm_start
    store = type(warm_start.store)(tmp_path / "compiled", tmp_path / "code.key")
    monkeypatch.setattr(warm_start, "store", store)


OBJECT_START = str(Path(__file__).with_name("compiled_object_start.py"))


def folders(tree: ComfyUITree, tmp_path: Path, torch_folder: str) -> dict[str, str]:
    return {
        "COMFYUI_DIR": str(tree.path),
        "WAVESPEED_CACHE_DIR": str(tmp_path / "compiled"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / torch_folder),
    }


def test_the_second_process_compiles_nothing(
    tree: ComfyUITree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where torch's own folder is gone: no graph is traced, no code is written, no process is started."""
    cold, warm = (start("cpu", folders(tree, tmp_path, name)) for name in ("torch", "emptied"))
    with capsys.disabled():
        for name, measured in (("cold", cold), ("warm", warm)):
            print(f"\n{name}: first step {measured['first step']:.2f} s, {measured['node']}")
    assert (cold["traced"], cold["written"]) == (2, 2)
    assert cold["processes"] > 0
    assert (warm["traced"], warm["written"], warm["processes"]) == (0, 0, 0)
    assert warm["latent"] == cold["latent"]
    assert "2 compiles (" in cold["node"]
    assert "compiled 100 % of calls · 0 compiles · warm start: 2 loaded in " in warm["node"]


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_starts_warm(
    tree: ComfyUITree, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    script = (OBJECT_START, kind, str(tmp_path / "comfyui"))
    cold, warm = (run_script(folders(tree, tmp_path, name), *script) for name in ("torch", "emptied"))
    with capsys.disabled():
        print(f"\n{kind}: cold: {cold['node']}; warm: {warm['node']}")
    assert (cold["traced"], cold["written"]) == (1, 1)
    assert cold["processes"] > 0
    assert (warm["traced"], warm["written"], warm["processes"]) == (0, 0, 0)
    assert warm["result"] == cold["result"]
    assert cold["difference"] < 1e-5
    assert " · 1 compile (" in cold["node"]
    assert " · 0 compiles · warm start: 1 loaded in " in warm["node"]


def test_a_compiler_that_is_killed_stops_nothing(tree: ComfyUITree, tmp_path: Path) -> None:
    compiler = tmp_path / "killed"
    compiler.write_text("#!/bin/sh\nkill -9 $$\n")
    compiler.chmod(0o700)
    measured = start("cpu", {**folders(tree, tmp_path, "torch"), "CXX": str(compiler)})
    assert measured["latent"] == measured["eager latent"]
    assert "compiled 0 % of calls" in measured["node"]
    for block in ("DoubleStreamBlock", "SingleStreamBlock"):
        assert measured["node"].count(f"{block} cannot be compiled and runs as it is: ") == 1


@pytest.mark.usefixtures("_empty_store")
@pytest.mark.parametrize(("family", "sizes", "variants"), [("wan", {}, 2), ("z_image", {}, 3), ("sd1", ONE_WIDTH, 3)])
def test_other_families_start_warm(comfy: ComfyUI, family: str, sizes: dict[str, Any], variants: int) -> None:
    """The second start is a node that has forgotten everything but its folder."""
    model = build(family, sizes=sizes)
    texts, graphs, latents = [], [], []
    for _ in range(2):
        forget(comfy)
        with Compiles() as compiles:
            run = comfy.sample(compiled(comfy, model, backend="inductor"), family, steps=STEPS)
        texts.append(run.text)
        graphs.append(compiles.graphs)
        latents.append(run.latent)
    assert graphs == [variants, 0]
    assert f"{variants} compiles (" in texts[0]
    assert f"0 compiles · warm start: {variants} loaded in " in texts[1]
    assert relative_difference(*latents) < 1e-4  # one of them may have gone back to running as it is


@pytest.mark.usefixtures("_empty_store")
def test_kept_code_is_not_taken_where_another_node_asks_for_the_place(
    comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place of a UNet's block is out of the options while its code is made, kept and checked."""
    plain = build("sd1", sizes=ONE_BLOCK)
    patched = plain.clone()
    patch_attention(patched, monkeypatch)
    texts = []
    for model in (plain, patched, plain):
        forget(comfy)
        latent = sample(comfy, compiled(comfy, model, backend="inductor"), "sd1")
        texts.append(comfy.texts.last())
        assert relative_difference(latent, sample(comfy, model, "sd1")) < 1e-5
    assert "3 compiles (" in texts[0]
    assert "1 compile (" in texts[1]
    assert "warm start: 2 loaded in " in texts[1]
    assert "0 compiles · warm start: 3 loaded in " in texts[2]
