"""The node "First Block Cache XY": checks its lists, runs the grid, and saves the sheet and the numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import architecture, report, xy_plan
from .first_block_cache import STRATEGIES_WITH_SPEEDUP, check_patcher
from .xy_run import Grid, Inputs
from .xy_sheet import Sheet, as_tensor

if TYPE_CHECKING:
    from .run import Engine
    from .xy_plan import Plan
    from .xy_run import Cell, Drawn, DrawnRow

LISTS = ("strategies", "speedups", "thresholds", "samplers", "schedulers")


class FirstBlockCacheXY:
    """Implementation of the node WaveSpeedFirstBlockCacheXY."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def validate(
        self,
        strategies: str | None = None,
        speedups: str | None = None,
        thresholds: str | None = None,
        samplers: str | None = None,
        schedulers: str | None = None,
    ) -> bool | str:
        """Before queueing: True, or the sentence that ComfyUI shows on the node. Linked lists arrive as None."""
        texts = (strategies, speedups, thresholds, samplers, schedulers)
        try:
            for name, text in zip(LISTS, texts, strict=True):
                if text is not None:
                    self._read(name, text)
            if None not in texts:
                self._plan(*texts)
        except ValueError as problem:
            return str(problem)
        return True

    def _plan(self, *texts: Any) -> Plan:
        return xy_plan.make_plan(*(self._read(name, text) for name, text in zip(LISTS, texts, strict=True)))

    def _read(self, name: str, text: str) -> list[Any]:
        from comfy.samplers import KSampler

        if name == "speedups":
            return xy_plan.read_numbers(name, text, "1.5, 2, 3", self.engine.core.check_speedup)
        if name == "thresholds":
            return xy_plan.read_numbers(name, text, "0.06, 0.1", self._check_threshold)
        allowed = {
            "strategies": STRATEGIES_WITH_SPEEDUP,
            "samplers": KSampler.SAMPLERS,
            "schedulers": KSampler.SCHEDULERS,
        }
        return xy_plan.read_names(name, text, allowed[name])

    def _check_threshold(self, threshold: float) -> None:
        if not self.engine.core.check_options(threshold, 0.0, 1.0, -1):
            raise ValueError("thresholds holds 0, which switches the cache off; it takes numbers above 0, at most 1.")

    def run(
        self,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        vae: Any,
        seed: int,
        steps: int,
        cfg: float,
        denoise: float,
        strategies: str,
        speedups: str,
        thresholds: str,
        samplers: str,
        schedulers: str,
        filename_prefix: str,
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        import folder_paths

        plan = self._plan(strategies, speedups, thresholds, samplers, schedulers)
        check_patcher(model)
        try:
            architecture.find(self.engine.architectures, model.get_model_object("diffusion_model"))
        except architecture.UnsupportedModelError as problem:
            raise ValueError(
                f"There is nothing to compare, because the cache leaves this model alone: {problem}."
            ) from None
        # Asked before the work is done: a prefix that leads out of the folder is refused here.
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        inputs = Inputs(model, positive, negative, latent_image, vae, seed, steps, cfg, denoise)
        grid = Grid(self.engine, inputs, plan, unique_id)
        rows = grid.run()
        facts = {
            "model": type(model.model).__name__,
            "steps": steps,
            "cfg": cfg,
            "denoise": denoise,
            "seed": seed,
            **dict(zip(("pictures", "height", "width"), grid.shape, strict=True)),
        }
        sheet = Sheet(plan, rows, heading(**facts)).draw()
        text = json.dumps({**facts, "rows": [_row_numbers(row) for row in rows]}, indent=1, allow_nan=False)
        stem = f"{name}_{counter:05}_"
        sheet.save(Path(folder) / f"{stem}.png")
        (Path(folder) / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
        report.tell(summary(rows, Path(subfolder) / stem), unique_id, "First Block Cache XY")
        shown = [{"filename": f"{stem}.png", "subfolder": subfolder, "type": "output"}]
        return {"ui": {"images": shown}, "result": (as_tensor(sheet), text)}


def heading(
    model: str, steps: int, cfg: float, denoise: float, seed: int, pictures: int, height: int, width: int
) -> str:
    """For example: Flux · 128 x 128 · 28 steps · cfg 3 · seed 7"""
    size = f"{width} x {height}" + (f" x {pictures}" if pictures > 1 else "")
    denoised = f" · denoise {denoise:g}" if denoise < 1 else ""
    return f"{model} · {size} · {steps} steps · cfg {cfg:g}{denoised} · seed {seed}"


def summary(rows: list[DrawnRow], file: Path) -> str:
    cells = [cell for row in rows for cell in row.cells]
    closer = sum(cell.cached.psnr > cell.fewer.psnr for cell in cells)
    reasons = {cell.cached.run.text for cell in cells if "Passed through" in cell.cached.run.text}
    counted = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    text = (
        f"{counted}; in {closer} the cache is closer to the full run than fewer steps · saved as {file}.png and .json"
    )
    return " | ".join([text, *sorted(reasons)])


def _row_numbers(row: DrawnRow) -> dict[str, Any]:
    """As saved beside the sheet. psnr is null where pictures are equal."""
    return {
        "sampler": row.row.sampler,
        "scheduler": row.row.scheduler,
        "full": {"steps": row.full.run.steps, "seconds": row.full.run.seconds},
        "cells": [_cell_numbers(cell) for cell in row.cells],
    }


def _cell_numbers(cell: Cell) -> dict[str, Any]:
    column, run = cell.column, cell.cached.run
    return {
        "strategy": column.strategy,
        "speedup": column.speedup or None,
        "threshold": column.threshold or None,
        "evaluations": run.evaluations,
        "computed": run.computed,
        "computed_share": run.share,
        **_measured(cell.cached),
        "text": run.text,
        "fewer_steps": {"steps": cell.fewer.run.steps, **_measured(cell.fewer)},
    }


def _measured(drawn: Drawn) -> dict[str, Any]:
    return {
        "seconds": drawn.run.seconds,
        "seconds_share": drawn.time_share,
        "psnr": None if math.isinf(drawn.psnr) else drawn.psnr,
        "ssim": drawn.ssim,
    }
