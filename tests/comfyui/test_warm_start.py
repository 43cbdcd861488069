"""Compile Model+ in two real processes: the second one takes the code of the first and compiles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from comfyui_tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from comfyui_tree import ComfyUITree


def start(tree: ComfyUITree, folder: Path, torch_folder: str) -> dict[str, Any]:
    environment = {
        **os.environ,
        "COMFYUI_DIR": str(tree.path),
        "WAVESPEED_CACHE_DIR": str(folder / "compiled"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / torch_folder),
    }
    script = [sys.executable, str(ROOT / "tools/compiled_start.py")]
    ran = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    measured: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def test_the_second_process_compiles_nothing(
    tree: ComfyUITree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where torch's own folder is gone: no graph is traced, no code is written, no process is started."""
    cold, warm = (start(tree, tmp_path, torch_folder) for torch_folder in ("torch", "torch, emptied"))
    with capsys.disabled():
        for name, measured in (("cold", cold), ("warm", warm)):
            print(f"\n{name}: first step {measured['first step']:.2f} s, {measured['node']}")
    assert (cold["traced"], cold["written"]) == (2, 2)
    assert cold["processes"] > 0
    assert (warm["traced"], warm["written"], warm["processes"]) == (0, 0, 0)
    assert warm["latent"] == cold["latent"]
    assert "2 compiles (" in cold["node"]
    assert "compiled 100 % of calls · 0 compiles · warm start: 2 loaded in " in warm["node"]
