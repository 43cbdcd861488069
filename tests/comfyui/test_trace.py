"""Recording in the real ComfyUI: a full run, a file in the output folder, and a replay of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from in_process import CACHE_NODE_ID

if TYPE_CHECKING:
    from pathlib import Path

    from in_process import ComfyUI

STEPS = 12


@pytest.fixture
def folder(comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setenv("WAVESPEED_TRACE", "1")
    return tmp_path / "wavespeed_traces"


def cached(comfy: ComfyUI, family: str) -> Any:
    return comfy.call("WaveSpeedFirstBlockCache", model=comfy.model(family), speedup=2.0, unique_id=CACHE_NODE_ID)


@pytest.mark.parametrize(
    ("family", "file"), [("flux_dev", "Flux_00001.wstrace"), ("sdxl", "Stable_Diffusion_00001.wstrace")]
)
@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_a_run_is_recorded_as_it_is_without_a_cache(
    comfy: ComfyUI, folder: Path, family: str, file: str, sampler: str
) -> None:
    plain = comfy.sample(comfy.model(family), family, steps=STEPS, cfg=3.0, sampler=sampler)
    run = comfy.sample(cached(comfy, family), family, steps=STEPS, cfg=3.0, sampler=sampler)
    assert torch.equal(run.latent, plain.latent)
    evaluations = STEPS if sampler == "euler" else 2 * STEPS - 1
    assert run.counts == (evaluations, evaluations, 0)
    assert f"Recorded in wavespeed_traces/{file}" in run.text
    trace = (folder / file).read_bytes()
    found = comfy.engine().core.replay_trace(trace, "forecast", speedup=2.0)
    assert sum(computed for _, computed, _, _ in found) == round(evaluations / 2)
    assert all(actual > 0 for _, computed, _, actual in found if not computed)


def test_a_second_run_gets_a_file_of_its_own(comfy: ComfyUI, folder: Path) -> None:
    for _ in range(2):
        comfy.sample(cached(comfy, "flux_dev"), steps=4)
    assert [path.name for path in sorted(folder.iterdir())] == ["Flux_00001.wstrace", "Flux_00002.wstrace"]


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(comfy: ComfyUI, folder: Path) -> None:
    folder.write_text("a file in the place of the folder")
    run = comfy.sample(cached(comfy, "flux_dev"), steps=4)
    assert torch.isfinite(run.latent).all()
    assert "The trace could not be written:" in run.text
