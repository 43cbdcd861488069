"""First Block Cache XY on the demo model: the grid says what separate runs of core's nodes say."""

from __future__ import annotations

import copy
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from demo_pictures import demo_model
from in_process import COUNTS, assert_nothing_is_left, native_objects_alive
from PIL import Image
from test_bad_input import FasterBlock
from xy_demo import GRID, STEPS, cells

if TYPE_CHECKING:
    from in_process import ComfyUI
    from xy_demo import Demo

WARM_UP_STEPS = 2


def decibels(pictures: torch.Tensor, reference: torch.Tensor) -> float | None:
    error = (pictures.double() - reference.double()).square().mean().item()
    return 10 * math.log10(255**2 / error) if error else None


# ---- the numbers -----------------------------------------------------------------------------------------------------


def test_every_cell_says_what_separate_runs_of_the_nodes_say(comfy: ComfyUI, demo: Demo) -> None:
    lists = {"strategies": "forecast, classic", "speedups": "3", "thresholds": "0.1"}
    returned = demo.grid(**lists, samplers="euler, heun", schedulers="simple, beta")
    found = cells(returned)
    assert len(found) == 16
    assert [(row["sampler"], row["scheduler"]) for row in returned["numbers"]["rows"]] == [
        ("euler", "simple"), ("euler", "beta"), ("heun", "simple"), ("heun", "beta")
    ]  # fmt: skip
    for row, cell in found[::5]:
        full = demo.draw(demo.model, row["sampler"], row["scheduler"])
        setting = {"strategy": cell["strategy"], "speedup": cell["speedup"] or 0.0}
        cached = comfy.cached(demo.model, cell["threshold"] or 0.0, **setting)
        drawn = demo.draw(cached, row["sampler"], row["scheduler"])
        counts = COUNTS.search(comfy.texts.last())
        assert counts is not None
        assert (cell["evaluations"], cell["computed"]) == (int(counts[1]), int(counts[2]))
        assert cell["text"] == comfy.texts.last()
        assert cell["psnr"] == pytest.approx(decibels(drawn, full))
        fewer = cell["fewer_steps"]
        assert fewer["steps"] == round(STEPS * cell["computed"] / cell["evaluations"])
        assert fewer["psnr"] == pytest.approx(
            decibels(demo.draw(demo.model, row["sampler"], row["scheduler"], fewer["steps"]), full)
        )
    for row, cell in found:
        assert row["full"]["steps"] == STEPS
        for measured in (cell, cell["fewer_steps"]):
            assert 0 < measured["ssim"] <= 1
            assert measured["seconds_share"] == pytest.approx(measured["seconds"] / row["full"]["seconds"])
        if cell["speedup"]:
            assert abs(cell["computed"] - cell["evaluations"] / cell["speedup"]) <= 1


def test_the_share_computed_falls_and_the_distance_grows_with_the_speedup(demo: Demo) -> None:
    found = [cell for _, cell in cells(demo.grid(speedups="1.2, 2, 3"))]
    assert [cell["speedup"] for cell in found] == [1.2, 2.0, 3.0]
    for name in ("computed_share", "psnr"):
        values = [cell[name] for cell in found]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 3


def test_a_speedup_of_one_is_the_full_picture_and_needs_no_run_with_fewer_steps(demo: Demo) -> None:
    ((row, cell),) = cells(demo.grid(speedups="1"))
    assert cell["computed_share"] == 1.0
    assert (cell["psnr"], cell["ssim"]) == (None, pytest.approx(1.0))
    assert cell["fewer_steps"] == {
        "steps": STEPS, "seconds": row["full"]["seconds"], "seconds_share": 1.0, "psnr": None,
        "ssim": pytest.approx(1.0),
    }  # fmt: skip


def test_every_full_and_every_shorter_run_is_made_once(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    import nodes

    runs: list[tuple[int, str]] = []
    sample = nodes.common_ksampler

    def counted(model: Any, seed: int, steps: int, cfg: float, sampler: str, *others: Any, **more: Any) -> Any:
        runs.append((steps, sampler))
        return sample(model, seed, steps, cfg, sampler, *others, **more)

    monkeypatch.setattr(nodes, "common_ksampler", counted)
    demo.grid(strategies="forecast, classic", speedups="2, 1", samplers="euler, dpmpp_2m")
    for sampler in ("euler", "dpmpp_2m"):
        of_sampler = sorted(steps for steps, name in runs if name == sampler and steps > 2)
        assert of_sampler == [STEPS // 2, *[STEPS] * 5], "one shorter run, the full run, four with a cache"


def test_all_pictures_of_a_batch_are_compared(comfy: ComfyUI, demo: Demo) -> None:
    returned = demo.grid(batch=3, samplers="dpmpp_2m")
    assert [returned["numbers"][name] for name in ("pictures", "height", "width")] == [3, 128, 128]
    ((_, cell),) = cells(returned)
    cached = comfy.cached(demo.model, 0.0, strategy="forecast", speedup=2.0)
    both = (demo.draw(model, "dpmpp_2m", "simple", batch=3) for model in (cached, demo.model))
    assert cell["psnr"] == pytest.approx(decibels(*both))


def test_a_part_of_the_noise_is_as_at_the_sampler(demo: Demo) -> None:
    returned = demo.grid(denoise=0.5)
    assert returned["numbers"]["denoise"] == 0.5
    assert cells(returned)[0][1]["evaluations"] == STEPS


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_sde", "uni_pc", "res_multistep", "lcm"])
def test_other_samplers_have_a_row_too(demo: Demo, sampler: str) -> None:
    ((_, cell),) = cells(demo.grid(samplers=sampler))
    assert 0 < cell["computed"] < cell["evaluations"]


def test_evaluations_in_which_the_model_is_being_discovered_count_as_computed(
    comfy: ComfyUI, demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(comfy.engine().architectures, "Flux")
    comfy.engine().discovered.clear()
    try:
        first, second = (cell for _, cell in cells(demo.grid(speedups="2, 3")))
    finally:
        comfy.engine().discovered.clear()
    assert "to find the model's blocks" in first["text"]
    assert first["evaluations"] == second["evaluations"] == STEPS
    assert STEPS // 2 <= first["computed"] < STEPS
    assert first["fewer_steps"]["steps"] == first["computed"]


def test_a_model_that_turns_out_to_pass_through_is_told_and_equals_the_full_run(comfy: ComfyUI, demo: Demo) -> None:
    model = demo_model(comfy)
    blocks = model.model.diffusion_model.double_blocks
    for number, block in enumerate(blocks):
        blocks[number] = FasterBlock(block)
    ((_, cell),) = cells(demo.grid(model))
    assert (cell["evaluations"], cell["computed"], cell["psnr"]) == (STEPS, STEPS, None)
    assert "1 cell; in 0 the cache is closer" in comfy.texts.last()
    assert comfy.texts.last().endswith(cell["text"])
    assert "another pack has replaced blocks" in cell["text"]


# ---- the sheet and the files -----------------------------------------------------------------------------------------


def test_the_grid_and_its_numbers_are_saved_and_shown(comfy: ComfyUI, demo: Demo) -> None:
    returned = demo.grid(speedups="2, 3", filename_prefix="grids/mine")
    (shown,) = returned["ui"]["images"]
    assert shown == {"filename": "mine_00001_.png", "subfolder": "grids", "type": "output"}
    folder = comfy.base / "output" / "grids"
    assert (folder / "mine_00001_.json").read_text(encoding="utf-8").rstrip() == returned["result"][1]
    image, _ = returned["result"]
    with Image.open(folder / "mine_00001_.png") as saved:
        data = torch.frombuffer(bytearray(saved.tobytes()), dtype=torch.uint8).reshape(saved.height, saved.width, 3)
    assert torch.equal((image[0] * 255).round().to(torch.uint8), data)
    assert demo.grid(filename_prefix="grids/mine")["ui"]["images"][0]["filename"] == "mine_00002_.png"


def test_the_node_tells_every_picture_and_at_the_end_what_came_of_it(comfy: ComfyUI, demo: Demo) -> None:
    del comfy.texts.sent[:]
    demo.grid(speedups="2, 3", filename_prefix="grids/told")
    texts = [text for node, text in comfy.texts.sent if node == GRID]
    assert texts[0] == "Warming up."
    assert texts[1:6] == [
        "1 of 5 · euler, simple · every step computed",
        "2 of 5 · euler, simple · forecast, speedup 2",
        "3 of 5 · euler, simple · 6 steps without a cache",
        "4 of 5 · euler, simple · forecast, speedup 3",
        "5 of 5 · euler, simple · 4 steps without a cache",
    ]
    assert texts[6] == "Decoding and comparing the pictures."
    assert re.fullmatch(
        r"2 cells; in [012] the cache is closer to the full run than fewer steps · "
        r"saved as grids/told_00001_\.png and \.json",
        texts[7],
    )


def test_a_picture_that_is_not_square_keeps_its_shape(demo: Demo) -> None:
    returned = demo.grid(width=32)
    assert (returned["numbers"]["height"], returned["numbers"]["width"]) == (128, 256)


# ---- what stays as it was --------------------------------------------------------------------------------------------


def test_the_callers_model_stays_as_it_was(demo: Demo) -> None:
    model = demo.model.clone()
    options = copy.deepcopy(model.model_options)
    wrappers = copy.deepcopy(model.wrappers)
    names = list(model.model.diffusion_model.state_dict())
    demo.grid(model)
    assert model.model_options == options
    assert model.wrappers == wrappers
    assert list(model.model.diffusion_model.state_dict()) == names
    assert_nothing_is_left(model)
    assert native_objects_alive() == 0


def test_a_cache_that_stands_before_the_node_is_left_out_and_kept(comfy: ComfyUI, demo: Demo) -> None:
    cached = comfy.call("WaveSpeedFirstBlockCache", model=demo.model, speedup=4.0, unique_id="before")
    before, plain = (demo.grid(model) for model in (cached, demo.model))
    for (_, one), (_, other) in zip(cells(before), cells(plain), strict=True):
        assert {name: one[name] for name in ("psnr", "ssim", "text")} == {
            name: other[name] for name in ("psnr", "ssim", "text")
        }
    demo.draw(cached, "euler", "simple")
    assert "asked 25 %" in comfy.texts.last()


def test_a_run_that_fails_leaves_nothing_behind(demo: Demo) -> None:
    """In the middle of the run with the cache, behind the warm-up and the full run."""
    model = demo.model.clone()
    calls = 0

    def fail_late(apply_model: Any, arguments: dict[str, Any]) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2 * WARM_UP_STEPS + STEPS + STEPS // 2:
            raise RuntimeError("no more")
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(fail_late)
    del demo.comfy.texts.sent[:]
    with pytest.raises(RuntimeError, match="no more"):
        demo.grid(model)
    assert demo.comfy.texts.last() == "2 of 3 · euler, simple · forecast, speedup 2"
    assert_nothing_is_left(model)
    assert native_objects_alive() == 0
    assert cells(demo.grid())[0][1]["computed"] == STEPS // 2
