"""Puts the pack together and says in one line what came of it. The folder's __init__.py hands this to ComfyUI."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from . import __version__, _native, architecture, conflicts, demo_model, fallback_nodes, operations
from .compile_model import CompileModel
from .first_block_cache import CHOICES, CHOICES_WITH_SPEEDUP, ApplyFirstBlockCache, FirstBlockCache
from .run import Engine
from .xy_node import FirstBlockCacheXY

log = logging.getLogger("wavespeed")

SCHEMA_FILE = Path(__file__).with_name("nodes.json")


def _engine() -> Engine | None:
    if _native.core is None:
        return None
    return Engine(_native.core, operations.load(_native.core), architecture.load(_native.core))


def status() -> dict[str, Any]:
    """What is loaded and why not, for bug reports."""
    if ENGINE is None:
        return {"version": __version__, "native": None, "reason": _native.reason}
    return {
        "version": __version__,
        "native": ENGINE.core.__file__,
        "executor": ENGINE.operations.executor,
        "families": sorted({entry.family for entry in ENGINE.architectures.values() if not entry.excluded}),
        **ENGINE.core.status(),
    }


def _implementations() -> dict[str, Any]:
    found: dict[str, Any]
    if ENGINE is not None:
        found = {
            "ApplyFBCacheOnModel": ApplyFirstBlockCache(ENGINE),
            "WaveSpeedFirstBlockCache": FirstBlockCache(ENGINE),
            "WaveSpeedFirstBlockCacheXY": FirstBlockCacheXY(ENGINE),
            "EnhancedCompileModel": CompileModel(ENGINE),
        }
    else:
        found = {
            "ApplyFBCacheOnModel": fallback_nodes.PassThrough(_native.reason, CHOICES),
            "WaveSpeedFirstBlockCache": fallback_nodes.PassThrough(_native.reason, CHOICES_WITH_SPEEDUP),
            "WaveSpeedFirstBlockCacheXY": fallback_nodes.Unavailable(_native.reason),
            "EnhancedCompileModel": fallback_nodes.PassThrough(_native.reason, {}),
        }
    if demo_model.is_offered():
        demo_model.offer_files()
        found["WaveSpeedDemoPrompt"] = demo_model.DemoPrompt()
    return found


def _warn_of_conflicts() -> None:
    import folder_paths

    for folder in conflicts.conflicting_packs(folder_paths.get_folder_paths("custom_nodes")):
        log.warning(
            "WaveSpeed: the folder %s brings the node ApplyFBCacheOnModel as well, and which of the two ComfyUI uses "
            "is left to chance. Remove one of them.",
            folder,
        )


ENGINE = _engine()
_build = ENGINE.core.node_classes if ENGINE is not None else fallback_nodes.node_classes
NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = _build(SCHEMA_FILE.read_text(encoding="utf-8"), _implementations())
_warn_of_conflicts()
if ENGINE is not None:
    log.info("WaveSpeed %s: First Block Cache with %s.", __version__, ENGINE.operations.executor)
else:
    log.warning("WaveSpeed %s: the nodes pass models through unchanged. %s", __version__, _native.reason)
