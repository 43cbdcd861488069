"""A scratch base directory for ComfyUI: where it looks for packs and models and puts what it makes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from comfyui_result import Result

# What a copied pack does not need: build trees are gigabytes, and a .git would make it a repository.
NOT_COPIED = shutil.ignore_patterns("build", ".git", "__pycache__", ".*_cache", ".hypothesis")


class BaseDirectory:
    """path is the given folder, or a temporary one that remove() deletes again."""

    def __init__(self, path: Path | None) -> None:
        self._temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="wavespeed-comfyui-")) if path is None else path.absolute()

    def prepare(self, packs: Iterable[Path], *, copy: bool) -> None:
        """Make the folders, and put exactly these packs into custom_nodes."""
        shutil.rmtree(self.path / "custom_nodes", ignore_errors=True)
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        for pack in packs:
            target = self.path / "custom_nodes" / pack.absolute().name
            if copy:
                shutil.copytree(pack, target, ignore=NOT_COPIED)
            else:
                target.symlink_to(pack.absolute(), target_is_directory=True)

    def images(self, result: Result) -> list[Path]:
        return [
            self.path / image["type"] / image["subfolder"] / image["filename"]
            for output in result.outputs.values()
            for image in output.get("images", ())
        ]

    def remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)
