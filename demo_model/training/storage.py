"""Files that are either the old one or the complete new one, never a half-written one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save


def save_safetensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors of any shape and dtype."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))
    partial.replace(path)


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write everything that a training run needs to go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Read a checkpoint and make sure that it belongs to a run with the same settings."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    different = sorted(name for name, value in settings.items() if state["settings"].get(name) != value)
    if different:
        raise SystemExit(
            f"{path} was made with another value of: {', '.join(different)}. Use --init to start a new run."
        )
    return state
