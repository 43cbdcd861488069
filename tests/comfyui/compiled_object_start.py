"""One start of ComfyUI with a compiled VAE, CLIP or ControlNet, as one JSON line: what its first use costs.

    PYTHONPATH=tools python tests/comfyui/compiled_object_start.py "VAE decoder" FOLDER

FOLDER is ComfyUI's base directory. test_warm_start.py starts it twice.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from pathlib import Path

import torch
from compiling import compiled
from in_process import ComfyUI
from test_compile_families import ONE_BLOCK
from test_compile_objects import OBJECTS

from comfyui_tree import find_comfyui
from compiled_start import Counts


def main(kind: str, base: str) -> None:
    comfy = ComfyUI(find_comfyui(), Path(base))
    make, part, use, _ = OBJECTS[kind]
    if kind == "ControlNet":  # its code takes inductor minutes at its usual size
        make, use = partial(make, ONE_BLOCK), partial(use, sizes=ONE_BLOCK)
    plain = make()
    with torch.inference_mode():
        reference = use(comfy, plain)
        behind = compiled(comfy, plain, is_patcher=False, object_to_patch=part, backend="inductor")
        counts = Counts()
        result = use(comfy, behind)
    measured = {
        "traced": counts.traced,
        "written": counts.written,
        "processes": counts.processes,
        "result": hashlib.sha256(result.numpy().tobytes()).hexdigest(),
        "difference": float((result - reference).abs().max() / reference.abs().max()),
        "node": comfy.texts.last(),
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
