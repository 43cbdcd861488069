"""Likeness to the picture without a cache over the share of evaluations computed, on the demo model in real ComfyUI.

    OMP_NUM_THREADS=1 build/venv/bin/python tests/bench/quality.py --output build/quality.jsonl
    build/venv/bin/python tests/bench/quality_table.py build/quality.jsonl --plot build/quality.png

Every way of computing less draws the same pictures from the same seeds: fewer steps, core's EasyCache, DiCache and a
Taylor series as published (published_caches.py), cache-dit itself where it is installed (cache_dit_runs.py), and the
caches of this pack, each with several values of its knob. One JSON line per picture; a run that was stopped goes on
where it ended when it is started again with the same output.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from cache_dit_runs import CONFIGURATIONS, CacheDit, missing_package
from published_caches import DiCache, Taylor

from comfyui_here import ComfyUIHere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

TRUTH_STEPS = 100
SHARES = (0.28, 0.33, 0.4, 0.5, 0.6, 0.72)
"""Of the steps, for the runs with fewer steps: a little beyond 30 to 70 %, so that those can be read off."""
FULL, TRUTH = "full", "truth"
METHODS: dict[str, tuple[float, ...]] = {
    "fewer steps": SHARES,
    "EasyCache": (0.02, 0.05, 0.1, 0.2, 0.4),
    "DiCache": (0.03, 0.05, 0.08, 0.12, 0.18, 0.27),
    "Taylor": (2, 3, 4),
    **dict.fromkeys(CONFIGURATIONS, (0.03, 0.06, 0.1, 0.2, 0.4, 1.0)),
    "classic, threshold": (0.02, 0.035, 0.05, 0.07, 0.1, 0.14),
    "forecast, threshold": (0.02, 0.04, 0.06, 0.09, 0.13, 0.2),
    "forecast, speedup": (1.4, 1.67, 2.0, 2.5, 3.0, 3.6),
    "classic, speedup": (1.4, 1.67, 2.0, 2.5, 3.0, 3.6),
}


@dataclass(frozen=True)
class Setting:
    steps: int
    cfg: float
    shift: float
    sampler: str
    size: int


@dataclass(frozen=True)
class Drawn:
    picture: torch.Tensor
    evaluations: float
    computed: float
    seconds: float


class Quality:
    """Draws one setting.

    computed counts the calls of the second block: a hit runs at most the first one. cache-dit computes more blocks in a
    hit; its evaluations count by their blocks, all but the first.
    """

    def __init__(self, comfyui: ComfyUIHere, setting: Setting) -> None:
        self.comfyui = comfyui
        self.setting = setting
        self.plain = with_shift(comfyui.model, setting.shift)
        self.computed: float = 0
        comfyui.diffusion_model().double_blocks[1].register_forward_hook(lambda *_call: self.count(1))

    def count(self, evaluations: float) -> None:
        self.computed += evaluations

    @cached_property
    def cache_dit(self) -> CacheDit:
        return CacheDit(self.count)

    def draw(self, model: Any, subject: str, seed: int, steps: int) -> Drawn:
        how = {"cfg": self.setting.cfg, "size": self.setting.size, "sampler": self.setting.sampler}
        self.computed = 0
        self.comfyui.texts.last_text = ""
        begun = time.perf_counter()
        latent = self.comfyui.sample(model, steps=steps, subject=subject, seed=seed, **how)
        seconds = time.perf_counter() - begun
        computed = round(self.computed, 3)
        found = re.search(r"(\d+) evaluations", self.comfyui.texts.last_text)
        evaluations = int(found[1]) if found else computed
        return Drawn(self.comfyui.decode(latent), evaluations, computed, seconds)

    def model_with(self, method: str, value: float, evaluations: int) -> Any:
        """evaluations: of the full run."""
        if method in CONFIGURATIONS:
            return self.cache_dit.patched(self.plain, CONFIGURATIONS[method], value, self.setting.cfg)
        if method == "DiCache":
            return DiCache(evaluations, value).patched(self.plain)
        if method == "Taylor":
            return Taylor(evaluations, int(value)).patched(self.plain)
        if method == "EasyCache":
            from comfy_extras.nodes_easycache import EasyCacheNode

            # Its own start and end, 0.15 and 0.95, stay as they are.
            return EasyCacheNode.execute(self.plain, value, 0.15, 0.95, False).result[0]
        strategy, knob = method.split(", ")
        if knob == "speedup":
            return self.comfyui.run_node(
                "WaveSpeedFirstBlockCache", model=self.plain, speedup=value, strategy=strategy, unique_id="cache"
            )
        return self.comfyui.run_node(
            "ApplyFBCacheOnModel",
            model=self.plain,
            object_to_patch="diffusion_model",
            residual_diff_threshold=value,
            strategy=strategy,
            unique_id="cache",
        )

    def of_sample(self, subject: str, seed: int, methods: list[str], wanted: Callable[[str, float], bool]) -> Iterator[
        dict[str, Any]
    ]:  # fmt: skip
        """One line per picture that is wanted; the two references are drawn when there is any."""
        todo = [(name, value) for name in methods for value in METHODS[name] if wanted(name, value)]
        if not todo:
            return
        full = self.draw(self.plain, subject, seed, self.setting.steps)
        truth = self.draw(self.plain, subject, seed, TRUTH_STEPS)

        def line(method: str, value: float, drawn: Drawn) -> dict[str, Any]:
            return {
                **asdict(self.setting),
                "subject": subject,
                "seed": seed,
                "method": method,
                "value": value,
                "evaluations": full.computed,
                "computed": drawn.computed,
                "seconds": round(drawn.seconds, 4),
                "psnr_full": decibels(drawn.picture, full.picture),
                "psnr_truth": decibels(drawn.picture, truth.picture),
            }

        if wanted(FULL, 0.0):
            yield line(FULL, 0.0, full)
        for method, value in todo:
            if method == "fewer steps":
                steps = max(1, round(value * self.setting.steps))
                yield line(method, value, self.draw(self.plain, subject, seed, steps))
            else:
                model = self.model_with(method, value, full.computed)
                drawn = self.draw(model, subject, seed, self.setting.steps)
                yield line(method, value, drawn)


def with_shift(model: Any, shift: float) -> Any:
    """The sampling shift at every picture size. 1.15 is what ComfyUI gives Flux."""
    from comfy_extras.nodes_model_advanced import ModelSamplingFlux

    return ModelSamplingFlux().patch(model, max_shift=shift, base_shift=shift, width=1024, height=1024)[0]


def decibels(picture: torch.Tensor, reference: torch.Tensor) -> float | None:
    """PSNR of two pictures (1, H, W, 3) from 0 to 1; None when they are equal."""
    error = (picture.double() - reference.double()).square().mean().item()
    return None if error == 0 else round(-10 * math.log10(error), 3)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, required=True, help="JSON lines; those already in it are not drawn again"
    )
    parser.add_argument("--subjects", type=int, default=24, help="how many of the demo model's subjects")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--shift", type=float, default=1.15)
    parser.add_argument("--sampler", default="euler", help="as KSampler names them; also several evaluations per step")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    chosen = parser.parse_args()
    methods: list[str] = chosen.methods
    missing = missing_package()
    if missing is not None and not CONFIGURATIONS.keys().isdisjoint(methods):
        print(f"cache-dit: skipped, {missing} is not installed", flush=True)
        methods = [method for method in methods if method not in CONFIGURATIONS]
    setting = Setting(chosen.steps, chosen.cfg, chosen.shift, chosen.sampler, chosen.size)
    names = (*asdict(setting), "subject", "seed", "method", "value")
    done = {tuple(line[name] for name in names) for line in lines_of(chosen.output)}
    comfyui = ComfyUIHere()
    quality = Quality(comfyui, setting)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    subjects = comfyui.choices("WaveSpeedDemoPrompt", "subject")[: chosen.subjects]
    with chosen.output.open("a", encoding="utf-8") as output:
        for seed in chosen.seeds:
            for subject in subjects:

                def wanted(method: str, value: float, *, subject: str = subject, seed: int = seed) -> bool:
                    return (*asdict(setting).values(), subject, seed, method, value) not in done

                for line in quality.of_sample(subject, seed, methods, wanted):
                    output.write(json.dumps(line) + "\n")
                    output.flush()
                print(f"seed {seed}: {subject}", flush=True)


if __name__ == "__main__":
    main()
