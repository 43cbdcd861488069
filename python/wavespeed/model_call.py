"""One call of a diffusion model, as ComfyUI's APPLY_MODEL wrappers see it, and one model as a sampling run sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import keys

if TYPE_CHECKING:
    import torch

    from .architecture import Architecture


@dataclass(frozen=True)
class Member:
    """One base model that takes part in a run, with its native session."""

    descriptor: Architecture
    last_block: int | None
    """Number of the block whose result is the end of the trunk, if that is how this family is cached."""
    session: Any
    refusals: set[str] = field(default_factory=set)
    """Why calls of this model were made without the cache."""


class ModelCall:
    """args: x (B, C, ...), sigma (B,), c_concat, c_crossattn, control, transformer_options."""

    def __init__(self, executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._executor = executor
        self._args = args
        self._kwargs = kwargs

    @property
    def base_model(self) -> Any:
        return self._executor.class_obj

    def run(self) -> Any:
        """Calls the model, and may do so again: models take a ControlNet's tensors out of the lists they are given."""
        control = self._args[4]
        if control is not None:
            control = {name: list(value) if isinstance(value, list) else value for name, value in control.items()}
        return self._executor(*self._args[:4], control, *self._args[5:], **self._kwargs)

    def run_cached(self, member: Member) -> Any:
        """Calls the model with the cache where this call allows it."""
        if not self._open(member):
            return self.run()
        completed = again = False
        try:
            result = self.run()
            completed = True
        finally:
            again = member.session.close_call(completed)
        return self.run() if again else result

    def _open(self, member: Member) -> bool:
        options: dict[str, Any] = self._args[5]
        refusal = self._refusal(member, options)
        hooks = getattr(self.base_model.current_patcher, "current_hooks", None)
        call = None if refusal else keys.call_keys(options, hooks, self._kwargs)
        if call is None:
            member.refusals.add(refusal or "ComfyUI did not say which prompts a batch holds")
            return False
        if member.descriptor.whole_batch:
            call = keys.whole_batch(call)
        sigma: torch.Tensor = self._args[1][:1]
        return member.session.open_call(call, sigma, keys.replaces_blocks(options))

    @staticmethod
    def _refusal(member: Member, options: dict[str, Any]) -> str:
        """Why a call with these options has to be made without the cache, in words; empty when it need not."""
        for option in member.descriptor.never_options:
            if option in options:
                return f"with {option} its blocks fill caches that later calls read, so every call is computed"
        if member.last_block is not None and keys.replaces_block(options, member.last_block):
            return "another node replaces the last block, which would take the reused state to the end"
        return ""
