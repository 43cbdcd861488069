"""ComfyUI's own code in this process, with the demo model loaded: for measurements that a client cannot make.

A process can hold one ComfyUI, which reads its command line when it is imported; so this is for scripts, not for tests.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from comfyui_base import ARGUMENTS
from comfyui_tree import ROOT, find_comfyui
from comfyui_worker import prepare_modules

if TYPE_CHECKING:
    import torch

    from comfyui_tree import ComfyUITree

FLUX, VAE = "wavespeed_demo_flux.safetensors", "wavespeed_demo_vae.safetensors"
CHANNELS, PIXELS_PER_LATENT = 16, 8


class Silence:
    """Takes the texts that nodes send to the editor and keeps the last one."""

    last_text = ""

    def send(self, kind: str, **data: Any) -> None:
        self.last_text = data["text"]


class ComfyUIHere:
    """model: the demo model as ComfyUI's loader returns it."""

    def __init__(self, threads: int = 1) -> None:
        """threads: one is the fastest for a model this small."""
        self.tree: ComfyUITree = find_comfyui()
        self.texts = Silence()
        arguments, sys.argv = sys.argv, ["comfyui", *ARGUMENTS]
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
        self.model = self._run("UNETLoader", unet_name=FLUX, weight_dtype="default")

    def _run(self, node: str, **inputs: Any) -> Any:
        """First output of a node."""
        return getattr(self._nodes[node](), self._nodes[node].FUNCTION)(**inputs)[0]

    def with_cache(self, threshold: float) -> Any:
        return self._run(
            "ApplyFBCacheOnModel",
            model=self.model,
            object_to_patch="diffusion_model",
            residual_diff_threshold=threshold,
            unique_id="cache",
        )

    def with_compile(self) -> Any:
        return self._run(
            "EnhancedCompileModel",
            model=self.model,
            is_patcher=True,
            object_to_patch="diffusion_model",
            compiler="torch.compile",
            fullgraph=False,
            dynamic=False,
            mode="",
            options="",
            disable=False,
            backend="inductor",
            unique_id="compile",
        )

    def sample(self, model: Any, *, steps: int, cfg: float, size: int, subject: str, seed: int) -> torch.Tensor:
        import torch

        positive = self._run("WaveSpeedDemoPrompt", subject=subject)
        negative = self._run("WaveSpeedDemoPrompt", subject="nothing in particular")
        edge = size // PIXELS_PER_LATENT
        with torch.inference_mode():
            return self._run(
                "KSampler",
                model=model,
                seed=seed,
                steps=steps,
                cfg=cfg,
                sampler_name="euler",
                scheduler="simple",
                positive=positive,
                negative=negative,
                latent_image={"samples": torch.zeros(1, CHANNELS, edge, edge)},
                denoise=1.0,
            )["samples"]

    def diffusion_model(self) -> Any:
        return self.model.model.diffusion_model
