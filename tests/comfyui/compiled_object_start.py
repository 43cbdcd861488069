"""One start of ComfyUI with a compiled VAE, CLIP or ControlNet: what its first use costs, as one JSON line.

    python compiled_object_start.py "VAE decoder" FOLDER

FOLDER is ComfyUI's base directory. Not a test: tests/comfyui/test_warm_start_objects.py starts it twice.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests/comfyui")]

from compiled_start import Counts
from in_process import ComfyUI

from comfyui_tree import find_comfyui


def main(kind: str, base: str) -> None:
    comfy = ComfyUI(find_comfyui(), Path(base))
    import torch
    from test_compile import compiled
    from test_compile_families import OBJECTS

    make, part, use, _ = OBJECTS[kind]
    plain = make()
    with torch.inference_mode():
        reference = use(comfy, plain)
        behind = compiled(comfy, plain, is_patcher=False, object_to_patch=part, backend="inductor")
        counts = Counts()
        result = use(comfy, behind)
    measured: dict[str, Any] = {
        "traced": counts.traced,
        "written": counts.written,
        "processes": counts.processes,
        "result": hashlib.sha256(result.numpy().tobytes()).hexdigest(),
        "difference": float((result - reference).abs().max() / reference.abs().max()),
        "texts": [text for node, text in comfy.texts.sent if node == "compile"],
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
