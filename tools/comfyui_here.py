"""ComfyUI's own code in this process, with the demo model loaded: for measurements that a client cannot make.

A process can hold one ComfyUI, which reads its command line when it is imported; so this is for scripts, not for tests.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from comfyui_base import ARGUMENTS, ON_ANY_DEVICE
from comfyui_tree import ROOT, find_comfyui
from comfyui_worker import prepare_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from comfyui_tree import ComfyUITree

FLUX, VAE = "wavespeed_demo_flux.safetensors", "wavespeed_demo_vae.safetensors"
CHANNELS, PIXELS_PER_LATENT = 16, 8


class Silence:
    """Takes the texts that nodes send to the editor and keeps the last one."""

    last_text = ""

    def __init__(self) -> None:
        self._lists: list[list[str]] = []

    def send(self, kind: str, **data: Any) -> None:
        self.last_text = data["text"]
        for texts in self._lists:
            texts.append(self.last_text)

    @contextmanager
    def kept(self, texts: list[str]) -> Iterator[None]:
        """Adds all that is sent meanwhile."""
        self._lists.append(texts)
        yield
        self._lists.remove(texts)


class ComfyUIHere:
    """model: the demo model as ComfyUI's loader returns it."""

    def __init__(self, threads: int = 1, device: str = "cpu") -> None:
        """threads: one is the fastest for a model this small. device: "cpu", or "cuda" for ComfyUI's own choice."""
        self.tree: ComfyUITree = find_comfyui()
        self.texts = Silence()
        arguments, sys.argv = sys.argv, ["comfyui", *(ARGUMENTS if device == "cpu" else ON_ANY_DEVICE)]
        logging.disable(logging.INFO)
        prepare_modules(str(self.tree.path), self.texts)
        import comfy.utils
        import nodes
        import torch

        sys.argv = arguments
        torch.set_num_threads(threads)
        comfy.utils.PROGRESS_BAR_ENABLED = False
        asyncio.run(nodes.load_custom_node(str(ROOT)))
        self._nodes = nodes.NODE_CLASS_MAPPINGS
        self._vae: Any = None
        self.model = self.run_node("UNETLoader", unet_name=FLUX, weight_dtype="default")

    def node_class(self, node: str) -> type:
        return self._nodes[node]

    def run_node(self, node: str, **inputs: Any) -> Any:
        """First output of a node."""
        return getattr(self._nodes[node](), self._nodes[node].FUNCTION)(**inputs)[0]

    def choices(self, node: str, name: str) -> list[str]:
        """Of one required input of a node."""
        return self._nodes[node].INPUT_TYPES()["required"][name][0]

    def with_cache(self, threshold: float, model: Any = None) -> Any:
        """model: the demo model unless given, as below."""
        return self.run_node(
            "ApplyFBCacheOnModel",
            model=self.model if model is None else model,
            object_to_patch="diffusion_model",
            residual_diff_threshold=threshold,
            unique_id="cache",
        )

    def with_speedup(self, speedup: float, model: Any = None) -> Any:
        return self.run_node(
            "WaveSpeedFirstBlockCache",
            model=self.model if model is None else model,
            speedup=speedup,
            unique_id="cache",
        )

    def with_compile(self, model: Any = None, *, mode: str = "", backend: str = "inductor") -> Any:
        return self.run_node(
            "EnhancedCompileModel",
            model=self.model if model is None else model,
            is_patcher=True,
            object_to_patch="diffusion_model",
            compiler="torch.compile",
            fullgraph=False,
            dynamic=False,
            mode=mode,
            options="",
            disable=False,
            backend=backend,
            unique_id="compile",
        )

    def sample(
        self, model: Any, *, steps: int, cfg: float, size: int, subject: str, seed: int, sampler: str = "euler"
    ) -> torch.Tensor:
        """A latent (1, 16, size / 8, size / 8)."""
        import torch

        positive = self.run_node("WaveSpeedDemoPrompt", subject=subject)
        negative = self.run_node("WaveSpeedDemoPrompt", subject="nothing in particular")
        edge = size // PIXELS_PER_LATENT
        with torch.inference_mode():
            return self.run_node(
                "KSampler",
                model=model,
                seed=seed,
                steps=steps,
                cfg=cfg,
                sampler_name=sampler,
                scheduler="simple",
                positive=positive,
                negative=negative,
                latent_image={"samples": torch.zeros(1, CHANNELS, edge, edge)},
                denoise=1.0,
            )["samples"]

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """(1, size, size, 3), 0 to 1."""
        import torch

        if self._vae is None:
            self._vae = self.run_node("VAELoader", vae_name=VAE)
        with torch.inference_mode():
            return self.run_node("VAEDecode", vae=self._vae, samples={"samples": latent}).clamp(0, 1)

    def diffusion_model(self) -> Any:
        return self.model.model.diffusion_model
