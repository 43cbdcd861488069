"""The nodes where the native module is missing: they register, change nothing and say what to do.

There is no second engine: without the native module the model passes through.
"""

from __future__ import annotations

import json
from typing import Any

from . import report

WIDGET_OPTIONS = ("advanced", "default", "min", "max", "step", "tooltip")


class PassThrough:
    """Stands in for a node that needs the native module."""

    def __init__(self, reason: str, choices: dict[str, tuple[str, ...]]) -> None:
        self.reason = reason
        self.choices = choices

    def run(self, model: Any, unique_id: str | None = None, **_inputs: Any) -> tuple[Any]:
        report.tell(f"Passed through: {self.reason}", unique_id)
        return (model,)


class Unavailable:
    """Stands in for a node that has nothing to pass through."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def run(self, **_inputs: Any) -> None:
        raise RuntimeError(f"This node needs the native module. {self.reason}")


def node_classes(text: str, implementations: dict[str, Any]) -> tuple[dict[str, type], dict[str, str]]:
    """The same classes that the native module makes from nodes.json, for what `implementations` has."""
    nodes = [node for node in json.loads(text)["nodes"] if node["id"] in implementations]
    classes = {node["id"]: _node_class(node, implementations[node["id"]]) for node in nodes}
    return classes, {node["id"]: node["display_name"] for node in nodes}


def _node_class(node: dict[str, Any], implementation: Any) -> type:
    def input_types() -> dict[str, Any]:
        groups: dict[str, Any] = {"required": {}, "optional": {}, "hidden": {"unique_id": "UNIQUE_ID"}}
        for entry in node["inputs"]:
            kind = list(implementation.choices[entry["name"]]) if entry["type"] == "COMBO" else entry["type"]
            options = {name: entry[name] for name in WIDGET_OPTIONS if name in entry}
            groups["required" if entry["required"] else "optional"][entry["name"]] = (kind, options)
        return groups

    return type(
        node["id"],
        (object,),
        {
            "__module__": "wavespeed",
            "CATEGORY": node["category"],
            "DESCRIPTION": node["description"],
            "FUNCTION": "run",
            "OUTPUT_NODE": node.get("output_node", False),
            "RETURN_TYPES": tuple(output["type"] for output in node["outputs"]),
            "RETURN_NAMES": tuple(output["name"] for output in node["outputs"]),
            "OUTPUT_TOOLTIPS": tuple(output["tooltip"] for output in node["outputs"]),
            "INPUT_TYPES": staticmethod(input_types),
            "run": staticmethod(implementation.run),
        },
    )
