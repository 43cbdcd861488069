"""The API twin of a workflow that runs anywhere: its loaders and text encoders replaced by tiny random models.

All that a cache has to do with stays as it is in the file: the model's way through the nodes, schedule, sampler, steps.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyui_result import Prompt

FAMILY_OF_WORKFLOW = {
    "FLUX.1 dev": "flux_dev",
    "FLUX.1 dev with ControlNet": "flux_dev",
    "FLUX.2 dev": "flux2",
    "HunyuanVideo": "hunyuan_video",
    "LTX-2": "ltx2",
    "LTX-Video": "ltxv",
    "Qwen-Image": "qwen_image",
    "SDXL": "sdxl",
    "Stable Diffusion 1.5": "sd1",
    "Stable Diffusion 3.5": "sd35",
    "Wan 2.2": "wan",
    "Z-Image": "z_image",
}
SINKS = ("LatentReport",)
MODEL_LOADERS = ("UNETLoader", "CheckpointLoaderSimple")
TEXT_ENCODERS = ("CLIPTextEncode", "CLIPTextEncodeSDXL")
SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
SMALL = {"width": 128, "height": 128, "length": 9, "frames_number": 9}
DEMO_VAE = {"vae_name": "wavespeed_demo_vae.safetensors"}
"""Only for nodes that ask for a VAE: no latent of a random model is worth decoding."""


def tiny_twin(prompt: Prompt, family: str) -> Prompt:
    twin = copy.deepcopy(prompt)
    for node, entry in prompt.items():
        kind, inputs = entry["class_type"], twin[node]["inputs"]
        for name, value in SMALL.items():
            if isinstance(inputs.get(name), int):
                inputs[name] = value
        if kind in MODEL_LOADERS:
            twin[node] = made("TinyModel", family=family, seed=int(node))
        elif kind in TEXT_ENCODERS:
            twin[node] = made("TinyConditioning", family=family, seed=int(node))
        elif kind == "ControlNetLoader":
            twin[node] = made("TinyControlNet")
        elif kind == "LTXVEmptyLatentAudio":
            twin[node] = made("TinySound", family=family)
        elif kind == "VAELoader":
            inputs.update(DEMO_VAE)
        elif kind == "PrimitiveInt":
            inputs["value"] = SMALL["width"]
        elif kind in SAMPLERS:
            twin[f"{node} report"] = made("LatentReport", latent=[node, 0])
    return reaching(twin, SINKS)


def made(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def reaching(prompt: Prompt, sinks: tuple[str, ...]) -> Prompt:
    """The nodes of which something goes to one of these kinds, and these."""
    kept: set[str] = set()
    waiting = [node for node, entry in prompt.items() if entry["class_type"] in sinks]
    while waiting:
        node = waiting.pop()
        if node not in kept:
            kept.add(node)
            waiting += [value[0] for value in prompt[node]["inputs"].values() if isinstance(value, list)]
    return {node: entry for node, entry in prompt.items() if node in kept}
