"""The table and the plot of the lines that quality.py wrote.

    build/venv/bin/python tests/bench/quality_table.py build/quality.jsonl --plot build/quality.png

Per picture, the likeness at 33 to 70 % of the evaluations computed is read off between the values of a method's knob; a
method whose values do not reach a share for a picture has no number for it. Differences to fewer steps are over the
same pictures, with a bootstrap over them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHARES = (0.7, 0.6, 0.5, 0.4, 0.33)
BASELINE = "fewer steps"
IDENTICAL = 100.0
"""dB that stand for a picture that equals its reference: 8-bit pictures are equal far below."""
RESAMPLES = 2000
SETTING = ("steps", "cfg", "shift", "sampler", "size")
COLOURS = (
    *("#1b1f24", "#a371f7", "#b35900", "#c9a227", "#9ecbff", "#2f81f7", "#8ddbb0", "#0b6e4f", "#f5b5c8", "#d6336c"),
    *("#ff5fa2", "#6a737d", "#ff8a3d", "#cf222e", "#1b7f83"),
)
"""One for each method that quality.py knows."""
PAPER, INK, GRID = "#ffffff", "#1b1f24", "#d8dee4"

Curve = dict[tuple[str, int], np.ndarray]
"""Per picture (subject, seed): likeness in dB at each of the shares, NaN where a method does not reach it."""


def read_off(points: list[tuple[float, float]], shares: tuple[float, ...] = SHARES) -> np.ndarray:
    """points: (share computed, dB) of one picture and method, in any order; equal shares are averaged."""
    by_share: dict[float, list[float]] = defaultdict(list)
    for share, decibels in points:
        by_share[share].append(decibels)
    known = sorted(by_share)
    values = [float(np.mean(by_share[share])) for share in known]
    return np.interp(shares, known, values, left=np.nan, right=np.nan)


def curves(lines: list[dict[str, Any]], reference: str) -> dict[str, Curve]:
    points: dict[str, dict[tuple[str, int], list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        decibels = IDENTICAL if line[reference] is None else line[reference]
        share = line["computed"] / line["evaluations"]
        points[line["method"]][line["subject"], line["seed"]].append((share, decibels))
    return {
        method: {picture: read_off(found) for picture, found in pictures.items()}
        for method, pictures in points.items()
        if method != "full"
    }


def gain(curve: Curve, baseline: Curve) -> list[tuple[float, float, float]]:
    """(mean, 2.5 %, 97.5 %) of the difference per share, over the pictures that both have."""
    common = sorted(set(curve) & set(baseline))
    differences = np.stack([curve[picture] - baseline[picture] for picture in common])
    chosen = np.random.default_rng(0).integers(0, len(common), (RESAMPLES, len(common)))
    found = []
    for column in differences.T:
        means = np.array([np.nanmean(sample) if not np.isnan(sample).all() else np.nan for sample in column[chosen]])
        if np.isnan(means).all():
            found.append((np.nan, np.nan, np.nan))
        else:
            low, high = np.nanpercentile(means, (2.5, 97.5))
            found.append((float(np.nanmean(column)), float(low), float(high)))
    return found


def number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.1f}"


def mean(curve: Curve) -> list[float]:
    stacked = np.stack(list(curve.values()))
    return [float(np.nanmean(column)) if not np.isnan(column).all() else np.nan for column in stacked.T]


def worst(curve: Curve) -> list[float]:
    stacked = np.stack(list(curve.values()))
    return [float(np.nanmin(column)) if not np.isnan(column).all() else np.nan for column in stacked.T]


def table(lines: list[dict[str, Any]]) -> str:
    against_full, against_truth = curves(lines, "psnr_full"), curves(lines, "psnr_truth")
    full = [line["psnr_truth"] for line in lines if line["method"] == "full"]
    pictures = {(line["subject"], line["seed"]) for line in lines}
    title = ", ".join(f"{name} {lines[0][name]}" for name in SETTING)
    head = " | ".join(f"{100 * share:.0f} %" for share in SHARES)
    rows = [
        f"{title}; {len(pictures)} pictures; the full run against 100 steps: {np.mean(full):.1f} dB",
        "",
        f"| dB against the full run / 100 steps (worst) | {head} |",
        "| --- |" + " --- |" * len(SHARES),
    ]
    for method, curve in against_full.items():
        cells = [
            f"{number(left)} / {number(right)} ({number(least)})" if not np.isnan(left) else ""
            for left, right, least in zip(mean(curve), mean(against_truth[method]), worst(curve), strict=True)
        ]
        rows.append(f"| {method} | " + " | ".join(cells) + " |")
    rows += ["", f"| dB above fewer steps (95 % of resampled means) | {head} |", "| --- |" + " --- |" * len(SHARES)]
    for method, curve in against_full.items():
        if method != BASELINE:
            cells = [
                "" if np.isnan(middle) else f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"
                for middle, low, high in gain(curve, against_full[BASELINE])
            ]
            rows.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def plot(lines: list[dict[str, Any]]) -> Image.Image:
    """Likeness to the full run over the share computed, one line per method, their names beside them."""
    width, height, left, right, top, bottom = 1060, 460, 64, 320, 44, 50
    found = {method: mean(curve) for method, curve in curves(lines, "psnr_full").items()}
    known = [value for values in found.values() for value in values if not np.isnan(value)]
    low, high = 5 * np.floor(min(known) / 5), 5 * np.ceil(max(known) / 5)
    image = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(image)
    font, large = ImageFont.load_default(14), ImageFont.load_default(17)

    def place(share: float, decibels: float) -> tuple[float, float]:
        across = (share - 0.3) / 0.42
        up = (decibels - low) / (high - low)
        return left + across * (width - left - right), height - bottom - up * (height - top - bottom)

    for decibels in np.arange(low, high + 1, 5):
        pen.line([place(0.3, decibels), place(0.72, decibels)], GRID)
        pen.text((left - 10, place(0.3, decibels)[1]), f"{decibels:.0f}", INK, font, anchor="rm")
    for share in SHARES:
        pen.text((place(share, low)[0], height - bottom + 8), f"{100 * share:.0f} %", INK, font, anchor="ma")
    setting = lines[0]
    pen.text(
        (left, 12),
        f"PSNR in dB against the full run; {setting['steps']} steps {setting['sampler']}, cfg {setting['cfg']:g}",
        INK,
        large,
    )
    pen.text((width - right, height - 8), "evaluations computed", INK, font, anchor="rd")
    for row, ((method, values), colour) in enumerate(zip(found.items(), COLOURS, strict=False)):
        points = [place(share, value) for share, value in zip(SHARES, values, strict=True) if not np.isnan(value)]
        pen.line(points, colour, 3)
        for across, down in points:
            pen.ellipse((across - 4, down - 4, across + 4, down + 4), colour)
        across, down = width - right + 20, top + 24 * row
        pen.rectangle((across, down + 6, across + 20, down + 10), colour)
        pen.text((across + 28, down), method, colour, font)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path, help="what quality.py wrote")
    parser.add_argument("--plot", type=Path, help="a PNG of the first setting")
    chosen = parser.parse_args()
    settings: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for text in chosen.lines.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        settings[tuple(line[name] for name in SETTING)].append(line)
    print("\n\n".join(table(lines) for lines in settings.values()))
    if chosen.plot:
        plot(next(iter(settings.values()))).save(chosen.plot, optimize=True)


if __name__ == "__main__":
    main()
