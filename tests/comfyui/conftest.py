"""One ComfyUI in this process, and one running beside it, shared by all tests of this folder.

Where no ComfyUI can be had, the whole lane ends with status 77, which ctest reports as skipped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from comfyui_runner import open_comfyui
from comfyui_tree import ROOT, ComfyUITree, NoComfyUIError, find_comfyui

# The support modules beside this file.
sys.path.insert(0, str(Path(__file__).parent))

from in_process import ComfyUI
from matrix import Matrix
from xy_demo import Demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyui_result import Runner

SKIPPED = 77
TINY_MODELS_PACK = Path(__file__).parent / "tiny_models_pack"


def pytest_sessionstart(session: pytest.Session) -> None:
    try:
        tree = find_comfyui()
    except NoComfyUIError as problem:
        pytest.exit(f"SKIPPED: {problem}", SKIPPED)
    session.config.stash[TREE] = tree


def pytest_report_header(config: pytest.Config) -> str:
    tree = config.stash.get(TREE, None)
    return str(tree) if tree is not None else ""


TREE = pytest.StashKey[ComfyUITree]()
MATRIX = pytest.StashKey[Matrix]()


@pytest.fixture(scope="session")
def tree(pytestconfig: pytest.Config) -> ComfyUITree:
    return pytestconfig.stash[TREE]


@pytest.fixture(scope="session", autouse=True)
def _folders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled code and its key stay out of the user's folders, in this process and in those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVESPEED_CACHE_DIR", str(tmp_path_factory.mktemp("cache") / "compiled"))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config, tree: ComfyUITree) -> Iterator[Matrix]:
    """The table of all model families; printed and written when the run ends."""
    table = Matrix(tree.version)
    pytestconfig.stash[MATRIX] = table
    yield table
    table.write()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash.get(MATRIX, None)
    if table is not None:
        terminalreporter.section("model families")
        for line in table.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def comfy(tree: ComfyUITree, tmp_path_factory: pytest.TempPathFactory) -> ComfyUI:
    """ComfyUI in this process, with the pack of this checkout."""
    return ComfyUI(tree, tmp_path_factory.mktemp("comfyui"))


@pytest.fixture(scope="module")
def demo(comfy: ComfyUI) -> Demo:
    """First Block Cache XY with the demo model."""
    return Demo(comfy)


@pytest.fixture(scope="session")
def runner(tree: ComfyUITree, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A ComfyUI of its own with the pack in its custom_nodes: a server, or its executor where the server is missing."""
    with open_comfyui(tree, [ROOT, TINY_MODELS_PACK], tmp_path_factory.mktemp("runner")) as running:
        yield running
