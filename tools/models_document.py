"""Writes docs/models.md, and the field "verified" of the descriptors, from what the test of all families has shown.

python tools/run_lane.py comfyui           on each ComfyUI (COMFYUI_DIR names it): writes build/models/<version>.json
python tools/models_document.py            makes the document of all of them, and marks the descriptors
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "models"
DESCRIPTORS = ROOT / "python" / "wavespeed" / "architectures.json"
DOCUMENT = ROOT / "docs" / "models.md"

HEAD = """# Model families

Every family that ComfyUI samples, tested with tiny models of random weights in the real ComfyUI by
`tests/comfyui/test_models.py`. For each configuration the test demands: a run without hits equals the run without the
node bit for bit; a hit on unchanged input gives the computed output within 1e-6; on a hit exactly one block runs (of
UNets: the kept layers); ten steps with threshold 0.12 reuse some, end finite and repeat bit for bit; nothing is left in
the model. Random weights say nothing about how far a threshold may go on real ones.

`tools/models_document.py` writes this document from the results of those runs.

* **ends at**: what takes the cached state on a hit: the head that is named, the result of the last block, or the tail
  of a model that is left early ([how](architectures.md)).
* **a hit saves**: the share of the published models' parameters in skipped blocks and side modules, where their sizes
  are known. The test's files name the source of each.
* **verified with**: the ComfyUI versions on which all configurations that exist there passed.
* **Comfy-WaveSpeed**: what the predecessor does with the same tiny models on the newest of these versions.
"""

PERCENTAGE = re.compile(r"(\d+\.\d)%")
UNKNOWN = """A model of any other class is watched during its first two calls, and cached only if a reused call
reproduces the computed one."""


def versions_of(entry: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """The ComfyUI versions on which all configurations of a family that exist there did what they should."""
    versions = []
    for run in runs:
        states = {row["state"] for row in run["rows"] if row["family"] == entry["family"]}
        if states and states <= {"verified", "left alone"}:
            versions.append(run["comfyui"])
    return ", ".join(versions)


def mark(text: str, descriptors: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """The text of the descriptors with the versions in it; everything else stays as it was typed."""
    for entry in descriptors:
        field = re.compile(f'("family": {re.escape(json.dumps(entry["family"]))},.*?"verified": ")[^"]*', re.DOTALL)
        text = field.sub(rf"\g<1>{versions_of(entry, runs)}", text, count=1)
    return text


def family_lines(entry: dict[str, Any], runs: list[dict[str, Any]]) -> list[str]:
    """One line of the table, or none for a family that no run has seen."""
    by_version = {run["comfyui"]: [row for row in run["rows"] if row["family"] == entry["family"]] for run in runs}
    newest = next((rows for rows in reversed(by_version.values()) if rows), [])
    if not newest:
        return []
    names = sorted({row["configuration"] for rows in by_version.values() for row in rows})
    shares = [row["saved_share"] for row in newest if row["saved_share"] is not None]
    cells = (
        f"**{entry['family']}**",
        ", ".join(f"`{name}`" for name in entry["classes"]),
        newest[0]["boundary"],
        share_text(shares),
        versions_of(entry, runs),
        ", ".join(names),
        entry.get("remarks", ""),
        predecessor_text([row["predecessor"] for row in newest if row["predecessor"]]),
    )
    return ["| " + " | ".join(cells) + " |"]


def predecessor_text(verdicts: list[str]) -> str:
    """Each once; verdicts that differ in a percentage only are told with its range."""
    percentages: dict[str, list[str]] = {}
    for verdict in verdicts:
        found = PERCENTAGE.search(verdict)
        percentages.setdefault(PERCENTAGE.sub("%", verdict), []).append(found[1] if found else "")
    told = []
    for verdict, found in percentages.items():
        least, most = (bound(found, key=float) if all(found) else "" for bound in (min, max))
        range_ = least if least == most else f"{least} to {most}"
        told.append(verdict.replace("%", f"{range_}%"))
    return "; ".join(told)


def share_text(shares: list[float]) -> str:
    """Of one family's configurations; 100% only where nothing is kept."""
    least, most = (f"{math.floor(100 * bound(shares))}%" if shares else "" for bound in (min, max))
    return least if least == most else f"{least.rstrip('%')}-{most}"


def version_key(run: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) for part in run["comfyui"].split("."))


def document(descriptors: list[dict[str, Any]], runs: list[dict[str, Any]]) -> str:
    """runs: the contents of the result files, oldest ComfyUI first."""
    lines = [HEAD]
    for run in runs:
        states = [row["state"] for row in run["rows"]]
        families = len({row["family"] for row in run["rows"] if row["state"] == "verified"})
        lines.append(
            f"* ComfyUI {run['comfyui']}: {states.count('verified')} configurations in {families} families verified, "
            f"{states.count('left alone')} left alone, {states.count('absent')} absent, "
            f"{states.count('failed')} failed."
        )
    lines += [
        "",
        "| family | classes | ends at | a hit saves | verified with | configurations | remarks | Comfy-WaveSpeed |",
    ]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for entry in descriptors:
        if "excluded" not in entry:
            lines += family_lines(entry, runs)
    lines += ["", "## Left alone", "", "| family | classes | verified with | because |", "| --- | --- | --- | --- |"]
    lines += [
        f"| **{entry['family']}** | {', '.join(f'`{name}`' for name in entry['classes'])} "
        f"| {versions_of(entry, runs)} | {entry['excluded']} |"
        for entry in descriptors
        if "excluded" in entry
    ]
    lines += ["", UNKNOWN]
    return "\n".join(lines) + "\n"


def main() -> None:
    runs = sorted((json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")), key=version_key)
    text = DESCRIPTORS.read_text(encoding="utf-8")
    descriptors = json.loads(text)["architectures"]
    DESCRIPTORS.write_text(mark(text, descriptors, runs), encoding="utf-8")
    DOCUMENT.write_text(document(descriptors, runs), encoding="utf-8")
    print(f"{DOCUMENT.relative_to(ROOT)} from {', '.join(run['comfyui'] for run in runs) or 'no runs'}")


if __name__ == "__main__":
    main()
