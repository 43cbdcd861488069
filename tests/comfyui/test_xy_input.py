"""First Block Cache XY in a running ComfyUI, and what it answers to lists and connections that make no sense."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import tiny_models
import torch
from PIL import Image
from prompts import changed, picture
from xy_demo import GRID, HOW, LISTS, NODE

if TYPE_CHECKING:
    from in_process import ComfyUI
    from xy_demo import Demo

    from comfyui_result import Prompt, Result, Runner


# ---- bad input -------------------------------------------------------------------------------------------------------


BAD_LISTS = [
    ({"strategies": ""}, "strategies is empty; it takes one or several of these", "forecast, classic."),
    ({"strategies": "forecast, teacache"}, "strategies holds 'teacache'; it must be one of", "forecast, classic."),
    ({"speedups": "2, 11"}, "speedup is 11;", "must be between 1 and 10."),
    ({"speedups": "0.5"}, "speedup is 0.5;", "must be between 1 and 10."),
    ({"speedups": "nan"}, "speedup is not a number;", "must be between 1 and 10."),
    ({"speedups": "inf"}, "speedup is inf", "must be between 1 and 10."),
    ({"speedups": "two"}, "speedups holds 'two', which is no number", "for example 1.5, 2, 3."),
    ({"speedups": "", "thresholds": " , "}, "speedups and thresholds are both empty", "above 0, at most 1)."),
    ({"thresholds": "0.1, 1.5"}, "residual_diff_threshold is 1.5;", "must be between 0 and 1."),
    ({"thresholds": "0"}, "thresholds holds 0, which switches the cache off", "above 0, at most 1."),
    ({"thresholds": "-0.1"}, "residual_diff_threshold is -0.1;", "must be between 0 and 1."),
    ({"samplers": ""}, "samplers is empty; it takes one or several of these", "euler"),
    ({"samplers": "euler, eulr"}, "samplers holds 'eulr'; it must be one of", "dpmpp_2m"),
    ({"schedulers": ","}, "schedulers is empty; it takes one or several of these", "simple"),
    ({"schedulers": "simpel"}, "schedulers holds 'simpel'; it must be one of", "simple"),
    (
        {"samplers": "euler, heun, dpm_2, lms", "speedups": ", ".join(str(1 + n / 10) for n in range(20))},
        "The grid would have 20 columns (1 x 20: strategies, speedups and thresholds) and 4 rows",
        "64 cells are allowed.",
    ),
]  # fmt: skip


def short(entry: tuple[dict[str, str], str, str]) -> str:
    return str(entry[0])[:60]


@pytest.mark.parametrize(("lists", "said", "allowed"), BAD_LISTS, ids=map(short, BAD_LISTS))
def test_lists_that_make_no_sense_are_answered_before_queueing_and_when_run(
    comfy: ComfyUI, demo: Demo, lists: dict[str, str], said: str, allowed: str
) -> None:
    node: Any = comfy.nodes[NODE]
    answer = node.VALIDATE_INPUTS(**{**LISTS, **lists})
    assert isinstance(answer, str)
    assert answer.startswith(said)
    assert allowed in answer
    with pytest.raises(ValueError, match=r"\S") as caught:
        demo.grid(**lists)
    assert str(caught.value) == answer


def test_lists_that_come_over_a_link_are_not_judged_before_they_are_known(comfy: ComfyUI) -> None:
    node: Any = comfy.nodes[NODE]
    assert node.VALIDATE_INPUTS(**LISTS) is True
    assert node.VALIDATE_INPUTS(**dict.fromkeys(LISTS)) is True
    assert node.VALIDATE_INPUTS(**{**LISTS, "speedups": None, "thresholds": ""}) is True
    assert "holds 'eulr'" in node.VALIDATE_INPUTS(**{**dict.fromkeys(LISTS), "samplers": "eulr"})


def test_a_model_that_cannot_be_cached_is_refused_before_the_work(demo: Demo) -> None:
    model = demo.model.clone()
    model.add_object_patch("diffusion_model", torch.compile(model.model.diffusion_model, backend="eager"))
    with pytest.raises(ValueError, match=r"^There is nothing to compare, because .* compiled as a whole"):
        demo.grid(model)
    with pytest.raises(TypeError, match="Connect the MODEL output"):
        demo.grid(object())


def test_a_file_outside_the_output_folder_is_refused_before_the_work(demo: Demo, comfy: ComfyUI) -> None:
    del comfy.texts.sent[:]
    with pytest.raises(Exception, match="outside the output folder"):
        demo.grid(filename_prefix="../../elsewhere")
    assert comfy.texts.sent == []


def test_a_vae_that_does_not_fit_is_found_before_the_grid_is_drawn(comfy: ComfyUI, demo: Demo) -> None:
    """A tiny SDXL, whose latents have 4 channels; the VAE of the demo model takes 16."""
    del comfy.texts.sent[:]
    conds = {name: tiny_models.conditioning("sdxl", seed=seed) for seed, name in enumerate(("positive", "negative"))}
    with pytest.raises(RuntimeError, match="channels"):
        demo.grid(comfy.model("sdxl"), **conds)
    assert [text for node, text in comfy.texts.sent if node == GRID] == ["Warming up."]


# ---- in a running ComfyUI --------------------------------------------------------------------------------------------


def grid_prompt(**inputs: Any) -> Prompt:
    prompt = picture()
    nodes = {name: prompt[name] for name in ("unet", "vae", "positive", "negative", "latent")}
    connected = {
        "model": ["unet", 0],
        "positive": ["positive", 0],
        "negative": ["negative", 0],
        "latent_image": ["latent", 0],
        "vae": ["vae", 0],
    }
    given = {**connected, **HOW, **LISTS, "filename_prefix": "running/grid", **inputs}
    return {**nodes, GRID: {"class_type": NODE, "inputs": given}}


def saved_numbers(runner: Runner, result: Result) -> dict[str, Any]:
    assert result.status == "success", result.error
    (file,) = runner.images(result)
    return json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))


def test_the_node_is_the_end_of_a_prompt_and_its_outputs_go_on(runner: Runner) -> None:
    prompt = grid_prompt(samplers="euler", schedulers="simple, normal")
    alone = runner.queue(prompt)
    assert len(saved_numbers(runner, alone)["rows"]) == 2
    assert sum(text.split(" ")[1:2] == ["of"] for text in alone.texts_of(GRID)) == 2 * 3
    save = {"class_type": "SaveImage", "inputs": {"images": [GRID, 0], "filename_prefix": "further"}}
    both = runner.queue({**changed(prompt, GRID, seed=8), "save": save})
    assert both.status == "success", both.error
    sizes = set()
    for file in runner.images(both):
        with Image.open(file) as image:
            sizes.add(image.size)
    assert len(runner.images(both)) == 2
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("lists", "said", "allowed"), BAD_LISTS[1::4], ids=[str(entry[0])[:60] for entry in BAD_LISTS[1::4]]
)
def test_bad_lists_are_refused_before_queueing_with_the_allowed_values(
    runner: Runner, lists: dict[str, str], said: str, allowed: str
) -> None:
    result = runner.queue(grid_prompt(**lists))
    assert result.status == "rejected"
    assert result.error is not None
    assert result.error.node == GRID
    assert said in result.error.message
    assert allowed in result.error.message


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("seed", -1), ("cfg", "much"), ("denoise", 0.0)])
def test_bad_numbers_are_refused_before_queueing(runner: Runner, name: str, value: Any) -> None:
    result = runner.queue(grid_prompt(**{name: value}))
    assert result.status == "rejected"
    assert result.error is not None
    assert name in result.error.message


def test_an_interrupted_grid_leaves_the_next_one_as_it_was(runner: Runner) -> None:
    lists = {"strategies": "forecast, classic", "speedups": "2"}
    first = saved_numbers(runner, runner.queue(grid_prompt(**lists, seed=21)))
    running = runner.submit(grid_prompt(**lists, seed=22, steps=5_000))
    time.sleep(4)  # into the sampling
    runner.interrupt()
    interrupted = runner.wait(running)
    assert interrupted.status == "interrupted"
    assert interrupted.texts_of(GRID)
    again = saved_numbers(runner, runner.queue(grid_prompt(**lists, seed=21, filename_prefix="running/again")))
    likeness = [[cell["psnr"] for row in numbers["rows"] for cell in row["cells"]] for numbers in (first, again)]
    assert likeness[0] == likeness[1]


def test_no_file_is_left_of_an_interrupted_grid(runner: Runner) -> None:
    running = runner.submit(grid_prompt(steps=5_000, seed=23, filename_prefix="interrupted/grid"))
    time.sleep(2)
    runner.interrupt()
    assert runner.wait(running).status == "interrupted"
    assert list((runner.base / "output" / "interrupted").glob("*")) == []
