"""The pictures of the demo: what is asked of ComfyUI, and what comes back."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from picture_quality import psnr

if TYPE_CHECKING:
    from pathlib import Path

    from comfyui_result import Prompt, Result, Runner

CACHE, SAMPLER = "cache", "sampler"
COUNTS = re.compile(r"(\d+) evaluations: (\d+) computed, (\d+) reused")


@dataclass(frozen=True)
class Cache:
    """What is set on the cache node."""

    strategy: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.strategy} {self.threshold:g}"


@dataclass(frozen=True)
class Plan:
    """What all pictures of one demo have in common."""

    subjects: tuple[str, ...]
    caches: tuple[Cache, ...]
    steps: int
    cfg: float
    size: int
    seed: int


@dataclass(frozen=True)
class Picture:
    file: Path
    seconds: float
    computed: int
    reused: int
    text: str


@dataclass
class Variant:
    """One way of drawing every subject. cache: None without it."""

    title: str
    cache: Cache | None
    pictures: dict[str, Picture] = field(default_factory=dict)
    psnr: dict[str, float] = field(default_factory=dict)
    """Against the picture with every step computed."""

    def median_seconds(self) -> float:
        return statistics.median(picture.seconds for picture in self.pictures.values())

    def mean_computed(self) -> float:
        return statistics.fmean(picture.computed for picture in self.pictures.values())

    def mean_reused(self) -> float:
        return statistics.fmean(picture.reused for picture in self.pictures.values())


def prompt(plan: Plan, subject: str, seed: int, *, steps: int, cache: Cache | None, decode: bool) -> Prompt:
    """From the model loader to a saved picture, or to a saved latent where only sampling is of interest."""
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "model": ("UNETLoader", {"unet_name": "wavespeed_demo_flux.safetensors", "weight_dtype": "default"}),
        "positive": ("WaveSpeedDemoPrompt", {"subject": subject}),
        "negative": ("WaveSpeedDemoPrompt", {"subject": "nothing in particular"}),
        "latent": ("EmptySD3LatentImage", {"width": plan.size, "height": plan.size, "batch_size": 1}),
        SAMPLER: (
            "KSampler",
            {
                "model": ["model" if cache is None else CACHE, 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": seed,
                "steps": steps,
                "cfg": plan.cfg,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
            },
        ),
    }
    if cache is not None:
        inputs = {"residual_diff_threshold": cache.threshold, "strategy": cache.strategy}
        nodes[CACHE] = ("ApplyFBCacheOnModel", {"model": ["model", 0], "object_to_patch": "diffusion_model", **inputs})
    if decode:
        nodes["vae"] = ("VAELoader", {"vae_name": "wavespeed_demo_vae.safetensors"})
        nodes["decode"] = ("VAEDecode", {"samples": [SAMPLER, 0], "vae": ["vae", 0]})
        nodes["save"] = ("SaveImage", {"images": ["decode", 0], "filename_prefix": "demo"})
    else:
        nodes["save"] = ("SaveLatent", {"samples": [SAMPLER, 0], "filename_prefix": "demo"})
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def queue(runner: Runner, wanted: Prompt) -> Result:
    result = runner.queue(wanted)
    if result.status != "success":
        raise RuntimeError(f"ComfyUI did not run the prompt ({result.status}): {result.error}")
    if SAMPLER in result.cached:
        raise RuntimeError("ComfyUI took the picture from its own cache of results; its time would mean nothing.")
    return result


def counts(result: Result, steps: int, cache: Cache | None) -> tuple[int, int, str]:
    """(computed, reused, the node's own text)."""
    if cache is None:
        return steps, 0, ""
    texts = result.texts_of(CACHE)
    found = COUNTS.search(texts[-1]) if texts else None
    if found is None:
        raise RuntimeError(f"The cache node did not say what it did: {texts}")
    return int(found.group(2)), int(found.group(3)), texts[-1]


def draw(runner: Runner, plan: Plan, subject: str, *, steps: int, cache: Cache | None, target: Path) -> Picture:
    seed = plan.seed + plan.subjects.index(subject)
    result = queue(runner, prompt(plan, subject, seed, steps=steps, cache=cache, decode=True))
    computed, reused, text = counts(result, steps, cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(runner.images(result)[0].read_bytes())
    return Picture(target, result.seconds, computed, reused, text)


def draw_all(runner: Runner, plan: Plan, folder: Path, said: Any) -> list[Variant]:
    """Every subject in full, then for each setting of the cache: with it, and with as few steps as it computed."""
    full = Variant("every step computed", None)
    variants = [full]
    for subject in plan.subjects:
        target = folder / f"{subject}-full.png"
        full.pictures[subject] = draw(runner, plan, subject, steps=plan.steps, cache=None, target=target)
        said(f"{subject}, every step computed")
    for cache in plan.caches:
        cached = Variant(f"{cache}", cache)
        fewer = Variant("only as many steps", None)
        for subject in plan.subjects:
            name = folder / f"{subject}-{cache.strategy}-{cache.threshold:g}.png"
            drawn = draw(runner, plan, subject, steps=plan.steps, cache=cache, target=name)
            cached.pictures[subject] = drawn
            name = folder / f"{subject}-{drawn.computed}-steps.png"
            shorter = draw(runner, plan, subject, steps=drawn.computed, cache=None, target=name)
            fewer.pictures[subject] = shorter
            for variant in (cached, fewer):
                variant.psnr[subject] = psnr(variant.pictures[subject].file, full.pictures[subject].file)
            said(f"{subject}, {cache}: {drawn.computed} computed, {drawn.reused} reused")
        variants += [cached, fewer]
    return variants
