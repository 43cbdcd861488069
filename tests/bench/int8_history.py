"""What a forecast loses because the differences of its history are kept in 8 bits, on the demo model in real ComfyUI.

    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/int8_history.py

A forecast is R1 + w1 (R1 - R2) + w2 (R2 - R3). The pack keeps R1 in fp32 and the two differences in 8 bits; here the
same pictures are drawn from the same seeds with differences in fp32, too. One JSON line per picture, a table at the
end.
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

METHOD = "forecast, speedup"


def pack_module() -> ModuleType:
    """The module of the pack that ComfyUI has loaded, which makes its nodes."""
    return next(module for name, module in sys.modules.items() if name.endswith("wavespeed.nodes"))


def with_exact_differences(native: Any) -> Any:
    """The operators of the pack, except those that make and use a difference: it is a tensor like the residual."""

    def advance(
        residual: torch.Tensor, difference: torch.Tensor, start: torch.Tensor, end: torch.Tensor
    ) -> torch.Tensor:
        difference.copy_(residual)
        total = native.subtract(residual, start, end)
        torch.sub(residual, difference, out=difference)
        return total

    def extrapolate(
        hidden: torch.Tensor, residual: torch.Tensor, d1: torch.Tensor, d2: torch.Tensor, w1: float, w2: float
    ) -> torch.Tensor:
        return hidden + (residual + w1 * d1 + w2 * d2)

    def extrapolate_in_place(hidden: torch.Tensor, *more: Any) -> None:
        hidden.copy_(extrapolate(hidden, *more))

    return dataclasses.replace(
        native,
        advance=advance,
        extrapolate=extrapolate,
        extrapolate_in_place=extrapolate_in_place,
        new_difference=torch.empty_like,
    )


def measure(quality: Quality, engine: Any, operators: dict[str, Any], subject: str, speedup: float) -> dict[str, Any]:
    """operators: those to draw with, by what their differences are in."""
    full = quality.draw(quality.plain, subject, 0, quality.setting.steps)
    pictures = {}
    for name, those in operators.items():
        object.__setattr__(engine, "operations", those)  # the nodes share this engine, which is otherwise immutable
        drawn = quality.draw(quality.model_with(METHOD, speedup), subject, 0, quality.setting.steps)
        pictures[name] = drawn.picture
    return {
        **dataclasses.asdict(quality.setting),
        "subject": subject,
        "speedup": speedup,
        "computed": drawn.computed,
        "psnr_fp32": decibels(pictures["fp32"], full.picture),
        "psnr_int8": decibels(pictures["int8"], full.picture),
        "psnr_int8_of_fp32": decibels(pictures["int8"], pictures["fp32"]),
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
    engine = pack_module().ENGINE
    operators = {"fp32": with_exact_differences(engine.operations), "int8": engine.operations}
    lines = []
    for cfg in chosen.cfg:
        quality = Quality(comfyui, Setting(chosen.steps, cfg, 1.15, "euler", chosen.size))
        for speedup in chosen.speedups:
            for subject in comfyui.choices("WaveSpeedDemoPrompt", "subject")[: chosen.subjects]:
                lines.append(measure(quality, engine, operators, subject, speedup))
                print(json.dumps(lines[-1]), flush=True)
    print("cfg speedup pictures  dB fp32  dB int8  difference (worst)  int8 of fp32")
    for cfg in chosen.cfg:
        for speedup in chosen.speedups:
            of = [line for line in lines if (line["cfg"], line["speedup"]) == (cfg, speedup)]
            lost = [line["psnr_int8"] - line["psnr_fp32"] for line in of]
            names = ("psnr_fp32", "psnr_int8", "psnr_int8_of_fp32")
            fp32, int8, apart = (statistics.mean(line[name] for line in of) for name in names)
            print(
                f"{cfg:3} {speedup:7} {len(of):8} {fp32:8.2f} {int8:8.2f}"
                f" {statistics.mean(lost):+10.3f} ({min(lost):+.3f}) {apart:12.2f}"
            )


if __name__ == "__main__":
    main()
