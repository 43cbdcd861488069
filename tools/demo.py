"""Draw pictures in a real ComfyUI with and without First Block Cache, and say what it saved and what it cost.

    build/venv/bin/python tools/demo.py --output build/demo

Everything that is needed comes with the pack: a tiny model that runs on any CPU. Writes comparison.png, results.json
and every single picture.
"""

from __future__ import annotations

import argparse
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
from comfyui_runner import open_comfyui
from comfyui_tree import BUILD, ROOT, NoComfyUIError, find_comfyui
from demo_runs import Plan, Variant
from progress import say

if TYPE_CHECKING:
    from comfyui_tree import ComfyUITree

SUBJECTS = ("apple", "burger", "tree", "smile", "mushroom", "pumpkin")
THRESHOLDS = (0.05, 0.08)
README_SUBJECTS = 4
README_BYTES = 300_000
# The model is so small that a second thread makes it slower.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


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


def table(variants: list[Variant]) -> list[str]:
    lines = [
        f"{'':26}{'evaluations':>20}{'seconds per':>14}{'against every step computed':>32}",
        f"{'':26}{'computed   reused':>20}{'picture':>14}{'mean PSNR':>19}{'worst':>13}",
    ]
    for variant in variants:
        quality = f"{'-':>19}{'-':>13}"
        if variant.psnr:
            values = list(variant.psnr.values())
            quality = f"{demo_picture.decibels(_mean(values)):>19}{demo_picture.decibels(min(values)):>13}"
        counts = f"{variant.mean_computed():10.1f}{variant.mean_reused():10.1f}"
        lines.append(f"{variant.title:26}{counts}{variant.median_seconds():14.2f}{quality}")
    return lines


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)


def verdicts(variants: list[Variant]) -> list[str]:
    """Cache against "run fewer steps", which every user can have without this pack."""
    sentences = []
    for cached, fewer in zip(variants[1::2], variants[2::2], strict=True):
        gap = _mean(list(cached.psnr.values())) - _mean(list(fewer.psnr.values()))
        how = "is closer to the full picture than" if gap > 0 else "loses to"
        sentences.append(
            f"At threshold {cached.threshold:g} the cache {how} running fewer steps at the same number of computed "
            f"steps: {gap:+.1f} dB."
        )
    return sentences


def time_sentences(timings: list[demo_timing.Timing]) -> list[str]:
    sentences = []
    for timing in timings:
        saved, skipped = (demo_timing.summary(values) for values in (timing.saved, timing.could_save))
        line = (
            f"threshold {timing.threshold:g}: {skipped['median']:.0%} of the block work skipped, "
            f"{saved['median']:.0%} of the sampling time saved"
        )
        if of_possible := timing.of_possible():
            share = demo_timing.summary(of_possible)
            line += f" = {share['median']:.0%} of it ({share['lowest']:.0%} to {share['highest']:.0%})"
        sentences.append(f"{line}; {len(timing.saved)} interleaved pairs")
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
        "threshold": variant.threshold,
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
    title = "Fewer computed steps, nearly the same picture"
    footer = f"dB: likeness to the leftmost picture (PSNR). {described}"
    demo_picture.sheet(variants, plan.subjects, title, footer).save(output / "comparison.png", optimize=True)
    if readme is not None:
        compact = demo_picture.sheet(variants, plan.subjects[:README_SUBJECTS], title, footer)
        demo_picture.save_small(compact, readme, README_BYTES)


def run(plan: Plan, output: Path, repetitions: int, readme: Path | None) -> None:
    progress = Progress()
    tree = find_comfyui()
    progress.step(str(tree))
    environment = {**os.environ, **ENVIRONMENT}
    with open_comfyui(tree, [ROOT], environment=ENVIRONMENT) as runner:
        progress.step("ComfyUI is up. A first picture to warm up...")
        warm = demo_runs.prompt(plan, plan.subjects[0], plan.seed - 1, steps=4, threshold=0.05, decode=True)
        demo_runs.queue(runner, warm)
        progress.step(f"Drawing {len(plan.subjects)} subjects, {plan.steps} steps, cfg {plan.cfg:g}...")
        variants = demo_runs.draw_all(runner, plan, output / "pictures", progress.detail)
        progress.step("Measuring which share of a step the cache can leave out...")
        share = demo_timing.block_share(plan, environment)
        progress.step(f"{share['share']:.0%} of a step is in blocks behind the first. Timing sampling alone...")
        timings, full_seconds = demo_timing.measure(runner, plan, share["share"], repetitions, progress.detail)
    facts = machine(tree)
    described = f"Demo model, {plan.size}x{plan.size}, {plan.steps} Euler steps, cfg {plan.cfg:g}"
    write_sheets(variants, plan, output, readme, described)
    results = {
        "machine": facts,
        "plan": vars(plan),
        "variants": [as_numbers(variant) for variant in variants],
        "share_of_step_in_skippable_blocks": share,
        "full_sampling_seconds_behind_first_step": demo_timing.summary(full_seconds),
        "timing": [timing.as_numbers() for timing in timings],
    }
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    say("")
    say(f"{described}; {len(plan.subjects)} subjects; {facts['processor']}, 1 thread")
    for line in (*table(variants), "", *verdicts(variants), "", *time_sentences(timings), ""):
        say(line)
    say(f"Run in ComfyUI {tree.version}, {facts['comfyui_kind']}.")
    say(f"Pictures side by side: {output / 'comparison.png'}")
    say(f"Every number:          {output / 'results.json'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=BUILD / "demo")
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, metavar="NAME")
    parser.add_argument("--thresholds", nargs="+", type=float, default=THRESHOLDS, metavar="T")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=128, help="edge of a picture in pixels")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--repetitions", type=int, default=9, help="pairs of timed sampling runs")
    parser.add_argument("--readme-picture", type=Path, help="also write a compact sheet here")
    chosen = parser.parse_args()
    plan = Plan(
        subjects=tuple(chosen.subjects),
        thresholds=tuple(chosen.thresholds),
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
