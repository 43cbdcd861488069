"""The sheet of First Block Cache XY: every picture is on it, nothing is cut off, nothing runs into its neighbour."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image, ImageChops, ImageDraw

from wavespeed import xy_sheet
from wavespeed.xy_plan import LINES_MAX, Column, Plan, Row
from wavespeed.xy_run import Cell, Drawn, DrawnRow, Sampled

LARGEST_SIDE = 16384
"""What browsers show."""


def plan_of(columns: int, rows: int) -> Plan:
    return Plan(
        tuple(Column("forecast", 0.0, 1 + number / 8) for number in range(columns)),
        tuple(Row("res_multistep_ancestral_cfg_pp", f"linear_quadratic {number}") for number in range(rows)),
    )


def drawn(plan: Plan, height: int, width: int, colour: int, psnr: float, steps: int = 10_000) -> Drawn:
    """Numbers as wide as they come."""
    picture = torch.full((height, width, 3), colour, dtype=torch.uint8)
    run = Sampled({}, steps, 59000.0, evaluations=9, computed=9.0)
    return Drawn(run, 1.0, psnr, 0.888, xy_sheet.tile(picture, plan))


def rows_of(plan: Plan, height: int = 64, width: int = 64, psnr: float = 48.8) -> list[DrawnRow]:
    return [
        DrawnRow(
            row,
            drawn(plan, height, width, 1, math.inf),
            [
                Cell(column, drawn(plan, height, width, 2, psnr), drawn(plan, height, width, 3, 38.8))
                for column in plan.columns
            ],
        )
        for row in plan.rows
    ]


def draw(plan: Plan, rows: list[DrawnRow]) -> Image.Image:
    return xy_sheet.Sheet(plan, rows, "Flux · 128 x 128 · 28 steps").draw()


@pytest.mark.parametrize(
    ("columns", "rows", "height", "width"),
    [(1, 1, 64, 64), (3, 2, 720, 1280), (LINES_MAX, 1, 1024, 1024), (1, LINES_MAX, 1280, 720), (8, 8, 8, 2048)],
)
def test_every_picture_is_on_the_sheet(columns: int, rows: int, height: int, width: int) -> None:
    plan = plan_of(columns, rows)
    made = rows_of(plan, height, width)
    image = draw(plan, made)
    assert max(image.size) <= LARGEST_SIDE
    tile = made[0].full.picture.size
    assert max(tile) >= xy_sheet.EDGE_MIN
    assert tile[0] / tile[1] == pytest.approx(width / height, rel=0.5 / min(tile) + 0.01)
    pixels = {colour: count for count, colour in image.getcolors(1 << 16)}
    for colour, count in ((1, rows), (2, columns * rows), (3, columns * rows)):
        assert pixels[colour, colour, colour] == count * tile[0] * tile[1]


def test_the_closer_one_of_two_pictures_is_marked() -> None:
    plan = plan_of(1, 1)
    better = torch.tensor([int(xy_sheet.BETTER[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)

    def marked(psnr: float) -> list[bool]:
        """In the halves of the sheet: the cached one, the one with fewer steps."""
        image = draw(plan, rows_of(plan, psnr=psnr))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(image.height, image.width, 3)
        last_rows = image.height - xy_sheet.MARGIN - xy_sheet.CAPTION
        return [bool((half == better).all(2).any()) for half in (pixels[:last_rows], pixels[last_rows:])]

    assert marked(48.8) == [True, False]
    assert marked(28.8) == [False, True]
    assert marked(38.8) == [False, False]


def test_no_text_runs_into_its_neighbour_or_off_the_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text with the widest numbers, measured where it is drawn, in columns of the least width."""
    ends: list[tuple[float, float, str]] = []
    write = ImageDraw.ImageDraw.text

    def measure(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, fill: str, font: object) -> None:
        ends.append((place[0], pen.textbbox(place, text, font=font)[2], text))
        write(pen, place, text, fill, font)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", measure)
    plan = plan_of(3, 1)
    image = draw(plan, rows_of(plan, height=64, width=16))
    step = xy_sheet.EDGE_MIN + xy_sheet.GAP
    for left, right, text in ends:
        spans = text.startswith(("Flux", "s:", "dB", "res_multistep"))
        limit = image.width - xy_sheet.MARGIN if spans else left + step
        assert right <= limit, f"{text!r} ends {right - limit:.0f} pixels too late"


def test_every_letter_of_a_sheet_has_a_picture_in_the_font() -> None:
    """A letter that the font lacks is drawn as a box, the same for all of them."""

    def letter(text: str) -> Image.Image:
        image = Image.new("L", (40, 40))
        ImageDraw.Draw(image).text((8, 4), text, 255, xy_sheet._font(20))
        return image

    missing = letter("\uffff")
    for text in "·%(),.:_'":
        assert ImageChops.difference(letter(text), missing).getbbox() is not None, text


@pytest.mark.parametrize(
    ("value", "text"), [(0.004, "0.00 s"), (1.234, "1.23 s"), (12.34, "12.3 s"), (123.4, "123 s"), (5900.0, "98 min")]
)
def test_seconds_are_short(value: float, text: str) -> None:
    assert xy_sheet.seconds(value) == text


def test_a_sheet_becomes_an_image_of_comfyui() -> None:
    image = Image.new("RGB", (7, 5), (255, 0, 51))
    tensor = xy_sheet.as_tensor(image)
    assert tensor.shape == (1, 5, 7, 3)
    assert torch.equal(tensor[0, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
