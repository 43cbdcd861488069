"""What compiled code takes for granted about a block, as one value that can be compared.

Compiled code of one block serves every block with the same signature. So torch need not check a hundred things about
the block at each call, and a signature must hold all that the code may have taken in: classes, shapes, places and plain
attributes of the block and of everything inside. Values of weights are no part of it: they are inputs of the code.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import torch

from . import offloaded_lora, stable_text
from .stable_text import PLAIN

SAME_OBJECT = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
OWN_TO_MODULES = frozenset(vars(torch.nn.Module())) - {"training"} | {"_compiled_call_impl", "forward"}
OF_A_LAYER = frozenset({"seed_key"})
"""ComfyUI names every layer with it; read only where a layer applies LoRA patches itself, which is_left_out finds."""
OF_A_LOADED_MODEL = frozenset(
    {
        "current_patcher",
        "current_weight_patches_uuid",
        "dynamic_patchers",
        "dynamic_pins",
        "dynamic_vbars",
        "lowvram_patch_counter",
        "model_loaded_weight_memory",
        "model_lowvram",
        "model_offload_buffer_memory",
        "skip_injection",
    }
)
"""What ComfyUI's ModelPatcher notes on the module that it loads, which is a whole ControlNet: how much of it is where.
The weights themselves show that."""
BOOKKEEPING = OF_A_LAYER | OF_A_LOADED_MODEL
DEPTH = 4
LORA = "LoRA patches of a kind that torch cannot compile are applied to their offloaded weights at each call"

Signature = tuple[Any, ...]


@dataclass(frozen=True)
class OnlyThisObject:
    """Stands for an object about which nothing is known. It is the same in this process only."""

    kind: type
    identity: int


def is_left_out(block: torch.nn.Module) -> str:
    """Half a sentence when a block cannot be compiled soundly as it is loaded now, else an empty text."""
    for module in block.modules():
        attributes = vars(module)
        if attributes.get("_v") is not None:
            return "dynamic VRAM moves their weights"
        if attributes.get("weight_lowvram_function") or attributes.get("bias_lowvram_function"):
            return LORA
        functions = [function for name in offloaded_lora.LISTS for function in attributes.get(name) or ()]
        if not all(isinstance(function, offloaded_lora.TensorPatch) for function in functions):
            return LORA
    return ""


def of_block(block: torch.nn.Module) -> Signature:
    return tuple((name, *_of_module(module, own_hooks=name != "")) for name, module in block.named_modules())


def _of_module(module: torch.nn.Module, own_hooks: bool) -> Signature:
    attributes = vars(module)
    tensors = {**module._parameters, **module._buffers}
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values()) if own_hooks else ()
    return (
        type(module),
        type(module).forward,  # packs exchange it for all modules of a class
        attributes.get("forward"),
        tuple((name, _of_value(value, DEPTH)) for name, value in tensors.items()),
        tuple(
            (name, _of_value(value, DEPTH))
            for name, value in sorted(attributes.items())
            if name not in OWN_TO_MODULES and name not in BOOKKEEPING
        ),
        hooks,
    )


def _of_value(value: Any, depth: int) -> Any:
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, torch.Tensor):
        return type(value), tuple(value.shape), value.stride(), value.dtype, value.device
    if isinstance(value, SAME_OBJECT):
        return value
    if depth > 0:
        if isinstance(value, (list, tuple)):
            return type(value), tuple(_of_value(item, depth - 1) for item in value)
        if isinstance(value, dict):
            return dict, tuple((str(key), _of_value(item, depth - 1)) for key, item in value.items())
        if hasattr(value, "__dict__"):
            return type(value), tuple((name, _of_value(item, depth - 1)) for name, item in vars(value).items())
    return OnlyThisObject(type(value), id(value))


def text(signature: Signature) -> str | None:
    """The same text in another process for blocks with the same signature; None where there is none."""
    return stable_text.of_value(signature)
