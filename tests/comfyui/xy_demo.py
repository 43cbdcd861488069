"""First Block Cache XY with the demo model: the node and, beside it, pictures drawn by core's nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from demo_pictures import demo_model

if TYPE_CHECKING:
    from in_process import ComfyUI

NODE = "WaveSpeedFirstBlockCacheXY"
STEPS = 12
LISTS = {"strategies": "forecast", "speedups": "2", "thresholds": "", "samplers": "euler", "schedulers": "simple"}
HOW = {"seed": 7, "steps": STEPS, "cfg": 3.0, "denoise": 1.0}
GRID = "grid"


class Demo:
    """The demo model with its VAE and prompts, and pictures drawn with it by core's nodes."""

    def __init__(self, comfy: ComfyUI) -> None:
        self.comfy = comfy
        self.model = demo_model(comfy)
        self.vae = comfy.call("VAELoader", vae_name="wavespeed_demo_vae.safetensors")
        self.conds = {
            "positive": comfy.call("WaveSpeedDemoPrompt", subject="sunflower"),
            "negative": comfy.call("WaveSpeedDemoPrompt", subject="nothing in particular"),
        }
        self.saved = 0

    def grid(self, model: Any = None, *, batch: int = 1, width: int = 16, **inputs: Any) -> dict[str, Any]:
        """What the node returns, with the numbers read from its text under "numbers"."""
        self.saved += 1
        given = {
            **self.conds,
            **HOW,
            **LISTS,
            "filename_prefix": f"test/grid {self.saved}",
            "unique_id": GRID,
            **inputs,
        }
        latent = {"samples": torch.zeros(batch, 16, 16, width)}
        node: Any = self.comfy.nodes[NODE]
        model = self.model if model is None else model
        with torch.inference_mode():
            returned = node().run(model=model, latent_image=latent, vae=self.vae, **given)
        return {**returned, "numbers": json.loads(returned["result"][1])}

    def draw(self, model: Any, sampler: str, scheduler: str, steps: int = STEPS, batch: int = 1) -> torch.Tensor:
        """(N, 128, 128, 3), as core's Save Image writes it."""
        latent = {"samples": torch.zeros(batch, 16, 16, 16)}
        with torch.inference_mode():
            samples = self.comfy.call(
                "KSampler",
                model=model,
                **self.conds,
                **{**HOW, "steps": steps},
                sampler_name=sampler,
                scheduler=scheduler,
                latent_image=latent,
            )
            pictures = self.comfy.call("VAEDecode", vae=self.vae, samples=samples)
        return (pictures * 255).clamp(0, 255).to(torch.uint8)


def cells(returned: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(row, cell) of all."""
    return [(row, cell) for row in returned["numbers"]["rows"] for cell in row["cells"]]
