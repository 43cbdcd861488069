"""A model of a class without a descriptor: watched once, checked once, and only then cached.

The first call of the model is watched (structure.py), the second is computed with the cache and then run again as a hit
on the same input: the two results must agree. All this costs no more than a first block. Whatever does not work out
leaves the model alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from . import architecture
from .structure import Observer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model_call import Member, ModelCall

ALWAYS = 1e30
"""A threshold that every change stays below."""
AGREEMENT = {torch.float32: 1e-5, torch.float64: 1e-5}
AGREEMENT_OF_16_BIT = 1e-3
"""Mean difference of hit and computed result, relative to the mean of the result; what rounding leaves is far less."""


class Discovery:
    """One model in one sampling run, until its structure is known."""

    def __init__(self, diffusion_model: torch.nn.Module) -> None:
        self._model = diffusion_model
        self._observed: architecture.Architecture | None = None

    def run(self, call: ModelCall, open_member: Callable[..., Member]) -> tuple[Any, architecture.Architecture | None]:
        """Calls the model and learns from it. Returns its result, and the descriptor once it is proved.

        open_member(descriptor, **settings of its session). Raises UndiscoveredModelError where the model cannot be
        cached.
        """
        if self._observed is not None:
            return self._check(self._observed, call, open_member), self._observed
        with Observer(self._model) as observer:
            result = call.run()
            try:
                self._observed = observer.architecture()
            except architecture.UnsupportedModelError as problem:
                raise UndiscoveredModelError(self._sentence(str(problem)), result) from problem
        return result, None

    def _check(self, observed: architecture.Architecture, call: ModelCall, open_member: Callable[..., Member]) -> Any:
        """Computes the call, and reuses it at once."""
        member = open_member(observed, threshold=ALWAYS, sigma_start=math.inf, sigma_end=-math.inf,
                             max_consecutive_hits=-1, strategy="classic", speedup=0.0)  # fmt: skip
        results = []
        try:
            for _ in range(2):
                member.session.begin_evaluation()
                results.append(call.run_cached(member))
            statistics = member.session.statistics()
        finally:
            member.session.close()
        reason = statistics["disabled"]
        if not reason and not (statistics["reused"] == 1 and _agree(*results)):
            reason = "a reused call did not reproduce the computed one"
        if reason:
            raise UndiscoveredModelError(self._sentence(reason), results[0])
        return results[0]

    def _sentence(self, reason: str) -> str:
        name = type(self._model).__name__
        return f"the class {name} is not known, and its blocks cannot be found by watching it: {reason}"


class UndiscoveredModelError(architecture.UnsupportedModelError):
    """The model was called all the same: its result."""

    def __init__(self, sentence: str, result: Any) -> None:
        super().__init__(sentence)
        self.result = result


def _agree(computed: torch.Tensor, reused: torch.Tensor) -> bool:
    allowed = AGREEMENT.get(computed.dtype, AGREEMENT_OF_16_BIT)
    scale = computed.float().abs().mean()
    return bool((computed.float() - reused.float()).abs().mean() <= allowed * scale)
