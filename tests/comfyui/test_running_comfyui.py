"""The pack in a running ComfyUI, as prompts reach it: over HTTP, or through the executor where there is no server."""

from __future__ import annotations

import re
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prompts import CACHE, OLD_WIDGETS, SAMPLER, changed, picture, pixels

from comfyui_server import Server
from comfyui_tree import ROOT

if TYPE_CHECKING:
    from comfyui_result import Runner

COUNTS = re.compile(
    r"^Flux · 28 evaluations: (\d+) computed, (\d+) reused \((\d+) %\) · mean change \S+ · cache \S+ [KMG]iB$"
)
NODES = ("ApplyFBCacheOnModel", "WaveSpeedFirstBlockCacheXY", "WaveSpeedDemoPrompt")
INPUTS = [
    "model",
    "object_to_patch",
    "residual_diff_threshold",
    "start",
    "end",
    "max_consecutive_cache_hits",
    "strategy",
    "speedup",
    "cache_device",
]


def our_lines(log: str) -> list[str]:
    return [line for line in log.splitlines() if "WaveSpeed" in line or "First Block Cache" in line]


def get(runner: Runner, path: str) -> bytes:
    """What the server answers; a skipped test where ComfyUI runs without its server."""
    if not isinstance(runner, Server):
        pytest.skip("This ComfyUI comes without its server.")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(runner.url + path, timeout=60) as response:
        return response.read()


def get_json(runner: Runner, path: str) -> Any:
    import json

    return json.loads(get(runner, path))


def test_the_pack_says_one_line_when_it_loads(runner: Runner) -> None:
    loaded = [line for line in our_lines(runner.log()) if "First Block Cache with" in line]
    assert len(loaded) == 1
    assert "cpu" in loaded[0].lower() or "kernels" in loaded[0], loaded


def test_a_cached_picture_is_saved_and_the_node_and_the_log_say_what_was_reused(runner: Runner) -> None:
    before = len(our_lines(runner.log()))
    result = runner.queue(picture(cache=OLD_WIDGETS, seed=11))
    assert result.status == "success", result.error
    assert runner.images(result)[0].stat().st_size > 1000
    text = result.texts_of(CACHE)[-1]
    found = COUNTS.match(text)
    assert found is not None, text
    assert int(found[1]) + int(found[2]) == 28
    assert int(found[2]) > 0
    lines = our_lines(runner.log())[before:]
    assert len(lines) == 1, lines
    assert lines[0].endswith(text)


def test_a_prompt_with_the_two_widgets_of_old_workflows_runs_as_with_the_defaults(runner: Runner) -> None:
    old = pixels(runner, runner.queue(picture(cache=OLD_WIDGETS, seed=12)))
    spelled_out = {**OLD_WIDGETS, "start": 0.0, "end": 1.0, "max_consecutive_cache_hits": -1}
    again = runner.queue(picture(cache=spelled_out, seed=12))
    assert SAMPLER not in again.cached
    assert pixels(runner, again) == old


@pytest.mark.parametrize(
    "cache", [{**OLD_WIDGETS, "residual_diff_threshold": 0.0}, {**OLD_WIDGETS, "max_consecutive_cache_hits": 0}]
)
def test_a_cache_that_is_off_draws_the_plain_picture(runner: Runner, cache: dict[str, Any]) -> None:
    plain = pixels(runner, runner.queue(picture(seed=13)))
    result = runner.queue(picture(cache=cache, seed=13))
    assert pixels(runner, result) == plain
    assert result.texts_of(CACHE)[-1].startswith("Off: ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("residual_diff_threshold", 1.5),
        ("residual_diff_threshold", -1),
        ("residual_diff_threshold", "a lot"),
        ("start", 2.0),
        ("end", -0.5),
        ("max_consecutive_cache_hits", -2),
        ("max_consecutive_cache_hits", "five"),
    ],
)
def test_bad_values_are_refused_before_queueing_with_the_node_and_the_input(
    runner: Runner, name: str, value: Any
) -> None:
    result = runner.queue(picture(cache={**OLD_WIDGETS, name: value}, seed=14))
    assert result.status == "rejected"
    assert result.error is not None
    assert result.error.node == CACHE
    assert name in result.error.message


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        (
            picture(cache={**OLD_WIDGETS, "object_to_patch": "nope"}),
            "object_to_patch is 'nope', which this model (Flux) does not have.",
        ),
        (changed(picture(cache=OLD_WIDGETS), CACHE, model=["vae", 0]), "mismatch"),
    ],
    ids=["unknown object", "a VAE as the model"],
)
def test_after_a_prompt_that_cannot_run_the_next_one_draws_as_before(
    runner: Runner, prompt: Any, sentence: str
) -> None:
    good = pixels(runner, runner.queue(picture(cache=OLD_WIDGETS, seed=15)))
    result = runner.queue(prompt)
    assert result.status in ("error", "rejected")
    assert result.error is not None
    assert sentence in result.error.message
    # Another prefix alone would let ComfyUI answer from its own cache of results.
    assert pixels(runner, runner.queue(picture(cache={**OLD_WIDGETS, "start": 0.0, "end": 1.0}, seed=15))) == good


def test_the_prompt_after_an_interrupted_one_draws_the_same_picture_as_before(runner: Runner) -> None:
    fresh = runner.queue(picture(cache=OLD_WIDGETS, seed=16))
    drawn = pixels(runner, fresh)
    running = runner.submit(picture(cache=OLD_WIDGETS, seed=17, steps=10_000))
    time.sleep(2)  # into the sampling
    runner.interrupt()
    interrupted = runner.wait(running)
    assert interrupted.status == "interrupted"
    assert "evaluations" in interrupted.texts_of(CACHE)[-1]
    again = runner.queue(picture(cache={**OLD_WIDGETS, "end": 1.0}, seed=16))
    assert SAMPLER not in again.cached
    assert pixels(runner, again) == drawn
    assert again.texts_of(CACHE)[-1] == fresh.texts_of(CACHE)[-1]


def test_object_info_shows_the_old_inputs_in_the_old_order_and_a_tooltip_on_every_one(runner: Runner) -> None:
    info = runner.object_info()
    for name in NODES:
        given = {**info[name]["input"].get("required", {}), **info[name]["input"].get("optional", {})}
        assert all(len(options) > 1 and options[1].get("tooltip") for options in given.values()), given
        assert info[name]["description"]
        assert info[name]["display_name"] != name
    node = info["ApplyFBCacheOnModel"]
    order = node["input_order"]
    assert [*order["required"], *order.get("optional", [])] == INPUTS
    assert order["required"] == INPUTS[:3]
    assert (node["category"], node["output"], node["output_is_list"]) == ("wavespeed", ["MODEL"], [False])
    threshold = node["input"]["required"]["residual_diff_threshold"]
    assert threshold[0] == "FLOAT"
    assert {key: threshold[1][key] for key in ("default", "min", "max")} == {"default": 0.12, "min": 0.0, "max": 1.0}


def test_the_demo_files_are_offered_by_default(runner: Runner) -> None:
    info = runner.object_info()
    unets = str(info["UNETLoader"]["input"]["required"]["unet_name"])
    vaes = str(info["VAELoader"]["input"]["required"]["vae_name"])
    assert "wavespeed_demo_flux.safetensors" in unets
    assert "wavespeed_demo_vae.safetensors" in vaes


def test_the_workflows_of_the_pack_are_listed_as_templates_and_served(runner: Runner) -> None:
    listed = get_json(runner, "/api/workflow_templates")[ROOT.name]
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    for name in listed:
        served = get(runner, f"/api/workflow_templates/{ROOT.name}/{urllib.parse.quote(name)}.json")
        assert served == (ROOT / "workflows" / f"{name}.json").read_bytes()


@pytest.mark.parametrize("node", NODES)
def test_every_node_has_a_help_page_that_the_server_serves(runner: Runner, node: str) -> None:
    page = get(runner, f"/extensions/{ROOT.name}/docs/{node}.md").decode()
    assert page == (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    assert page.startswith("# ")


def test_nothing_the_pack_has_logged_looks_like_a_failure(runner: Runner) -> None:
    runner.queue(picture(cache=OLD_WIDGETS, seed=18))
    lines = our_lines(runner.log())
    assert lines
    assert not [
        line
        for line in lines
        if re.search(r"Error|Exception|IMPORT FAILED|Traceback", line) and "object_to_patch" not in line
    ]
