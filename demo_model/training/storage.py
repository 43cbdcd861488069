"""Files that are either the old one or the complete new one, never a half-written one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save


def save_safetensors(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors of any shape and dtype."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata))
    partial.replace(path)


class Stateful(Protocol):
    """A model or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


def save_checkpoint(
    path: Path, settings: dict[str, Any], step: int, mean_loss: float, generator: torch.Generator, **parts: Stateful
) -> None:
    """Write everything that a training run needs to go on."""
    state = {
        "settings": settings,
        "step": step,
        "mean_loss": mean_loss,
        "generator": generator.get_state(),
        **{name: part.state_dict() for name, part in parts.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(
    path: Path, settings: dict[str, Any], generator: torch.Generator, **parts: Stateful
) -> tuple[int, float]:
    """Put a run back to where its checkpoint was written. Returns its step and its mean loss.

    SystemExit when the checkpoint belongs to a run with other settings.
    """
    state: dict[str, Any] = torch.load(path, weights_only=True)
    different = sorted(name for name, value in settings.items() if state["settings"].get(name) != value)
    if different:
        raise SystemExit(
            f"{path} was made with another value of: {', '.join(different)}. Use --init to start a new run."
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    generator.set_state(state["generator"])
    return state["step"], state["mean_loss"]
