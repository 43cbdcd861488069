"""What a forecast loses when the differences of its history are kept in 8 bits, on the demo model in real ComfyUI.

    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/int8_history.py

A forecast is R1 + w1 (R1 - R2) + w2 (R2 - R3). Here R1 stays in fp32 and the two differences are rounded to 8 bits with
a scale per token, as they would be if they were kept that way: each is rounded once, from residuals that are not. Both
ways draw the same pictures from the same seeds. One JSON line per picture, a table at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from quality import Quality, Setting, decibels

from comfyui_here import ComfyUIHere

if TYPE_CHECKING:
    from types import ModuleType

LARGEST = 127
METHOD = "forecast, speedup"


def in_8_bits(difference: torch.Tensor) -> torch.Tensor:
    """difference (..., width) as int8 times a scale per token would give it back."""
    scale = difference.abs().amax(-1, keepdim=True) / LARGEST
    return (difference / scale.clamp_min(torch.finfo(torch.float32).tiny)).round().to(torch.int8) * scale


class Differences:
    """Takes the place of combine_in_place: with differences in fp32, or in 8 bits."""

    def __init__(self) -> None:
        self.rounded = False
        self.errors: list[float] = []
        """Of the forecast residual, relative to its size, per hit and prompt."""

    def __call__(
        self, hidden: torch.Tensor, r1: torch.Tensor, r2: torch.Tensor, r3: torch.Tensor,
        c1: float, c2: float, c3: float,
    ) -> None:  # fmt: skip
        newer, older = r1 - r2, r2 - r3
        exact = r1 + (c1 - 1) * newer - c3 * older
        if self.rounded:
            forecast = r1 + (c1 - 1) * in_8_bits(newer) - c3 * in_8_bits(older)
            self.errors.append(((forecast - exact).norm() / exact.norm()).item())
        hidden.add_(forecast if self.rounded else exact)


def pack_module() -> ModuleType:
    """The module of the pack that ComfyUI has loaded, which makes its nodes."""
    return next(module for name, module in sys.modules.items() if name.endswith("wavespeed.nodes"))


def measure(quality: Quality, differences: Differences, subject: str, speedup: float) -> dict[str, Any]:
    full = quality.draw(quality.plain, subject, 0, quality.setting.steps)
    pictures = {}
    differences.errors.clear()
    for rounded in (False, True):
        differences.rounded = rounded
        drawn = quality.draw(quality.model_with(METHOD, speedup), subject, 0, quality.setting.steps)
        pictures[rounded] = drawn.picture
    return {
        **dataclasses.asdict(quality.setting),
        "subject": subject,
        "speedup": speedup,
        "computed": drawn.computed,
        "psnr_fp32": decibels(pictures[False], full.picture),
        "psnr_int8": decibels(pictures[True], full.picture),
        "psnr_int8_of_fp32": decibels(pictures[True], pictures[False]),
        "relative_error_of_forecasts": statistics.mean(differences.errors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=6)
    parser.add_argument("--speedups", type=float, nargs="+", default=[2.0, 3.0])
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--size", type=int, default=128)
    chosen = parser.parse_args()
    comfyui = ComfyUIHere()
    engine, differences = pack_module().ENGINE, Differences()
    replaced = dataclasses.replace(engine.operations, combine_in_place=differences)
    object.__setattr__(engine, "operations", replaced)  # the nodes share this one, which is otherwise immutable
    lines = []
    for cfg in chosen.cfg:
        quality = Quality(comfyui, Setting(chosen.steps, cfg, 1.15, "euler", chosen.size))
        for speedup in chosen.speedups:
            for subject in comfyui.choices("WaveSpeedDemoPrompt", "subject")[: chosen.subjects]:
                lines.append(measure(quality, differences, subject, speedup))
                print(json.dumps(lines[-1]), flush=True)
    print("cfg speedup pictures  dB fp32  dB int8  difference (worst)  int8 of fp32  error of a forecast")
    for cfg in chosen.cfg:
        for speedup in chosen.speedups:
            of = [line for line in lines if (line["cfg"], line["speedup"]) == (cfg, speedup)]
            lost = [line["psnr_int8"] - line["psnr_fp32"] for line in of]
            mean = {
                name: statistics.mean(line[name] for line in of)
                for name in ("psnr_fp32", "psnr_int8", "psnr_int8_of_fp32", "relative_error_of_forecasts")
            }
            print(
                f"{cfg:3} {speedup:7} {len(of):8} {mean['psnr_fp32']:8.2f} {mean['psnr_int8']:8.2f}"
                f" {statistics.mean(lost):+10.3f} ({min(lost):+.3f}) {mean['psnr_int8_of_fp32']:12.2f}"
                f" {mean['relative_error_of_forecasts']:20.1e}"
            )


if __name__ == "__main__":
    main()
