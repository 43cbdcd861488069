"""How a tiny model of one family is described, and how its random weights become a loaded ComfyUI model.

Random weights prove plumbing and equality, never quality. One thing makes them behave like trained ones where it
matters: layers through which the timestep acts are calm (small weights, large biases), so that the first block changes
by a few per cent per step; with plain noise it changes by half, and no threshold that a user would type is ever met.
How calm is a matter of the family: a run of ten steps should reuse some of them, and compute others than the first too.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable

SPREAD = 0.05
TIMED_LAYER = re.compile(r"(^|[._])(mod|adaln|time_projection|distilled_guidance_layer.out_proj)|adaLN", re.IGNORECASE)
CALM_WEIGHT, STRONG_BIAS = 0.2, 10.0
GAINS = (".scale", ".gamma", "norm.weight", "ln_q.weight", "ln_k.weight")
TOKENS = 6
UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument '(\w+)'")


class AbsentModelError(Exception):
    """The ComfyUI at hand does not have this model; the text says what is missing."""


@dataclass(frozen=True)
class Family:
    """How a tiny model is built, and what it wants as conditioning."""

    model_class: str
    config: dict[str, Any]
    """Arguments of the class."""
    stages: tuple[str, ...] = ()
    """Names of its block lists in execution order (dotted); empty where the cache skips no list of blocks."""
    latent: tuple[int, ...] = (1, 16, 16, 16)
    context: int = 64
    """Width of the text."""
    pooled: int = 32
    """Width of the pooled text; ComfyUI 0.9 demands one of every Flux, also where the model has no use for it."""
    core_config: str = ""
    """Class in comfy.supported_models, where detection has fixed the model's size; empty where the loader takes it."""
    header: dict[str, Any] = field(default_factory=dict)
    """What the header of a checkpoint says about the transformer, where the loader cannot tell it from the weights."""
    method: str = ""
    """The method of a block that the model calls, where it is not the block itself."""
    kept: int = 1
    """Blocks that run on a hit."""
    cfg: float = 1.0
    """At which a hit is tested: above 1 where some ComfyUI takes the positive and the negative prompt only together."""
    published: dict[str, Any] | None = None
    """What differs in `config` for the best known published model: its size, for the share that a hit saves."""
    published_parameters: float | None = None
    """How many billions of parameters its publisher gives that model, where he does."""
    bypassed: tuple[str, ...] = ()
    """Modules beside the blocks that a hit leaves out too (dotted)."""
    extra: Callable[[torch.Generator], dict[str, Any]] = field(default=lambda _generator: {})
    """What the conditioning of this family carries besides the usual."""
    change: Callable[[Any], None] = field(default=lambda _diffusion_model: None)
    """Done to the loaded model."""
    timed: str = ""
    """Further layers through which the timestep acts, see TIMED_LAYER: a regular expression."""
    calm_weight: float = CALM_WEIGHT
    """Factor to the weights of those layers: the larger, the more the first block changes from step to step."""
    more_latents: tuple[tuple[int, ...], ...] = ()
    """Shapes of the latents beside the first, for models of several streams (video with audio)."""
    beside: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of weights that the checkpoint holds beside the diffusion model, for what ComfyUI computes conds with."""


class _WithoutValues(TorchFunctionMode):
    """Some classes ask a tensor for its value while they are built, and one on the meta device has none."""

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.item and args[0].is_meta:
            return 0
        return function(*args, **(kwargs or {}))


def instance(family: Family, *, published: bool = False) -> Any:
    """The model's own class without values: tiny, or in its published size on the meta device.

    Raises AbsentModelError.
    """
    import comfy.ops

    module, _, name = family.model_class.rpartition(".")
    try:
        model_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise AbsentModelError(f"there is no {name}") from problem
    try:
        size = family.config | ((family.published or {}) if published else {})
        device = "meta" if published else "cpu"
        operations = comfy.ops.disable_weight_init
        with torch.device(device), _WithoutValues():
            return model_class(**size, dtype=torch.float32, device=device, operations=operations)
    except TypeError as problem:
        raise AbsentModelError(f"its {name} is another one ({problem})") from problem


def for_this_comfyui(family: Family) -> Family:
    """Without those arguments that are off and that this ComfyUI's class does not know yet: it is the same model.

    Raises AbsentModelError.
    """
    config = dict(family.config)
    while True:
        fitting = replace(family, config=config)
        try:
            instance(fitting)
        except AbsentModelError as problem:
            unknown = UNKNOWN_ARGUMENT.search(str(problem))
            if unknown is None or config.pop(unknown[1], True):
                raise
        else:
            return fitting


def _weights(family: Family, seed: int) -> dict[str, torch.Tensor]:
    """Names and shapes from the model's own class, values from a seed. Raises AbsentModelError."""
    empty = instance(family)
    weights = {}
    shapes = {name: value.shape for name, value in empty.state_dict().items()}
    for key, shape in sorted({**shapes, **family.beside}.items()):
        # Seeded by name: a ComfyUI that adds a weight does not change all others.
        generator = torch.Generator().manual_seed(seed + zlib.crc32(key.encode()))
        weight = torch.randn(shape, generator=generator) * SPREAD
        if TIMED_LAYER.search(key) or (family.timed and re.search(family.timed, key)):
            weight *= STRONG_BIAS if key.endswith(".bias") else family.calm_weight
        if weight.dim() == 1 and key.endswith(GAINS):
            weight += 1.0
        weights[key] = weight
    return weights


def stronger(factor: float, *layers: str) -> Callable[[Any], None]:
    """For Family.change: the weights of these layers (dotted names) times factor. Strong last layers let the input of
    the next step differ more."""

    def change(diffusion_model: Any) -> None:
        for layer in layers:
            diffusion_model.get_submodule(layer).weight.data *= factor

    return change


def build(family: Family, *, seed: int = 0, dtype: torch.dtype = torch.float32, change_weights: Any = None) -> Any:
    """A ModelPatcher. change_weights: called with the weights by name before they are loaded.

    Raises AbsentModelError.
    """
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    family = for_this_comfyui(family)
    weights = _weights(family, seed)
    if change_weights is not None:
        change_weights(weights)
    patcher = None
    if not family.core_config and dtype is torch.float32:
        load = comfy.sd.load_diffusion_model_state_dict
        options: dict[str, Any] = {"model_options": {"dtype": dtype}}
        if family.header:
            if "metadata" not in inspect.signature(load).parameters:
                raise AbsentModelError(f"its loader reads no header, which a {family.model_class} needs")
            options["metadata"] = {"config": json.dumps({"transformer": family.header})}
        patcher = load(dict(weights), **options)
        if patcher is None:
            raise AbsentModelError(f"its loader does not recognise a tiny {family.model_class}")
    else:
        # The tail of that loader, for sizes that its detection has fixed and for 16-bit arithmetic on a CPU.
        config_class = getattr(comfy.supported_models, family.core_config or "Flux", None)
        if config_class is None:
            raise AbsentModelError(f"there is no supported model {family.core_config}")
        config = config_class(dict(family.config))
        # Some of these classes put the sizes of the real model in.
        config.unet_config.update(family.config)
        config.set_inference_dtype(dtype, None)
        model = config.get_model(dict(weights), "")
        # The converted names are those of the class already: the weights come from it.
        own = {name: value for name, value in weights.items() if name not in family.beside}
        model.diffusion_model.load_state_dict(own)
        cpu = torch.device("cpu")
        patcher = comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)
    expected = family.model_class.rpartition(".")[2]
    assert type(patcher.model.diffusion_model).__name__ == expected
    family.change(patcher.model.diffusion_model)
    return patcher


def conditioning(family: Family, *, seed: int = 1, **extra: Any) -> list[list[Any]]:
    """A CONDITIONING that the family understands."""
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(1, TOKENS, family.context, generator=generator)
    values: dict[str, Any] = {"guidance": 3.5, **family.extra(generator)}
    if family.pooled:
        values["pooled_output"] = torch.randn(1, family.pooled, generator=generator)
    return [[content, {**values, **extra}]]
