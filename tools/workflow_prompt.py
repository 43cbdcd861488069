"""From an editor's workflow to the prompt that the editor would send, with the node descriptions of a running ComfyUI.

    python tools/workflow_prompt.py workflow.json object_info.json > prompt.json

A workflow holds widget values by position. What a position means is known only to the node, so the converter asks
/object_info, as the editor does; for the same reason no converted prompt is stored in this repository.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from comfyui_result import Prompt

Info = dict[str, dict[str, Any]]
"""Node type -> its description, as /object_info gives it."""

ONLY_IN_THE_EDITOR = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEEDS = {"seed", "noise_seed"}
CONTROL, UPLOAD = " control", " upload"
"""Endings of the widgets that the editor adds: what happens to a seed after a run, and a button. Never sent."""
DYNAMIC_CHOICE = "COMFY_DYNAMICCOMBO_V3"
"""A choice that brings widgets of its own: format mp4 -> format.codec."""


def inputs_of(info: Info, kind: str) -> dict[str, Any]:
    return {**info[kind]["input"].get("required", {}), **info[kind]["input"].get("optional", {})}


def options_of(declared: Any) -> dict[str, Any]:
    return declared[1] if len(declared) > 1 else {}


def widget_type(declared: Any) -> str:
    """Empty for an input that only takes links."""
    if isinstance(declared[0], list):
        return "COMBO"
    kind = options_of(declared).get("widgetType", declared[0])
    return kind if kind in WIDGET_TYPES or kind == DYNAMIC_CHOICE else ""


def choices_of(declared: Any) -> list[Any]:
    if isinstance(declared[0], list):
        return declared[0]
    options = options_of(declared).get("options", [])
    return [option["key"] for option in options] if declared[0] == DYNAMIC_CHOICE else options


def default_of(declared: Any) -> Any:
    kind, options = widget_type(declared), options_of(declared)
    if "default" in options:
        return options["default"]
    if kind in ("COMBO", DYNAMIC_CHOICE):
        return next(iter(choices_of(declared)), "")
    return {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}[kind]


def widgets(declared_inputs: dict[str, Any], values: list[Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, description or None, value) in the order in which values are saved. Takes from values what it uses.

    Where values end early, as in the workflow of an older version of the node, the rest has its defaults.
    """
    for name, declared in declared_inputs.items():
        kind, options = widget_type(declared), options_of(declared)
        if not kind:
            continue
        value = values.pop(0) if values else default_of(declared)
        yield prefix + name, declared, value
        if kind == "INT" and options.get("control_after_generate", name in SEEDS):
            yield prefix + name + CONTROL, None, values.pop(0) if values else "fixed"
        if options.get("image_upload"):
            yield prefix + name + UPLOAD, None, values.pop(0) if values else "image"
        if kind == DYNAMIC_CHOICE:
            chosen = next((option for option in options["options"] if option["key"] == value), {"inputs": {}})
            inner = {**chosen["inputs"].get("required", {}), **chosen["inputs"].get("optional", {})}
            yield from widgets(inner, values, f"{prefix}{name}.")


def as_prompt(info: Info, workflow: dict[str, Any]) -> Prompt:
    sources = {entry[0]: [str(entry[1]), entry[2]] for entry in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ONLY_IN_THE_EDITOR:
            continue
        found = widgets(inputs_of(info, node["type"]), list(node.get("widgets_values") or []))
        inputs = {name: value for name, declared, value in found if declared is not None}
        inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot.get("link") is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    workflow, info = (json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:])
    json.dump(as_prompt(info, workflow), sys.stdout, indent=1, ensure_ascii=False)


if __name__ == "__main__":
    main()
