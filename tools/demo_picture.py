"""The comparison sheet of the demo: a row per subject, a column per way of drawing it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from pathlib import Path

    from demo_runs import Variant

TILE = 160
GAP = 12
CAPTION = 38
MARGIN = 20
HEADER = 50
TITLE = 44

PAPER, INK, FAINT, CACHE = "#ffffff", "#1b1f24", "#6a737d", "#0b6e4f"
COLOURS_TO_TRY = (256, 192, 128, 96, 64)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def decibels(value: float) -> str:
    return "identical" if math.isinf(value) else f"{value:.1f} dB"


def sheet(variants: list[Variant], subjects: tuple[str, ...], title: str, footer: str) -> Image.Image:
    width = 2 * MARGIN + len(variants) * (TILE + GAP) - GAP
    height = 2 * MARGIN + TITLE + HEADER + len(subjects) * (TILE + CAPTION + GAP) + 18
    image = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN), title, INK, _font(19))
    for column, variant in enumerate(variants):
        left = MARGIN + column * (TILE + GAP)
        colour = INK if variant.cache is None else CACHE
        for line, text in enumerate(_heading(variant)):
            pen.text((left, MARGIN + TITLE + 20 * line), text, colour, _font(15))
        for row, subject in enumerate(subjects):
            top = MARGIN + TITLE + HEADER + row * (TILE + CAPTION + GAP)
            with Image.open(variant.pictures[subject].file) as picture:
                image.paste(picture.convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC), (left, top))
            first, second = _caption(variant, subject)
            pen.text((left, top + TILE + 3), first, colour, _font(14))
            pen.text((left, top + TILE + 20), second, FAINT, _font(13))
    pen.text((MARGIN, height - MARGIN - 10), footer, FAINT, _font(13))
    return image


def _heading(variant: Variant) -> tuple[str, ...]:
    if variant.cache is not None:
        return "First Block Cache,", f"{variant.cache}"
    if variant.psnr:
        return "no cache, run with", "only as many steps"
    return "every step computed,", "no cache"


def _caption(variant: Variant, subject: str) -> tuple[str, str]:
    picture = variant.pictures[subject]
    if variant.cache is not None:
        return f"{picture.computed} computed, {picture.reused} reused", decibels(variant.psnr[subject])
    if variant.psnr:
        return f"{picture.computed} steps", decibels(variant.psnr[subject])
    return f"{picture.computed} steps", subject


def save_small(image: Image.Image, target: Path, limit: int) -> None:
    """As a PNG of at most limit bytes, with as many colours as fit."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for colours in COLOURS_TO_TRY:
        reduced = image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(target, optimize=True)
        if target.stat().st_size <= limit:
            return
    raise ValueError(f"{target.name} has {target.stat().st_size} bytes with {colours} colours; the limit is {limit}.")
