"""The sampling runs of a grid of First Block Cache XY, and what they came to.

All runs are sampled before the first is decoded: decoding may push the model out of the GPU's memory, and bringing it
back would count as time of the next run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from . import report, xy_sheet
from .first_block_cache import CACHE_DEVICES, with_cache, without_cache
from .picture_quality import psnr, ssim
from .run import Settings

if TYPE_CHECKING:
    from PIL import Image

    from .run import Engine, Run
    from .xy_plan import Column, Plan, Row

WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Inputs:
    """What all runs have in common: what core's KSampler and VAE Decode are given."""

    model: Any
    positive: Any
    negative: Any
    latent_image: dict[str, Any]
    vae: Any
    seed: int
    steps: int
    cfg: float
    denoise: float


@dataclass(frozen=True)
class Sampled:
    latent: dict[str, Any]
    steps: int
    seconds: float
    """Of sampling alone."""
    evaluations: int = 0
    """Of the model, and how many of them were computed; counted where there is a cache."""
    computed: float = 0.0
    text: str = ""
    """What the cache said."""

    @property
    def share(self) -> float:
        """Of the evaluations, computed."""
        return self.computed / self.evaluations if self.evaluations else 1.0


@dataclass(frozen=True)
class Drawn:
    """A run with its picture and its likeness to the full run of its row."""

    run: Sampled
    time_share: float
    """Of the seconds of the full run."""
    psnr: float
    ssim: float
    picture: Image.Image
    """One of them, in the size in which the sheet shows it."""


@dataclass(frozen=True)
class Cell:
    column: Column
    cached: Drawn
    fewer: Drawn
    """No cache, only as many steps as the cache computed."""


@dataclass(frozen=True)
class DrawnRow:
    row: Row
    full: Drawn
    cells: list[Cell]


@dataclass(frozen=True)
class SampledRow:
    row: Row
    cached: list[tuple[Column, Sampled]]
    plain: dict[int, Sampled]
    """Runs without a cache, by their number of steps."""


class Grid:
    def __init__(self, engine: Engine, inputs: Inputs, plan: Plan, node_id: str | None) -> None:
        self.engine = engine
        self.inputs = inputs
        self.plan = plan
        self.node_id = node_id
        self.plain = without_cache(inputs.model)
        self.shape: tuple[int, ...] = ()
        """(N, H, W) of the pictures of a run, known after the first."""
        self.told = 0

    def run(self) -> list[DrawnRow]:
        self._warm_up()
        sampled = [self._sample_row(row) for row in self.plan.rows]
        report.show_on_node("Decoding and comparing the pictures.", self.node_id)
        return [self._draw_row(row) for row in sampled]

    def _warm_up(self) -> None:
        """Loads the model, so that the first run is not slower than the others, and finds a VAE that does not fit
        before the time for the whole grid has been spent. Decoding may unload the model, hence twice."""
        report.show_on_node("Warming up.", self.node_id)
        row = self.plan.rows[0]
        pictures = self._decode(self._sample(self.plain, row, WARM_UP_STEPS))
        self.shape = tuple(pictures.shape[:3])
        self._sample(self.plain, row, WARM_UP_STEPS)

    # ---- sampling ----------------------------------------------------------------------------------------------------

    def _sample_row(self, row: Row) -> SampledRow:
        steps = self.inputs.steps
        self._tell(row, "every step computed")
        plain = {steps: self._sample(self.plain, row, steps)}
        cached = []
        for column in self.plan.columns:
            self._tell(row, f"{column.strategy}, {column.knob}")
            run = self._sample_cached(row, column)
            cached.append((column, run))
            fewer = fewer_steps(run)
            self._tell(row, f"{fewer} steps without a cache")
            if fewer not in plain:
                plain[fewer] = self._sample(self.plain, row, fewer)
        return SampledRow(row, cached, plain)

    def _tell(self, row: Row, what: str) -> None:
        """Once per picture of the sheet, also for those that need no run of their own."""
        self.told += 1
        pictures = len(self.plan.rows) * (1 + 2 * len(self.plan.columns))
        report.show_on_node(f"{self.told} of {pictures} · {row.sampler}, {row.scheduler} · {what}", self.node_id)

    def _sample(self, model: Any, row: Row, steps: int) -> Sampled:
        import nodes

        inputs = self.inputs
        begun = time.perf_counter()
        (latent,) = nodes.common_ksampler(
            model,
            inputs.seed,
            steps,
            inputs.cfg,
            row.sampler,
            row.scheduler,
            inputs.positive,
            inputs.negative,
            inputs.latent_image,
            denoise=inputs.denoise,
        )
        # Waits for the GPU, also where ComfyUI keeps results there.
        latent["samples"] = latent["samples"].to("cpu")
        return Sampled(latent, steps, time.perf_counter() - begun)

    def _sample_cached(self, row: Row, column: Column) -> Sampled:
        counted: list[tuple[int, float, str]] = []

        def count(run: Run) -> None:
            counted.append((run.evaluations, run.computed(), run.text()))

        settings = Settings(
            object_to_patch="diffusion_model",
            threshold=column.threshold,
            start=0.0,
            end=1.0,
            max_consecutive_hits=-1,
            strategy=column.strategy,
            speedup=column.speedup,
            cache_device=CACHE_DEVICES[0],
            node_id=None,
        )
        model = with_cache(self.engine, self.inputs.model, settings, count)
        run = self._sample(model, row, self.inputs.steps)
        evaluations, computed, text = counted[-1] if counted else (0, 0.0, "")
        return Sampled(run.latent, run.steps, run.seconds, evaluations, computed, text)

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def _draw_row(self, sampled: SampledRow) -> DrawnRow:
        full = sampled.plain[self.inputs.steps]
        pictures = self._decode(full)
        plain = {
            steps: self._compare(run, pictures if run is full else self._decode(run), full, pictures)
            for steps, run in sampled.plain.items()
        }
        cells = [
            Cell(column, self._compare(run, self._decode(run), full, pictures), plain[fewer_steps(run)])
            for column, run in sampled.cached
        ]
        return DrawnRow(sampled.row, plain[self.inputs.steps], cells)

    def _decode(self, run: Sampled) -> torch.Tensor:
        """(N, H, W, 3), 8 bit as core's Save Image rounds: pictures of a batch, frames of a video."""
        import comfy.model_management
        import nodes

        comfy.model_management.throw_exception_if_processing_interrupted()
        (pictures,) = nodes.VAEDecode().decode(self.inputs.vae, run.latent)
        return pictures[..., :3].mul(255).clamp(0, 255).to("cpu", torch.uint8)

    def _compare(self, run: Sampled, pictures: torch.Tensor, full: Sampled, reference: torch.Tensor) -> Drawn:
        return Drawn(
            run=run,
            time_share=run.seconds / full.seconds,
            psnr=psnr(pictures, reference),
            ssim=ssim(pictures, reference),
            picture=xy_sheet.tile(pictures[len(pictures) // 2], self.plan),
        )


def fewer_steps(run: Sampled) -> int:
    """How many steps without a cache cost what this run did, counted in computed evaluations."""
    return max(1, round(run.steps * run.share))
