"""The table of all configurations: what each showed, as text for the terminal and as JSON for docs/models.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from comfyui_tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "build" / "models"
"""One file per ComfyUI version; tools/models_document.py reads them."""

ABSENT, LEFT_ALONE, FAILED, VERIFIED = "absent", "left alone", "failed", "verified"


@dataclass
class Row:
    """One configuration. Everything but the first three is as far as the test came."""

    configuration: str
    family: str = ""
    model_class: str = ""
    state: str = FAILED
    remark: str = ""
    boundary: str = ""
    blocks: int = 0
    """Blocks of the tiny model."""
    blocks_on_a_hit: int = 0
    hit_difference: float | None = None
    """Of a hit on unchanged input to the computed result, relative, as norms."""
    reused_of_ten: int | None = None
    saved_share: float | None = None
    """Share of the published model's parameters that lie in the blocks a hit skips."""
    predecessor: str = ""
    """What Comfy-WaveSpeed does with the same model, where a copy of it is at hand."""


class Matrix:
    def __init__(self, version: str) -> None:
        self.version = version
        self.rows: list[Row] = []

    def row(self, configuration: str, model_class: str) -> Row:
        row = Row(configuration, model_class=model_class.rpartition(".")[2])
        self.rows.append(row)
        return row

    def write(self) -> Path:
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{self.version}.json"
        content = {"comfyui": self.version, "rows": [asdict(row) for row in self.rows]}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path

    def lines(self) -> list[str]:
        states = [row.state for row in self.rows]
        totals = ", ".join(f"{states.count(state)} {state}" for state in (VERIFIED, LEFT_ALONE, ABSENT, FAILED))
        heading = ("configuration", "family", "end of the trunk", "on a hit", "difference", "reused", "state")
        table = [heading, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in table) for column in range(len(heading))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        families = len({row.family for row in self.rows if row.state == VERIFIED})
        return [*text, f"{len(self.rows)} configurations: {totals}; {families} families verified"]


def _cells(row: Row) -> tuple[str, ...]:
    def shown(value: Any, text: str) -> str:
        return "" if value is None else text.format(value)

    return (
        row.configuration,
        row.family,
        row.boundary,
        f"{row.blocks_on_a_hit} of {row.blocks}" if row.blocks else "",
        shown(row.hit_difference, "{:.1e}"),
        shown(row.reused_of_ten, "{} of 10"),
        f"{row.state}: {row.remark}" if row.remark else row.state,
    )
