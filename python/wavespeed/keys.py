"""Which stored entry belongs to which part of a batch: keys made from what ComfyUI tells a model call.

Neither the order of the conds nor their uuid is enough: batches split differently when free memory changes, core
repeats uuids, guidance nodes evaluate a cond again with other patches, and all context windows carry the same uuids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Key = tuple[int, int, int, int, int]
"""(cond index, upper and lower half of the uuid, window, fingerprint), as include/wavespeed/session.h describes."""

MASK = (1 << 64) - 1

GUIDANCE_FLAGS = ("stg_", "run_", "skip_", "a2v_", "v2a_")
"""Beginnings of option names by which core's guidance nodes change what a pass through the model computes."""


def call_keys(
    transformer_options: dict[str, Any], weight_hooks: Any, inputs: Iterable[str] = ()
) -> tuple[Key, ...] | None:
    """One key per cond of the batch, in row order; None when ComfyUI did not say which conds the batch holds.

    weight_hooks: the HookGroup whose weights are applied now, or None. inputs: names of what the conds give to the
    model; guidance nodes evaluate a cond again with one of them missing.
    """
    conds = transformer_options.get("cond_or_uncond")
    uuids = transformer_options.get("uuids")
    if not conds or not uuids or len(conds) != len(uuids):
        return None
    window = _window(transformer_options.get("context_window")) & MASK
    parts = (_patches(transformer_options), _flags(transformer_options), _weights(weight_hooks), tuple(sorted(inputs)))
    fingerprint = hash(parts) & MASK
    keys = []
    for cond, uuid in zip(conds, uuids, strict=True):
        number = getattr(uuid, "int", None)
        number = hash(uuid) & MASK if number is None else number
        keys.append((int(cond), number >> 64, number & MASK, window, fingerprint))
    return tuple(keys)


def _window(context_window: Any) -> int:
    """0 without context windows, else a hash of the frames the window covers."""
    return 0 if context_window is None else hash(tuple(context_window.index_list))


def _code(patch: Any) -> int:
    """What a patch runs. Not its identity: core makes some patches anew for every call of the model."""
    function = getattr(patch, "__func__", patch)
    return id(getattr(function, "__code__", type(function)))


def _patches(transformer_options: dict[str, Any]) -> tuple[Any, ...]:
    replaced = transformer_options.get("patches_replace") or {}
    added = transformer_options.get("patches") or {}
    return (
        tuple((group, key, _code(patch)) for group, entries in replaced.items() for key, patch in entries.items()),
        tuple((name, tuple(_code(patch) for patch in patches)) for name, patches in added.items()),
    )


def _flags(transformer_options: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, repr(value)) for name, value in transformer_options.items() if name.startswith(GUIDANCE_FLAGS))


def _weights(weight_hooks: Any) -> tuple[Any, ...]:
    """Strength of every weight hook: a keyframe changes the model without changing the first block's input."""
    hooks = getattr(weight_hooks, "hooks", None) or ()
    return tuple((id(hook), getattr(hook, "strength", None)) for hook in hooks)


def whole_batch(call: tuple[Key, ...]) -> tuple[Key, ...]:
    """One key for all conds together, for models whose rows do not follow the order of the conds."""
    _, _, _, window, fingerprint = call[0]
    return ((0, len(call), hash(call) & MASK, window, fingerprint),)


def replaces_blocks(transformer_options: dict[str, Any]) -> bool:
    """Whether other nodes stand in for blocks in this call."""
    return any((transformer_options.get("patches_replace") or {}).values())


def replaces_block(transformer_options: dict[str, Any], number: int) -> bool:
    """Whether another node stands in for a block of this number, in whichever list of the model."""
    entries = ((transformer_options.get("patches_replace") or {}).get("dit") or {}).keys()
    return any(isinstance(entry, tuple) and entry[-1] == number for entry in entries)
