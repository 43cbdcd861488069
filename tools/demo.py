"""Draw pictures in a real ComfyUI with and without First Block Cache, and say what it saved and what it cost.

    build/venv/bin/python tools/demo.py --output build/demo

Everything that is needed comes with the pack: a tiny model that runs on any CPU. Writes comparison.png, results.json
and every single picture.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import demo_picture
import demo_runs
import demo_timing
from comfyui_base import ENVIRONMENT
from comfyui_runner import open_comfyui
from comfyui_tree import BUILD, ROOT, NoComfyUIError, find_comfyui
from demo_picture import decibels
from demo_runs import Cache, Plan, Variant
from progress import say

if TYPE_CHECKING:
    from comfyui_tree import ComfyUITree
    from demo_timing import Timings

SUBJECTS = ("apple", "burger", "tree", "smile", "mushroom", "pumpkin")
CACHES = (Cache("classic", 0.12), Cache("forecast", 0.1))
"""The default of the node, and a setting of the other strategy that computes about as many steps."""
README_SUBJECTS = 4
README_BYTES = 300_000


class Progress:
    """Says at most once a second what has been done, with the time since the start."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.said = 0.0

    def step(self, text: str) -> None:
        say(f"[{time.monotonic() - self.start:4.0f} s] {text}")
        self.said = time.monotonic()

    def detail(self, text: str) -> None:
        if time.monotonic() - self.said > 1:
            self.step(f"   {text}")


def table(variants: list[Variant], timings: Timings) -> list[str]:
    sampling = [timings.full]
    for pair in timings.pairs:
        sampling += [pair.cached, pair.fewer]
    lines = [
        f"{'':24}{'steps':>19}{'seconds per picture':>22}{'likeness to the first row':>29}",
        f"{'':24}{'computed   reused':>19}{'all':>12}{'sampling':>10}{'mean PSNR':>17}{'worst':>12}",
    ]
    for variant, seconds in zip(variants, sampling, strict=True):
        quality = f"{'-':>17}{'-':>12}"
        if variant.psnr:
            values = list(variant.psnr.values())
            quality = f"{decibels(statistics.fmean(values)):>17}{decibels(min(values)):>12}"
        counts = f"{variant.mean_computed():10.1f}{variant.mean_reused():9.1f}"
        times = f"{variant.median_seconds():12.2f}{statistics.median(seconds):10.2f}"
        lines.append(f"{variant.title:24}{counts}{times}{quality}")
    return lines


def verdicts(variants: list[Variant]) -> list[str]:
    """Cache against "run fewer steps", which every user can have without this pack."""
    sentences = []
    for cached, fewer in zip(variants[1::2], variants[2::2], strict=True):
        gap = statistics.fmean(cached.psnr.values()) - statistics.fmean(fewer.psnr.values())
        how = "beats" if gap > 0 else "loses to"
        sentences.append(
            f"{cached.title}: the cache {how} running fewer steps at the same number of computed "
            f"steps, by {abs(gap):.1f} dB."
        )
    return sentences


def time_sentences(timings: Timings) -> list[str]:
    sentences = []
    for pair in timings.pairs:
        saved, skipped = (
            demo_timing.middle(values)["median"] for values in (timings.saved(pair), timings.skipped(pair))
        )
        part = demo_timing.middle(timings.saved_of_skipped(pair))
        sentences.append(
            f"{pair.cache}: {skipped:.0%} of the work was left out, {saved:.0%} of the sampling time "
            f"was saved: {part['median']:.0%} of it (middle half of {len(timings.full)} repetitions: "
            f"{part['quarter']:.0%} to {part['three_quarters']:.0%})."
        )
    return sentences


def machine(tree: ComfyUITree) -> dict[str, Any]:
    """The machine without its name."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = "unknown"
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads_used": 1,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch_version,
        "comfyui": tree.version,
        "comfyui_kind": "server over HTTP" if tree.has_server else "executor without a server",
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def as_numbers(variant: Variant) -> dict[str, Any]:
    return {
        "title": variant.title,
        "strategy": variant.cache and variant.cache.strategy,
        "threshold": variant.cache and variant.cache.threshold,
        "median_seconds": variant.median_seconds(),
        "pictures": {
            subject: {
                "file": picture.file.name,
                "seconds": picture.seconds,
                "computed": picture.computed,
                "reused": picture.reused,
                "psnr": variant.psnr.get(subject),
                "text": picture.text,
            }
            for subject, picture in variant.pictures.items()
        },
    }


def write_sheets(variants: list[Variant], plan: Plan, output: Path, readme: Path | None, described: str) -> None:
    title = "The same pictures with every step computed, with First Block Cache, and with fewer steps"
    footer = f"dB: likeness to the leftmost picture (PSNR, higher is closer). {described}."
    demo_picture.sheet(variants, plan.subjects, title, footer).save(output / "comparison.png", optimize=True)
    if readme is not None:
        compact = demo_picture.sheet(variants, plan.subjects[:README_SUBJECTS], title, footer)
        demo_picture.save_small(compact, readme, README_BYTES)


def run(plan: Plan, output: Path, repetitions: int, readme: Path | None) -> None:
    progress = Progress()
    tree = find_comfyui()
    progress.step(str(tree))
    environment = {**os.environ, **ENVIRONMENT}
    with open_comfyui(tree, [ROOT]) as runner:
        progress.step("ComfyUI is up. A first picture to warm up...")
        warm = demo_runs.prompt(plan, plan.subjects[0], plan.seed - 1, steps=4, cache=plan.caches[0], decode=True)
        demo_runs.queue(runner, warm)
        progress.step(f"Drawing {len(plan.subjects)} subjects, {plan.steps} steps, cfg {plan.cfg:g}...")
        variants = demo_runs.draw_all(runner, plan, output / "pictures", progress.detail)
        progress.step("Measuring which share of a step the cache can leave out...")
        share = demo_timing.block_share(plan, environment)
        progress.step(f"{share['share']:.0%} of a step is in blocks behind the first. Timing sampling alone...")
        timings = demo_timing.measure(runner, plan, share["share"], repetitions, progress.detail)
    facts = machine(tree)
    described = f"Demo model, {plan.size}x{plan.size}, {plan.steps} Euler steps, cfg {plan.cfg:g}"
    write_sheets(variants, plan, output, readme, described)
    results = {
        "machine": facts,
        "plan": dataclasses.asdict(plan),
        "variants": [as_numbers(variant) for variant in variants],
        "share_of_step_in_skippable_blocks": share,
        "timing": timings.as_numbers(),
    }
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    say("")
    say(f"{described}, {len(plan.subjects)} subjects. {facts['processor']}, 1 thread.")
    say("")
    for line in (*table(variants, timings), "", *verdicts(variants), "", *time_sentences(timings), ""):
        say(line)
    say(f"Run in ComfyUI {tree.version}, {facts['comfyui_kind']}.")
    say(f"Pictures side by side: {output / 'comparison.png'}")
    say(f"Every number:          {output / 'results.json'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=BUILD / "demo")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, metavar="NAME")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=128, help="edge of a picture in pixels")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--repetitions", type=int, default=12, help="rounds of timed sampling runs")
    parser.add_argument("--readme-picture", type=Path, help="also write a compact sheet here")
    chosen = parser.parse_args()
    plan = Plan(
        subjects=tuple(chosen.subjects),
        caches=CACHES,
        steps=chosen.steps,
        cfg=chosen.cfg,
        size=chosen.size,
        seed=chosen.seed,
    )
    try:
        run(plan, chosen.output, chosen.repetitions, chosen.readme_picture)
    except NoComfyUIError as problem:
        say(str(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
