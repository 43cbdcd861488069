"""The sheet of First Block Cache XY: a row per sampler and scheduler, a column per setting of the cache.

A row has two lines of pictures. Above: computed in full, then with the cache. Below each of the latter: no cache, only
as many steps as the cache computed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from .xy_plan import Plan
    from .xy_run import Drawn, DrawnRow

LARGEST_SHEET = 8000
"""Pixels of width and of height that the size of the pictures aims at; browsers refuse much larger ones."""
EDGE_MIN, EDGE_MAX = 200, 448
GAP, MARGIN = 16, 24
TITLE, HEADING, BAND, CAPTION = 74, 52, 40, 46
PAPER, INK, FAINT, RULE, BETTER = "#ffffff", "#1b1f24", "#5c6570", "#d5dae0", "#0b6e4f"
BELOW = ("no cache, only as", "many steps as were", "computed above")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def tile(picture: torch.Tensor, plan: Plan) -> Image.Image:
    """The picture (H, W, 3), 8 bit, in the size in which the sheet shows it: smaller in a larger grid."""
    height, width = picture.shape[:2]
    across, down = 1 + len(plan.columns), 2 * len(plan.rows)
    room = min(LARGEST_SHEET // across - GAP, LARGEST_SHEET // down - CAPTION - GAP)
    edge = max(EDGE_MIN, min(EDGE_MAX, room, max(height, width)))
    scale = edge / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(picture.numpy()).resize(size, Image.Resampling.LANCZOS)


def decibels(value: float) -> str:
    return "identical" if math.isinf(value) else f"{value:.1f} dB"


def seconds(value: float) -> str:
    if value < 100:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    return f"{value:.0f} s" if value < 1000 else f"{value / 60:.0f} min"


class Sheet:
    """Draws what a grid came to. heading: what all runs have in common."""

    def __init__(self, plan: Plan, rows: list[DrawnRow], heading: str) -> None:
        self.plan = plan
        self.rows = rows
        self.heading = heading
        self.tile_width, self.tile_height = rows[0].full.picture.size
        self.column_width = max(self.tile_width, EDGE_MIN)
        """Captions need as much under a narrow picture."""

    def draw(self) -> Image.Image:
        self.image = Image.new("RGB", self._size(), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self._title()
        top = MARGIN + TITLE
        for row in self.rows:
            self._row(row, top)
            top += self._row_height()
        return self.image

    def _size(self) -> tuple[int, int]:
        width = 2 * MARGIN + (1 + len(self.plan.columns)) * (self.column_width + GAP) - GAP
        return width, 2 * MARGIN + TITLE + len(self.rows) * self._row_height() - GAP

    def _row_height(self) -> int:
        return BAND + HEADING + 2 * (self.tile_height + CAPTION) + GAP

    def _left(self, column: int) -> int:
        """Column 0 is the full run."""
        return MARGIN + column * (self.column_width + GAP)

    def _title(self) -> None:
        self.pen.text((MARGIN, MARGIN - 4), self.heading, INK, _font(20))
        legend = (
            "s: seconds of sampling, and their share of the full run's",
            "dB (PSNR) and SSIM: likeness to the full run; higher is closer. Green: closer than its counterpart",
        )
        for line, text in enumerate(legend):
            self.pen.text((MARGIN, MARGIN + 25 + 18 * line), text, FAINT, _font(13))

    def _row(self, row: DrawnRow, top: int) -> None:
        self.pen.line((MARGIN, top + 4, self.image.width - MARGIN, top + 4), RULE, 1)
        self.pen.text((MARGIN, top + 11), f"{row.row.sampler}, {row.row.scheduler}", INK, _font(18))
        headings = top + BAND
        above = headings + HEADING
        below = above + self.tile_height + CAPTION
        self._heading(0, headings, "every step computed,", "no cache", INK)
        self._picture(0, above, row.full, f"{row.full.run.steps} steps · {seconds(row.full.run.seconds)}", INK)
        for line, text in enumerate(BELOW):
            self.pen.text((self._left(0), below + 4 + 20 * line), text, INK, _font(16))
        for number, cell in enumerate(row.cells, start=1):
            self._heading(number, headings, cell.column.strategy, cell.column.knob, INK)
            cached, fewer = cell.cached, cell.fewer
            better = cached if cached.psnr > fewer.psnr else fewer if fewer.psnr > cached.psnr else None
            for top_of_tile, drawn, cost in (
                (above, cached, f"{cached.run.share:.0%} computed"),
                (below, fewer, f"{fewer.run.steps} steps"),
            ):
                caption = f"{cost} · {seconds(drawn.run.seconds)} ({drawn.time_share:.0%})"
                colour = BETTER if drawn is better else INK
                self._picture(number, top_of_tile, drawn, caption, colour, likeness(drawn))

    def _heading(self, column: int, top: int, first: str, second: str, colour: str) -> None:
        for line, text in enumerate((first, second)):
            self.pen.text((self._left(column), top + 4 + 20 * line), text, colour, _font(16))

    def _picture(self, column: int, top: int, drawn: Drawn, caption: str, colour: str, likeness: str = "") -> None:
        left = self._left(column)
        self.image.paste(drawn.picture, (left, top))
        self.pen.text((left, top + self.tile_height + 4), caption, INK, _font(14))
        self.pen.text((left, top + self.tile_height + 22), likeness, colour, _font(15))


def likeness(drawn: Drawn) -> str:
    return decibels(drawn.psnr) if math.isinf(drawn.psnr) else f"{decibels(drawn.psnr)} · SSIM {drawn.ssim:.3f}"


def as_tensor(image: Image.Image) -> torch.Tensor:
    """As ComfyUI wants an IMAGE: (1, H, W, 3), from 0 to 1."""
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.reshape(1, image.height, image.width, 3).float() / 255
