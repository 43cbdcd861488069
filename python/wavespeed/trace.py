"""Traces: a run that computes everything and records what a policy would have seen (docs/policies.md, "Traces")."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .report import bytes_text

if TYPE_CHECKING:
    from .run import Settings

FOLDER = "wavespeed_traces"
ENDING = ".wstrace"


def is_wanted() -> bool:
    """WAVESPEED_TRACE=1 records every run with a cache node."""
    return os.environ.get("WAVESPEED_TRACE", "0") not in ("", "0")


def full_run(settings: Settings) -> Settings:
    """A trace is of a run in which nothing is left out, and which keeps as long a history as a forecast needs."""
    return dataclasses.replace(settings, strategy="forecast", speedup=1.0)


def _new_file(folder: Path, family: str, trace: bytes) -> Path:
    """No file that is there is written over."""
    name = "".join(letter if letter.isalnum() else "_" for letter in family)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = folder / f"{name}_{number:05}{ENDING}"
        try:
            with path.open("xb") as file:
                file.write(trace)
            return path
        except FileExistsError:
            number += 1


def write(family: str, trace: bytes) -> str:
    """Into ComfyUI's output folder. Returns what became of it, as a sentence for the node."""
    import folder_paths

    folder = Path(folder_paths.get_output_directory()) / FOLDER
    try:
        path = _new_file(folder, family, trace)
    except OSError as problem:
        return f"The trace could not be written: {str(problem).rstrip('.')}."
    return f"Recorded in {FOLDER}/{path.name} ({bytes_text(len(trace))})."
