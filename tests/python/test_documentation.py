"""What is written about the nodes agrees with the nodes, and what is linked exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from wavespeed import demo_model, first_block_cache

REPOSITORY = Path(__file__).resolve().parents[2]
NODES = {
    node["id"]: node
    for node in json.loads((REPOSITORY / "python/wavespeed/nodes.json").read_text(encoding="utf-8"))["nodes"]
}
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "web/docs").rglob("*.md"),
     *(REPOSITORY / "tests").rglob("*.md"), *(REPOSITORY / "demo_model").rglob("*.md")]
)  # fmt: skip
WIDGETS = {"STRING", "FLOAT", "INT", "BOOLEAN", "COMBO"}
WORKFLOWS = sorted((REPOSITORY / "workflows").glob("*.json"))


def tables(text: str) -> list[list[dict[str, str]]]:
    """Every Markdown table as a list of rows, keyed by the column titles in lower case."""
    found = []
    for block in re.findall(r"(?:^\|.*\|[ ]*\n?)+", text, re.MULTILINE):
        rows = [
            [cell.strip().strip("`*") for cell in line.strip().strip("|").split("|")] for line in block.splitlines()
        ]
        if len(rows) > 2 and set("".join(rows[1])) <= set("-: "):
            titles = [title.lower() for title in rows[0]]
            found.append([dict(zip(titles, row, strict=False)) for row in rows[2:]])
    return found


def words(cell: str) -> list[str]:
    return [word.strip(" `") for word in cell.split(",")]


def rows_about_inputs(path: Path) -> list[tuple[str, str]]:
    """(input name, default as written) of every table whose first column is called "input"; a row may hold several."""
    found = []
    for table in tables(path.read_text(encoding="utf-8")):
        if next(iter(table[0])) == "input":
            for row in table:
                names, defaults = words(row["input"]), words(row.get("default", ""))
                found += list(zip(names, defaults if len(defaults) == len(names) else [""] * len(names), strict=True))
    return found


def ids(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("node_id", NODES)
def test_every_node_has_a_help_page_that_names_its_inputs(node_id: str) -> None:
    path = REPOSITORY / "web/docs" / f"{node_id}.md"
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {NODES[node_id]['display_name']}\n")
    documented = {name for name, _ in rows_about_inputs(path)}
    if documented:
        assert documented == {entry["name"] for entry in NODES[node_id]["inputs"]}
    else:
        assert len(NODES[node_id]["inputs"]) == 1, "a node with several inputs needs a table"


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_defaults_in_tables_are_those_of_the_node(path: Path) -> None:
    defaults: dict[str, set[Any]] = {}
    for entry in (entry for node in NODES.values() for entry in node["inputs"]):
        defaults.setdefault(entry["name"], set()).add(entry.get("default"))
    for name, written in rows_about_inputs(path):
        assert name in defaults, f"{path.name} describes an input {name} that no node has"
        known = defaults[name] - {None}
        if written and known:
            assert (written if all(isinstance(value, str) for value in known) else float(written)) in known, name


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_links_lead_to_files(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(<?([^)\s>]+)>?[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    local = [unquote(target.split("#")[0]) for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert not [target for target in local if not (path.parent / target).exists()]


def paths_in_code(text: str) -> set[str]:
    """Words in `code` that can only be a path of this repository."""
    folders = "|".join(entry.name for entry in REPOSITORY.iterdir() if entry.is_dir() and entry.name != "build")
    return set(re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", text))


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_files_named_in_documents_exist(path: Path) -> None:
    named = paths_in_code(path.read_text(encoding="utf-8"))
    assert not [name for name in named if not (REPOSITORY / name).exists()]


def test_the_number_of_subjects_is_told_rightly() -> None:
    told = re.findall(
        r"knows (\d+) things", (REPOSITORY / "web/docs/WaveSpeedDemoPrompt.md").read_text(encoding="utf-8")
    )
    assert told == [str(len(demo_model.DemoPrompt().choices["subject"]) - 1)]


def our_nodes(path: Path) -> list[dict[str, Any]]:
    return [node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"] if node["type"] in NODES]


def widgets(node: dict[str, Any]) -> list[tuple[dict[str, Any], Any]]:
    """(input of the schema, value) for every widget of a node in a workflow; the last optional ones may be missing."""
    inputs = [entry for entry in NODES[node["type"]]["inputs"] if entry["type"] in WIDGETS]
    values = list(node["widgets_values"])
    for number, entry in enumerate(inputs):
        if entry["name"] == "seed":
            del values[number + 1]  # what the editor does to it after a run
    assert sum(entry["required"] for entry in inputs) <= len(values) <= len(inputs), node["type"]
    return list(zip(inputs, values, strict=False))


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_example_workflows_carry_values_the_nodes_accept(path: Path) -> None:
    choices = demo_model.DemoPrompt().choices | first_block_cache.CHOICES
    for node in our_nodes(path):
        for entry, value in widgets(node):
            if entry["type"] == "COMBO":
                assert value in choices[entry["name"]]
            elif entry["type"] in ("FLOAT", "INT"):
                assert entry["min"] <= value <= entry["max"], entry["name"]
            else:
                assert isinstance(value, bool if entry["type"] == "BOOLEAN" else str)


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_links_of_example_workflows_are_consistent(path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, output, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert kind in (nodes[source]["outputs"][output]["type"], "*")
        assert nodes[target]["inputs"][slot]["link"] == number
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    assert workflow["last_node_id"] == max(nodes)


def test_the_descriptors_and_the_document_name_the_same_comfyui_versions() -> None:
    """tools/models_document.py writes both from the results of the test of all families."""
    described = json.loads((REPOSITORY / "python/wavespeed/architectures.json").read_text(encoding="utf-8"))
    verified = {entry["family"]: entry["verified"] for entry in described["architectures"]}
    documented = tables((REPOSITORY / "docs/models.md").read_text(encoding="utf-8"))
    assert {row["family"]: row["verified with"] for table in documented for row in table} == verified
    assert all(verified.values())
