"""LoRA on offloaded weights in a form that torch can compile once for all layers and all LoRAs.

ComfyUI cannot merge a LoRA into a weight that it keeps outside of the device, so it hangs a function on the layer that
adds the LoRA to the copy made for each call. That function holds the layer's name and the LoRA's strength as constants,
for each of which torch compiles anew. Here it is replaced, during a call of the model, by functions that hold tensors
only. They compute what comfy.lora.calculate_weight computes, operation by operation, so the bits are the same.

What has no such form (other kinds of adapters, DoRA, patches that call functions) keeps ComfyUI's function, and its
block runs as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

LISTS = ("weight_function", "bias_function")
"""Attributes of ComfyUI's layers: functions that the copy of a weight goes through."""

Replacements = dict[torch.nn.Module, dict[str, list[Any]]]
"""By layer and name of the attribute: what stands there during a call."""


class NotReplaceableError(Exception):
    """A function that no tensors can stand for."""


class TensorPatch:
    """Adds something to a weight, or to the part of it that `offset` names (dimension, first, length)."""

    def __init__(self, strength: float, offset: tuple[int, int, int] | None) -> None:
        # ComfyUI multiplies by a number of Python, which torch rounds to the precision that it computes in.
        self.strength = torch.tensor(strength, dtype=torch.float32)
        self.strength_of_doubles = torch.tensor(strength, dtype=torch.float64)
        self.offset = offset

    def difference(self, part: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def scaled(self, tensor: torch.Tensor) -> torch.Tensor:
        """tensor times the strength, as torch multiplies by a number: rounded once, to the tensor's own type."""
        if tensor.dtype == torch.float64:
            return tensor * self.strength_of_doubles
        return (tensor.float() * self.strength).to(tensor.dtype)

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        part = weight if self.offset is None else weight.narrow(*self.offset)
        part += self.difference(part)
        return weight


class LoraPatch(TensorPatch):
    """up: (rows, rank, ...), down: (rank, columns, ...)"""

    def __init__(
        self, up: torch.Tensor, down: torch.Tensor, strength: float, offset: tuple[int, int, int] | None
    ) -> None:
        super().__init__(strength, offset)
        self.up = up
        self.down = down

    def difference(self, part: torch.Tensor) -> torch.Tensor:
        up, down = (tensor.to(part.device, part.dtype) for tensor in (self.up, self.down))
        product = torch.mm(up.flatten(start_dim=1), down.flatten(start_dim=1)).reshape(part.shape)
        return self.scaled(product).type(part.dtype)


class DifferencePatch(TensorPatch):
    def __init__(self, tensor: torch.Tensor, strength: float, offset: tuple[int, int, int] | None) -> None:
        super().__init__(strength, offset)
        self.tensor = tensor

    def difference(self, part: torch.Tensor) -> torch.Tensor:
        return self.scaled(self.tensor.to(part.device, part.dtype))


def _part_shape(shape: torch.Size, offset: tuple[int, int, int] | None) -> tuple[int, ...]:
    sizes = list(shape)
    if offset is not None:
        sizes[offset[0]] = offset[2]
    return tuple(sizes)


def _tensor_patch(patch: tuple[Any, ...], shape: torch.Size) -> TensorPatch:
    """patch: an entry of a ModelPatcher's patches: strength, value, strength of the model, offset, function."""
    from comfy.weight_adapter import LoRAAdapter

    strength, value, strength_model, offset, function = patch
    if strength_model != 1.0 or function is not None:
        raise NotReplaceableError
    sizes = _part_shape(shape, offset)
    if type(value) is LoRAAdapter:
        up, down, alpha, middle, dora_scale, reshape = value.weights
        fits = up.shape[0] * down[0].numel() == torch.Size(sizes).numel()
        if middle is None and dora_scale is None and reshape is None and fits:
            scale = alpha / down.shape[0] if alpha is not None else 1.0
            return LoraPatch(up, down, strength * scale, offset)
    elif isinstance(value, tuple) and value[:-1] in ((), ("diff",)):
        tensor = value[0] if len(value) == 1 else value[1][0]
        # ComfyUI leaves out what has strength 0 or another shape.
        if isinstance(tensor, torch.Tensor) and tuple(tensor.shape) == sizes and strength != 0:
            return DifferencePatch(tensor, strength, offset)
    raise NotReplaceableError


def _tensor_patches(function: Callable[..., Any], shape: torch.Size) -> list[TensorPatch]:
    from comfy.model_patcher import LowVramPatch

    if type(function) is not LowVramPatch or function.convert_func is not None or function.set_func is not None:
        raise NotReplaceableError
    return [_tensor_patch(patch, shape) for patch in function.patches[function.key]]


def replacements(block: torch.nn.Module) -> Replacements:
    """For all layers of a block that apply patches at each call. Raises NotReplaceableError."""
    found: Replacements = {}
    for layer in block.modules():
        for name in LISTS:
            functions = vars(layer).get(name)
            if functions:
                shape = getattr(layer, name.partition("_")[0]).shape
                patches = [patch for function in functions for patch in _tensor_patches(function, shape)]
                found.setdefault(layer, {})[name] = patches
    return found


class replaced:
    """Puts the replacements in their places meanwhile."""

    def __init__(self, found: Replacements) -> None:
        self.found = found
        self.original: list[tuple[dict[str, Any], str, list[Any]]] = []

    def __enter__(self) -> None:
        for layer, lists in self.found.items():
            attributes = vars(layer)
            for name, patches in lists.items():
                self.original.append((attributes, name, attributes[name]))
                attributes[name] = patches

    def __exit__(self, *_exception: object) -> None:
        for attributes, name, functions in self.original:
            attributes[name] = functions
