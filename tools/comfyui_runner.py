"""Open whichever ComfyUI there is, so that the demo and the tests need not care which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfyui_inprocess import Executor
from comfyui_server import Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from comfyui_tree import ComfyUITree


def open_comfyui(
    tree: ComfyUITree,
    packs: Sequence[Path],
    base: Path | None = None,
    *,
    copy: bool = False,
    extra_args: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Server | Executor:
    """A server where the tree has one, else its executor in a process of its own. Both are Runners."""
    kind = Server if tree.has_server else Executor
    return kind(tree, packs, base, copy=copy, extra_args=extra_args, environment=environment)
