"""The example workflows fit the nodes of the ComfyUI they are opened in, and run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from comfyui_tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from comfyui_result import Prompt, Runner

FILES = sorted((ROOT / "workflows").glob("*.json"))
ONLY_IN_THE_EDITOR = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
CACHE_NODES = {"ApplyFBCacheOnModel", "WaveSpeedFirstBlockCache"}
SEED_WIDGETS = {"seed", "noise_seed"}
SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}

Info = dict[str, dict[str, Any]]


def inputs_of(info: Info, kind: str) -> dict[str, Any]:
    return {**info[kind]["input"].get("required", {}), **info[kind]["input"].get("optional", {})}


def is_widget(declared: Any) -> bool:
    return isinstance(declared[0], list) or declared[0] in WIDGET_TYPES


def widget_names(info: Info, kind: str) -> list[str]:
    """One name per saved widget value: the editor adds a control after every seed."""
    names = []
    for name, declared in inputs_of(info, kind).items():
        if is_widget(declared):
            names.append(name)
            if name in SEED_WIDGETS and (len(declared) < 2 or declared[1].get("control_after_generate", True)):
                names.append(f"{name} control")
    return names


def problem_with_value(declared: Any, value: Any) -> str:
    kind, options = declared[0], declared[1] if len(declared) > 1 else {}
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None:
        return "" if value in choices else f"{value!r} is none of the choices"
    expected = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}[kind]
    if not isinstance(value, expected):
        return f"{value!r} is no {kind}"
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return f"{value!r} is out of range"
    return ""


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
    linked = {slot["name"] for slot in node["inputs"] if slot.get("link") is not None}
    needed = {name for name, entry in info[kind]["input"].get("required", {}).items() if not is_widget(entry)}
    found += [f"{kind}.{name} is not connected" for name in sorted(needed - linked)]
    types = [slot["type"] for slot in node["outputs"]]
    # Newer versions of a node may have gained outputs, which the editor adds.
    if types != list(info[kind]["output"])[: len(types)]:
        found.append(f"{kind} gives {info[kind]['output']}, the file says {types}")
    names, values = widget_names(info, kind), node.get("widgets_values", [])
    if len(names) != len(values):
        return [*found, f"{kind} has {len(names)} widgets, the file has {len(values)} values"]
    for name, value in zip(names, values, strict=True):
        if name.endswith(" control"):
            problem = "" if value in SEED_CONTROLS else f"{value!r} is no seed control"
        else:
            problem = problem_with_value(declared[name], value)
        if problem:
            found.append(f"{kind}.{name}: {problem}")
    return found


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
    used = {entry[0] for entry in workflow["links"]}
    for node in workflow["nodes"]:
        named = {slot["link"] for slot in node["inputs"]} | {
            link for slot in node["outputs"] for link in slot["links"] or []
        }
        found += [f"node {node['id']} names the link {link}, which does not exist" for link in named - used - {None}]
    if workflow["last_node_id"] < max(nodes) or workflow["last_link_id"] < max(used):
        found.append("last_node_id or last_link_id is too small")
    return found


def as_prompt(info: Info, workflow: dict[str, Any]) -> Prompt:
    """What the editor sends for a workflow."""
    sources = {entry[0]: [str(entry[1]), entry[2]] for entry in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ONLY_IN_THE_EDITOR:
            continue
        values = dict(zip(widget_names(info, node["type"]), node.get("widgets_values", []), strict=True))
        inputs = {name: value for name, value in values.items() if not name.endswith(" control")}
        inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot.get("link") is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.fixture(scope="module")
def info(runner: Runner) -> Info:
    return runner.object_info()


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    return json.loads(path.read_text(encoding="utf-8"))


def test_nodes_slots_and_widgets_of_a_workflow_fit_this_comfyui(info: Info, workflow: dict[str, Any]) -> None:
    assert [problem for node in workflow["nodes"] for problem in problems_of_node(info, node)] == []


def test_links_of_a_workflow_agree_with_their_slots(workflow: dict[str, Any]) -> None:
    assert problems_of_links(workflow) == []


def test_a_workflow_runs_as_it_is_and_the_cache_node_says_what_it_reused(
    runner: Runner, info: Info, workflow: dict[str, Any]
) -> None:
    result = runner.queue(as_prompt(info, workflow))
    assert result.status == "success", result.error
    assert len(runner.images(result)) == sum(node["type"] == "SaveImage" for node in workflow["nodes"])
    for node in workflow["nodes"]:
        if node["type"] in CACHE_NODES:
            assert "reused" in result.texts_of(str(node["id"]))[-1]


def test_the_check_of_workflows_finds_what_is_wrong(info: Info) -> None:
    """The check itself: a workflow with one mistake of each kind."""
    slots = {
        "inputs": [{"name": "model", "type": "MODEL", "link": None}],
        "outputs": [{"name": "MODEL", "type": "MODEL", "links": [9]}],
    }
    node = {
        "id": 1,
        "type": "ApplyFBCacheOnModel",
        **slots,
        "widgets_values": ["diffusion_model", 7.0, 0.0, 1.0, "many", "classic", 0.0],
    }
    assert problems_of_node(info, node) == [
        "ApplyFBCacheOnModel.model is not connected",
        "ApplyFBCacheOnModel.residual_diff_threshold: 7.0 is out of range",
        "ApplyFBCacheOnModel.max_consecutive_cache_hits: 'many' is no INT",
    ]
    assert problems_of_node(info, {**node, "type": "Gone"}) == ["there is no node Gone"]
    assert (
        problems_of_node(info, {**node, "widgets_values": []})[-1]
        == "ApplyFBCacheOnModel has 7 widgets, the file has 0 values"
    )
    links = {"nodes": [node], "links": [[3, 1, 0, 2, 0, "MODEL"]], "last_node_id": 0, "last_link_id": 3}
    assert problems_of_links(links) == [
        "link 3 leads to a slot that does not exist",
        "node 1 names the link 9, which does not exist",
        "last_node_id or last_link_id is too small",
    ]
