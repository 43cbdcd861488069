"""The embedded demo model: offers its files to ComfyUI's loaders and brings the node that says what it draws."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parents[2] / "demo_model"
CONTEXT_SHAPE = (1, 2, 1024)
"""(batch, tokens, width) the model was trained with; its weights ignore the content."""
POOLED_WIDTH = 768
NOTHING = "nothing in particular"


def is_offered() -> bool:
    """WAVESPEED_DEMO=0 keeps the demo out of the loaders' lists."""
    return os.environ.get("WAVESPEED_DEMO", "1") != "0" and (FOLDER / "classes.json").is_file()


def offer_files() -> None:
    """Adds the folders of the two files to ComfyUI's search paths, behind the user's own."""
    import folder_paths

    for kind in ("diffusion_models", "vae"):
        folder_paths.add_model_folder_path(kind, str(FOLDER / kind))


class DemoPrompt:
    """Implementation of the node WaveSpeedDemoPrompt: a class name becomes Flux's guidance value."""

    def __init__(self) -> None:
        classes = json.loads((FOLDER / "classes.json").read_text(encoding="utf-8"))
        self.guidance: dict[str, float] = {name: float(number) for number, name in enumerate(classes["classes"])}
        self.guidance[NOTHING] = float(classes["null_class"])
        self.choices = {"subject": list(self.guidance)}

    def run(self, subject: str, unique_id: str | None = None) -> tuple[Any]:
        """A CONDITIONING for the demo model.

        pooled_output is zero and unused by the model; ComfyUI 0.9 and older demand one of every Flux.
        """
        extra = {"guidance": self.guidance[subject], "pooled_output": torch.zeros(1, POOLED_WIDTH)}
        return ([[torch.zeros(CONTEXT_SHAPE), extra]],)
