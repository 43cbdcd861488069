"""What is wrong with a workflow, against the node descriptions of a running ComfyUI: lists of sentences."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from workflow_prompt import (
    CONTROL,
    DYNAMIC_CHOICE,
    ONLY_IN_THE_EDITOR,
    UPLOAD,
    Info,
    choices_of,
    inputs_of,
    options_of,
    widget_type,
    widgets,
)

SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}
MODEL_FILE = ".safetensors"
TITLE_HEIGHT = 30
"""Above a node's position."""


def problem_with_value(declared: Any, value: Any) -> str:
    """Any model file is right here: what there is differs from machine to machine."""
    kind, options = widget_type(declared), options_of(declared)
    if kind in ("COMBO", DYNAMIC_CHOICE):
        known = value in choices_of(declared) or str(value).endswith(MODEL_FILE) or options.get("image_upload")
        return "" if known else f"{value!r} is none of the choices"
    expected = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}[kind]
    if not isinstance(value, expected):
        return f"{value!r} is no {kind}"
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return f"{value!r} is out of range"
    return ""


def problems_of_widgets(info: Info, node: dict[str, Any]) -> list[str]:
    kind, left = node["type"], list(node.get("widgets_values") or [])
    given = len(left)
    entries = list(widgets(inputs_of(info, kind), left))
    if given != len(entries) or left:
        return [f"{kind} has {len(entries)} widgets, the file has {given} values"]
    found = []
    for name, declared, value in entries:
        if name.endswith(CONTROL):
            problem = "" if value in SEED_CONTROLS else f"{value!r} is no seed control"
        elif name.endswith(UPLOAD):
            problem = ""
        else:
            problem = problem_with_value(declared, value)
        if problem:
            found.append(f"{kind}.{name}: {problem}")
    return found


def problems_of_node(info: Info, node: dict[str, Any]) -> list[str]:
    kind = node["type"]
    if kind in ONLY_IN_THE_EDITOR:
        return []
    if kind not in info:
        return [f"there is no node {kind}"]
    found = []
    declared = inputs_of(info, kind)
    for slot in node["inputs"]:
        if slot["name"] not in declared:
            found.append(f"{kind} has no input {slot['name']}")
        elif not isinstance(declared[slot["name"]][0], list) and slot["type"] not in (declared[slot["name"]][0], "*"):
            found.append(f"{kind}.{slot['name']} is not a {slot['type']}")
        elif widget_type(declared[slot["name"]]) and slot.get("widget") != {"name": slot["name"]}:
            found.append(f"{kind}.{slot['name']} takes the place of a widget that it does not name")
    linked = {slot["name"] for slot in node["inputs"] if slot.get("link") is not None}
    needed = {name for name, entry in info[kind]["input"].get("required", {}).items() if not widget_type(entry)}
    found += [f"{kind}.{name} is not connected" for name in sorted(needed - linked)]
    types = [slot["type"] for slot in node["outputs"]]
    # Newer versions of a node may have gained outputs, which the editor adds.
    if types != list(info[kind]["output"])[: len(types)]:
        found.append(f"{kind} gives {info[kind]['output']}, the file says {types}")
    return found + problems_of_widgets(info, node)


def problems_of_links(workflow: dict[str, Any]) -> list[str]:
    nodes = {node["id"]: node for node in workflow["nodes"]}
    found = []
    for link, source, source_slot, target, target_slot, kind in workflow["links"]:
        try:
            output = nodes[source]["outputs"][source_slot]
            slot = nodes[target]["inputs"][target_slot]
        except (KeyError, IndexError):
            found.append(f"link {link} leads to a slot that does not exist")
            continue
        if link not in (output["links"] or []) or slot["link"] != link or output["type"] != kind:
            found.append(f"link {link} and its slots disagree")
        if slot["type"] != kind and "*" not in (slot["type"], kind):
            found.append(f"link {link} brings a {kind} to a slot for a {slot['type']}")
    used = {entry[0] for entry in workflow["links"]}
    for node in workflow["nodes"]:
        named = {slot["link"] for slot in node["inputs"]} | {
            link for slot in node["outputs"] for link in slot["links"] or []
        }
        found += [f"node {node['id']} names the link {link}, which does not exist" for link in named - used - {None}]
    if workflow["last_node_id"] < max(nodes) or workflow["last_link_id"] < max(used):
        found.append("last_node_id or last_link_id is too small")
    return found


def problems_of_layout(workflow: dict[str, Any]) -> list[str]:
    """Nodes that overlap, and links that do not lead to the right."""

    def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
        (left, top), (width, height) = one["pos"], one["size"]
        (other_left, other_top), (other_width, other_height) = other["pos"], other["size"]
        beside = left + width <= other_left or other_left + other_width <= left
        above = top + height <= other_top - TITLE_HEIGHT or other_top + other_height <= top - TITLE_HEIGHT
        return not (beside or above)

    found = [
        f"nodes {one['id']} and {other['id']} overlap"
        for one, other in combinations(workflow["nodes"], 2)
        if overlap(one, other)
    ]
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, source, _, target, *_ in workflow["links"]:
        if nodes[source]["pos"][0] > nodes[target]["pos"][0]:
            found.append(f"link {link} leads to the left")
    return found


def model_files(info: Info, workflow: dict[str, Any]) -> set[str]:
    """Files that this ComfyUI does not have."""
    return {
        value
        for node in workflow["nodes"]
        if node["type"] not in ONLY_IN_THE_EDITOR
        for _, declared, value in widgets(inputs_of(info, node["type"]), list(node["widgets_values"]))
        if declared is not None and str(value).endswith(MODEL_FILE) and value not in choices_of(declared)
    }
