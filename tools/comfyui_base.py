"""What a server and an executor have in common: a scratch base directory, an environment, a beginning and an end."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from comfyui_result import RejectedPromptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from comfyui_result import Prompt, Result
    from comfyui_tree import ComfyUITree

START_SECONDS = 300
# Core's choice on a CPU is the sub-quadratic attention, which no GPU user has and which breaks compiled graphs.
ON_ANY_DEVICE = ("--disable-api-nodes", "--database-url", "sqlite:///:memory:", "--use-pytorch-cross-attention")
ARGUMENTS = ("--cpu", *ON_ANY_DEVICE)
# Nothing asks a model hub for files, and Python's prints arrive in the log when they happen. One thread: the models of
# the demo and the tests are so small that a second one makes them slower, and on a busy machine it waits in a loop.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}

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


class RunningComfyUI(ABC):
    """A ComfyUI with chosen packs in a scratch base directory (a temporary one when base is None).

    Used in a with statement. What its methods promise stands in comfyui_result.Runner.
    """

    log_name: str

    def __init__(
        self,
        tree: ComfyUITree,
        packs: Sequence[Path] = (),
        base: Path | None = None,
        *,
        copy: bool = False,
        extra_args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """copy: packs are copied into custom_nodes instead of linked. extra_args: of ComfyUI's main.py."""
        self._tree = tree
        self._packs = packs
        self._copy = copy
        self._extra_args = extra_args
        self._environment = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self._directory = BaseDirectory(base)
        self._started: dict[str, float] = {}
        self.base = self._directory.path
        self.log_file = self.base / self.log_name

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def queue(self, prompt: Prompt, *, timeout: float = 600) -> Result:
        try:
            prompt_id = self.submit(prompt)
        except RejectedPromptError as rejection:
            return rejection.result
        return self.wait(prompt_id, timeout=timeout)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def images(self, result: Result) -> list[Path]:
        return self._directory.images(result)

    @abstractmethod
    def submit(self, prompt: Prompt) -> str: ...

    @abstractmethod
    def wait(self, prompt_id: str, *, timeout: float = 600) -> Result: ...

    @abstractmethod
    def stop(self) -> None: ...

    @abstractmethod
    def _start(self) -> None: ...
