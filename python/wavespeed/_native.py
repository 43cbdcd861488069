"""Finds the native module that lies beside this file.

Nothing here raises: a pack that fails to import disappears from ComfyUI with all its nodes, and the user learns
nothing.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from .shared_library import missing_bytes

if TYPE_CHECKING:
    from types import ModuleType

FILE = Path(__file__).with_name("_core.abi3.so")

BUILD_HINT = (
    "Build it with the Python that runs ComfyUI: "
    "cmake -S . -B build -DPython_EXECUTABLE=<that python> && cmake --build build, in the folder of this pack."
)


def _load() -> tuple[ModuleType | None, str]:
    try:
        if lacking := missing_bytes(FILE):
            return None, f"The native module is cut off: {FILE.name} lacks its last {lacking} bytes. {BUILD_HINT}"
        return importlib.import_module("._core", __package__), ""
    except FileNotFoundError:
        return None, f"The native module has not been built. {BUILD_HINT}"
    except (ImportError, OSError) as problem:
        return None, f"The native module does not load ({problem}). {BUILD_HINT}"


core, reason = _load()
"""The extension module, or None and a sentence that says why and what to do."""
