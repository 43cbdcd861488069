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
FULL = ("every step computed,", "no cache")
FEWER = ("no cache, only as", "many steps as were", "computed above")


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
        self._heading(0, headings, FULL)
        self._picture(0, above, row.full, f"{row.full.run.steps} steps · {seconds(row.full.run.seconds)}")
        self._heading(0, below, FEWER)
        for number, cell in enumerate(row.cells, start=1):
            self._heading(number, headings, (cell.column.strategy, cell.column.knob))
            closer, farther = sorted((cell.cached, cell.fewer), key=lambda drawn: -drawn.psnr)
            better = closer if closer.psnr > farther.psnr else None
            for place, drawn, cost in (
                (above, cell.cached, f"{cell.cached.run.share:.0%} computed"),
                (below, cell.fewer, f"{cell.fewer.run.steps} steps"),
            ):
                self._picture(number, place, drawn, f"{cost} · {seconds(drawn.run.seconds)} ({drawn.time_share:.0%})")
                self._likeness(number, place, drawn, BETTER if drawn is better else INK)

    def _heading(self, column: int, top: int, lines: tuple[str, ...]) -> None:
        for line, text in enumerate(lines):
            self.pen.text((self._left(column), top + 4 + 20 * line), text, INK, _font(16))

    def _picture(self, column: int, top: int, drawn: Drawn, caption: str) -> None:
        self.image.paste(drawn.picture, (self._left(column), top))
        self.pen.text((self._left(column), top + self.tile_height + 4), caption, INK, _font(14))

    def _likeness(self, column: int, top: int, drawn: Drawn, colour: str) -> None:
        text = "identical" if math.isinf(drawn.psnr) else f"{drawn.psnr:.1f} dB · SSIM {drawn.ssim:.3f}"
        self.pen.text((self._left(column), top + self.tile_height + 22), text, colour, _font(15))


def as_tensor(image: Image.Image) -> torch.Tensor:
    """As ComfyUI wants an IMAGE: (1, H, W, 3), from 0 to 1."""
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.reshape(1, image.height, image.width, 3).float() / 255
