"""The example workflows fit the nodes of the ComfyUI they are opened in, say which files they need, and run."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from in_process import COUNTS
from prompts import pixels
from tiny_twins import FAMILY_OF_WORKFLOW, SINKS, tiny_twin
from workflow_checks import (
    model_files,
    problems_of_layout,
    problems_of_links,
    problems_of_node,
)

from comfyui_tree import ROOT
from workflow_prompt import Info, as_prompt

if TYPE_CHECKING:
    from comfyui_result import Runner
    from comfyui_tree import ComfyUITree

Workflow = dict[str, Any]

FILES = {path.stem: path for path in sorted((ROOT / "workflows").glob("*.json"))}
DEMO = "Try it on CPU"
FIND_A_SETTING = "Find a setting on CPU"
DEMOS = {DEMO, "Try it on CPU, compiled", FIND_A_SETTING}
"""Those whose model files come with the pack."""
CACHE_NODES = {"ApplyFBCacheOnModel": "**Threshold**", "WaveSpeedFirstBlockCache": "**Speedup**"}
"""With the paragraph of a note that explains their setting."""
SUCCESSORS = {"FLUX.1 dev", "FLUX.1 dev with ControlNet", "HunyuanVideo", "LTX-Video", "SDXL", "Stable Diffusion 3.5"}
"""Of the six workflows of Comfy-WaveSpeed."""
XY_NODE = "WaveSpeedFirstBlockCacheXY"
SAVING_NODES = {"SaveImage", XY_NODE}
MADE_FOR = (0, 33)
FILE_IN_NOTE = re.compile(
    r"^- \*\*(\w+)/([^*]+)\*\*: (?:the same place|([\w.-]+/[\w.-]+) on Hugging Face)(, its .* under this name)?$",
    re.MULTILINE,
)
HUGGING_FACE_FILE = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/resolve/main/(?:\w+/)*([\w.-]+)")
NOT_IN_LIST = re.compile(r"Value not in list: \w+: '([^']+)' not in ")
OLD_ARRAYS = {
    "start, end and most hits in a row": ["diffusion_model", 0.12, 0, 1, -1],
    "two values": ["diffusion_model", 0.1],
}
"""What workflows of Comfy-WaveSpeed hold for the node."""


def read(name: str) -> Workflow:
    return json.loads(FILES[name].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def info(runner: Runner, tree: ComfyUITree) -> Info:
    # The example picture that comes with ComfyUI; the runner's own input folder is empty.
    shutil.copy(tree.path / "input" / "example.png", runner.base / "input")
    return runner.object_info()


@pytest.fixture(params=FILES)
def workflow(request: pytest.FixtureRequest, tree: ComfyUITree) -> Workflow:
    name: str = request.param
    if name not in DEMOS and tuple(map(int, tree.version.split(".")[:2])) < MADE_FOR:
        pytest.skip(f"ComfyUI {tree.version} lacks nodes of this workflow, which is made for 0.33.")
    return read(name)


def test_nodes_slots_and_widgets_of_a_workflow_fit_this_comfyui(info: Info, workflow: Workflow) -> None:
    assert [problem for node in workflow["nodes"] for problem in problems_of_node(info, node)] == []


def test_links_of_a_workflow_agree_with_their_slots(workflow: Workflow) -> None:
    assert problems_of_links(workflow) == []


def test_a_workflow_reads_from_left_to_right_and_no_nodes_overlap(workflow: Workflow) -> None:
    assert problems_of_layout(workflow) == []


def test_workflows_lead_with_first_block_cache_and_those_of_comfy_wavespeed_keep_its_node() -> None:
    for name in FILES:
        caches = {node["type"] for node in read(name)["nodes"]} & {*CACHE_NODES, XY_NODE}
        expected = XY_NODE if name == FIND_A_SETTING else "WaveSpeedFirstBlockCache"
        assert caches == {"ApplyFBCacheOnModel" if name in SUCCESSORS else expected}, name


def test_the_note_of_a_workflow_names_the_files_it_needs_and_explains_the_setting_of_the_cache(
    info: Info, workflow: Workflow
) -> None:
    (note,) = (node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    needed = model_files(info, workflow)
    settings = {CACHE_NODES[node["type"]] for node in workflow["nodes"] if node["type"] in CACHE_NODES}
    assert not needed or [setting in note for setting in settings] == [True]
    # The editor shows code in blue, which cannot be read on the colour of a note.
    assert "`" not in note
    assert {file for _, file, *_ in FILE_IN_NOTE.findall(note)} == needed


def test_the_editor_offers_the_files_of_a_workflow_from_where_its_note_says(workflow: Workflow) -> None:
    """It reads what to offer from the loaders. A file that has to be renamed stands in the note only."""
    (note,) = (node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    expected, place = set(), ""
    for folder, file, repository, renamed in FILE_IN_NOTE.findall(note):
        place = repository or place
        if not renamed:
            expected.add((file, folder, place))
    offered = set()
    for node in workflow["nodes"]:
        for model in node["properties"].get("models", ()):
            assert model["name"] in node["widgets_values"]
            link = HUGGING_FACE_FILE.fullmatch(model["url"])
            assert link is not None, model["url"]
            assert link[2] == model["name"]
            offered.add((model["name"], model["directory"], link[1]))
    assert offered == expected


def test_this_comfyui_misses_nothing_but_the_model_files_of_a_workflow(
    runner: Runner, info: Info, workflow: Workflow
) -> None:
    missing = model_files(info, workflow)
    if not missing:
        pytest.skip("All files of this workflow are here; another test runs it.")
    prompt = as_prompt(info, workflow)
    # A server runs the part of a prompt that can run: here, showing a picture.
    shown = {node for node, entry in prompt.items() if entry["class_type"] == "PreviewImage"}
    result = runner.queue({node: entry for node, entry in prompt.items() if node not in shown})
    assert result.status == "rejected"
    assert result.error is not None
    complaints = [NOT_IN_LIST.match(line) for line in result.error.message.splitlines()]
    assert {found[1] if found else None for found in complaints} == missing, result.error.message


@pytest.mark.parametrize("name", sorted(DEMOS))
def test_the_workflows_of_the_demo_run_as_they_are_and_the_cache_node_says_what_it_reused(
    runner: Runner, info: Info, name: str
) -> None:
    workflow = read(name)
    result = runner.queue(as_prompt(info, workflow))
    assert result.status == "success", result.error
    assert len(runner.images(result)) == sum(node["type"] in SAVING_NODES for node in workflow["nodes"])
    for node in workflow["nodes"]:
        if node["type"] in CACHE_NODES:
            assert "reused" in result.texts_of(str(node["id"]))[-1]


def test_every_other_workflow_has_a_tiny_model() -> None:
    assert set(FAMILY_OF_WORKFLOW) == set(FILES) - DEMOS


def test_a_workflow_runs_with_a_tiny_model_and_every_cache_node_reports(
    runner: Runner, info: Info, workflow: Workflow, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["workflow"]
    if name in DEMOS:
        pytest.skip("This one has a model of its own; another test runs it.")
    twin = tiny_twin(as_prompt(info, workflow), FAMILY_OF_WORKFLOW[name])
    result = runner.queue(twin)
    assert result.status == "success", result.error
    reports = [node for node, entry in twin.items() if entry["class_type"] in SINKS]
    assert reports
    assert all(all(result.outputs[node]["finite"]) for node in reports)
    caches = [node for node, entry in twin.items() if entry["class_type"] in CACHE_NODES]
    assert caches
    for node in caches:
        said = result.texts_of(node)[-1]
        counts = COUNTS.search(said)
        assert counts is not None, said
        assert int(counts[1]) == int(counts[2]) + int(counts[3])


@pytest.mark.parametrize("saved", OLD_ARRAYS.values(), ids=OLD_ARRAYS)
def test_the_values_that_old_workflows_hold_mean_what_they_meant(runner: Runner, info: Info, saved: list[Any]) -> None:
    """As the editor fills them up: what they lack has its default, which is what Comfy-WaveSpeed did."""
    same = {"start": 0, "end": 1, "max_consecutive_cache_hits": -1, "strategy": "classic"}
    same |= {"speedup": 0.0, "cache_device": "gpu"}
    meant = {"object_to_patch": "diffusion_model", "residual_diff_threshold": saved[1], **same}
    workflow = read(DEMO)
    (cache,) = (node for node in workflow["nodes"] if node["type"] in CACHE_NODES)
    cache |= {"type": "ApplyFBCacheOnModel", "widgets_values": saved}
    prompt = as_prompt(info, workflow)
    inputs = prompt[str(cache["id"])]["inputs"]
    assert {name: value for name, value in inputs.items() if name != "model"} == meant
    result = runner.queue(prompt)
    assert pixels(runner, result)
    assert "reused" in result.texts_of(str(cache["id"]))[-1]


def test_the_check_of_workflows_finds_what_is_wrong(info: Info) -> None:
    """The check itself: a workflow with one mistake of each kind."""
    slots = {
        "inputs": [{"name": "model", "type": "MODEL", "link": None}],
        "outputs": [{"name": "MODEL", "type": "MODEL", "links": [9]}],
    }
    node = {
        "id": 1,
        "type": "ApplyFBCacheOnModel",
        "pos": [0, 0],
        "size": [100, 100],
        **slots,
        "widgets_values": ["diffusion_model", 7.0, 0.0, 1.0, "many", "classic", 0.0, "gpu"],
    }
    assert problems_of_node(info, node) == [
        "ApplyFBCacheOnModel.model is not connected",
        "ApplyFBCacheOnModel.residual_diff_threshold: 7.0 is out of range",
        "ApplyFBCacheOnModel.max_consecutive_cache_hits: 'many' is no INT",
    ]
    assert problems_of_node(info, {**node, "type": "Gone"}) == ["there is no node Gone"]
    assert (
        problems_of_node(info, {**node, "widgets_values": []})[-1]
        == "ApplyFBCacheOnModel has 8 widgets, the file has 0 values"
    )
    assert (
        problems_of_node(info, {**node, "widgets_values": [*node["widgets_values"], 1]})[-1]
        == "ApplyFBCacheOnModel has 8 widgets, the file has 9 values"
    )
    links = {"nodes": [node], "links": [[3, 1, 0, 2, 0, "MODEL"]], "last_node_id": 0, "last_link_id": 3}
    assert problems_of_links(links) == [
        "link 3 leads to a slot that does not exist",
        "node 1 names the link 9, which does not exist",
        "last_node_id or last_link_id is too small",
    ]
    crowded = {"nodes": [node, {**node, "id": 2, "pos": [-50, 120]}], "links": [[1, 1, 0, 2, 0, "MODEL"]]}
    assert problems_of_layout(crowded) == ["nodes 1 and 2 overlap", "link 1 leads to the left"]
