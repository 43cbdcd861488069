"""The pack as it may lie on somebody's disk: odd paths, copies, no or a broken native module, nothing writable."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import CACHE_NODE_ID, NODE
from prompts import CACHE, OLD_WIDGETS, picture

from comfyui_base import NOT_COPIED
from comfyui_runner import open_comfyui
from comfyui_tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from in_process import ComfyUI, LoadedPack

    from comfyui_tree import ComfyUITree

CORE, SHIM = "python/wavespeed/_core.abi3.so", "python/wavespeed/_torch_shim.so"
WAVESPEED_INIT = "NODE_CLASS_MAPPINGS = {}\n# the original: ApplyFBCacheOnModel\n"
DEMO_NODE = "WaveSpeedDemoPrompt"


@pytest.fixture
def pack_copy(tmp_path: Path) -> Path:
    """A copy of the pack under a name of its own."""
    return copy_pack(tmp_path / "wavespeed")


def copy_pack(target: Path) -> Path:
    shutil.copytree(ROOT, target, ignore=NOT_COPIED)
    return target


def truncate(library: Path, share: float) -> None:
    content = library.read_bytes()
    library.write_bytes(content[: int(len(content) * share)])


def files(folder: Path) -> set[str]:
    """Without __pycache__: those are Python's own, and it leaves them out where it may not write."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


def apply(comfy: ComfyUI, pack: LoadedPack, model: Any) -> Any:
    inputs = {"object_to_patch": "diffusion_model", "residual_diff_threshold": 0.12, "unique_id": CACHE_NODE_ID}
    return comfy.call(pack.nodes[NODE], model=model, **inputs)


def assert_passes_through(comfy: ComfyUI, pack: LoadedPack, sentence: str) -> None:
    model = comfy.model("flux_dev")
    assert apply(comfy, pack, model) is model
    assert sentence in comfy.texts.last()
    assert "cmake --build" in comfy.texts.last()
    assert "pass models through unchanged" in pack.log


def test_without_the_native_module_models_pass_through_and_the_node_says_how_to_build_it(
    comfy: ComfyUI, pack_copy: Path
) -> None:
    (pack_copy / CORE).unlink()
    (pack_copy / SHIM).unlink()
    pack = comfy.load_pack(pack_copy)
    assert set(pack.nodes) == set(comfy.pack.nodes)
    assert pack.nodes[NODE].INPUT_TYPES() == comfy.pack.nodes[NODE].INPUT_TYPES()
    assert_passes_through(comfy, pack, "The native module has not been built.")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9, 0.999])
def test_a_truncated_native_module_is_a_sentence_and_models_pass_through(
    comfy: ComfyUI, pack_copy: Path, share: float
) -> None:
    truncate(pack_copy / CORE, share)
    assert_passes_through(comfy, comfy.load_pack(pack_copy), "The native module")


def test_a_native_module_of_another_kind_is_a_sentence_and_models_pass_through(comfy: ComfyUI, pack_copy: Path) -> None:
    (pack_copy / CORE).write_bytes(b"not a library at all, but long enough to be looked at " * 100)
    assert_passes_through(comfy, comfy.load_pack(pack_copy), "The native module does not load")


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.99])
def test_without_the_torch_shim_the_same_arithmetic_runs_as_torch_expressions(
    comfy: ComfyUI, pack_copy: Path, share: float | None
) -> None:
    """The operators belong to the process, so here the copy finds those of the pack that was loaded first."""
    if share is None:
        (pack_copy / SHIM).unlink()
    else:
        truncate(pack_copy / SHIM, share)
    pack = comfy.load_pack(pack_copy)
    model = comfy.model("flux_dev")
    run = comfy.sample(apply(comfy, pack, model))
    assert run.reused > 0
    assert torch.equal(run.latent, comfy.sample(comfy.cached(model)).latent)


@pytest.mark.parametrize("name", ["wave speed", "Größe-日本語", "a.b.c", "comfy_wavespeed-main (1)"])
def test_a_path_with_spaces_and_letters_of_other_alphabets_works(comfy: ComfyUI, tmp_path: Path, name: str) -> None:
    pack = comfy.load_pack(copy_pack(tmp_path / name))
    run = comfy.sample(apply(comfy, pack, comfy.model("flux_dev")))
    assert run.reused > 0


def test_two_copies_in_one_process_work_side_by_side_and_chained(comfy: ComfyUI, pack_copy: Path) -> None:
    pack = comfy.load_pack(pack_copy)
    model = comfy.model("flux_dev")
    ours = comfy.sample(comfy.cached(model))
    theirs = comfy.sample(apply(comfy, pack, model))
    both = comfy.sample(apply(comfy, pack, comfy.cached(model)))
    assert torch.equal(ours.latent, theirs.latent)
    assert torch.equal(ours.latent, both.latent)
    assert ours.counts == theirs.counts == both.counts


def test_the_original_beside_the_pack_gives_one_log_line_that_names_its_folder(
    comfy: ComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    original = tmp_path / "custom_nodes" / "Comfy-WaveSpeed"
    original.mkdir(parents=True)
    (original / "__init__.py").write_text(WAVESPEED_INIT)
    (tmp_path / "custom_nodes" / "another pack").mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "custom_nodes", ([str(original.parent)], set()))
    pack = comfy.load_pack(copy_pack(original.with_name("wavespeed")))
    warnings = [line for line in pack.log.splitlines() if line.startswith("WARNING") and "WaveSpeed" in line]
    assert len(warnings) == 1
    assert f"the folder {original} brings the node {NODE} as well" in warnings[0]


def test_wavespeed_demo_0_hides_the_demo_and_nothing_else(
    comfy: ComfyUI, pack_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import folder_paths

    monkeypatch.setenv("WAVESPEED_DEMO", "0")
    pack = comfy.load_pack(pack_copy)
    assert set(pack.nodes) == set(comfy.pack.nodes) - {DEMO_NODE}
    assert not any(str(pack_copy) in folder for folder in folder_paths.get_folder_paths("diffusion_models"))
    monkeypatch.setenv("WAVESPEED_DEMO", "1")
    shutil.copytree(pack_copy, again := pack_copy.with_name("again"))
    assert DEMO_NODE in comfy.load_pack(again).nodes
    assert str(again / "demo_model" / "diffusion_models") in folder_paths.get_folder_paths("diffusion_models")


def test_a_read_only_folder_is_enough_and_nothing_is_ever_written_into_it(comfy: ComfyUI, pack_copy: Path) -> None:
    """Root may write anywhere, so the listing is compared as well."""
    folders = [pack_copy, *(path for path in pack_copy.rglob("*") if path.is_dir())]
    before = files(pack_copy)
    for path in [*folders, *(path for path in pack_copy.rglob("*") if path.is_file())]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        run = comfy.sample(apply(comfy, comfy.load_pack(pack_copy), comfy.model("flux_dev")))
    finally:
        for path in folders:
            path.chmod(0o755)
    assert run.reused > 0
    assert files(pack_copy) == before


def test_a_running_comfyui_with_a_broken_copy_and_the_original_still_draws(tree: ComfyUITree, tmp_path: Path) -> None:
    """Everything at once, in a base folder with a space and an umlaut. Which copy's node wins is left to chance."""
    good, broken = copy_pack(tmp_path / "packs" / "wave speed ü"), copy_pack(tmp_path / "packs" / "broken")
    truncate(broken / CORE, 0.5)
    original = tmp_path / "packs" / "Comfy-WaveSpeed"
    original.mkdir()
    (original / "__init__.py").write_text(WAVESPEED_INIT)
    before = files(good)
    base = tmp_path / "base folder ä"
    base.mkdir()
    with open_comfyui(tree, [good, broken, original], base) as running:
        result = running.queue(picture(cache=OLD_WIDGETS, steps=8))
        assert result.status == "success", result.error
        assert len(running.images(result)) == 1
        assert result.texts_of(CACHE)
        log = running.log()
    assert "pass models through unchanged. The native module" in log
    assert "Comfy-WaveSpeed brings the node" in log
    assert "IMPORT FAILED" not in log
    assert files(good) == before


def test_a_running_comfyui_without_the_native_module_and_without_the_demo(tree: ComfyUITree, tmp_path: Path) -> None:
    pack = copy_pack(tmp_path / "wavespeed")
    (pack / CORE).unlink()
    prompt = picture(cache=OLD_WIDGETS, steps=4)
    with open_comfyui(tree, [pack], tmp_path / "base", environment={"WAVESPEED_DEMO": "0"}) as running:
        info = running.object_info()
        refused = running.queue(prompt)
    assert NODE in info
    assert DEMO_NODE not in info
    assert "wavespeed_demo" not in str(info["UNETLoader"]["input"])
    assert refused.status == "rejected"
