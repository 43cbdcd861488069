"""Two published ways of leaving blocks out, on the demo model through ComfyUI's own replacement of blocks.

Written after the descriptions of their authors, for comparison only. Both put `input of the first block + a forecast of
what all blocks add to it` in the place of the trunk's end, and both decide once for the whole batch. Here the first
block runs in every evaluation; it is charged to nobody.

DiCache (https://arxiv.org/abs/2508.17356): the relative change of the first block's output is added up from evaluation
to evaluation and may reach a threshold; the first fifth and the last evaluation are computed. The forecast goes along
the last two residuals by the ratio of the probe's distances, between 1 and 1.5.

Taylor (TaylorSeer, https://arxiv.org/abs/2503.06923), first order: every n-th evaluation is computed, and the first
three are; the forecast is linear in the number of the evaluation. The authors extrapolate every attention and MLP
apart, which for a first order is the same sum but for the gates.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DOUBLE_BLOCKS, SINGLE_BLOCKS = 4, 8
"""Of the demo model."""


class PublishedCache:
    """For one run of `evaluations` evaluations."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations
        self.number = -1
        self.hit = False
        self.input: torch.Tensor
        self.probe: torch.Tensor
        self.residuals: list[torch.Tensor] = []
        """Of the last two computed evaluations, newest first, each (B, tokens, width) as are input and probe."""

    def decide(self) -> bool:
        """Whether this evaluation is left out; called once in each, behind the first block."""
        raise NotImplementedError

    def forecast(self) -> torch.Tensor:
        raise NotImplementedError

    def store(self, residual: torch.Tensor) -> None:
        self.residuals = [residual, *self.residuals[:1]]

    def patched(self, model: Any) -> Any:
        clone = model.clone()
        for number in range(DOUBLE_BLOCKS):
            clone.set_model_patch_replace(partial(self._double_block, number), "dit", "double_block", number)
        for number in range(SINGLE_BLOCKS):
            clone.set_model_patch_replace(partial(self._single_block, number), "dit", "single_block", number)
        return clone

    def _double_block(self, number: int, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        if number > 0:
            return {"img": args["img"], "txt": args["txt"]} if self.hit else extra["original_block"](args)
        self.input = args["img"].clone()  # blocks write in place
        result = extra["original_block"](args)
        self.number += 1
        self.probe = result["img"].clone()
        self.hit = self.decide()
        return result

    def _single_block(self, number: int, args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        """args["img"]: text and picture tokens, one behind the other."""
        tokens = self.input.shape[1]
        last = number == SINGLE_BLOCKS - 1
        if not self.hit:
            result = extra["original_block"](args)
            if last:
                self.store(result["img"][:, -tokens:] - self.input)
            return result
        joint = args["img"]
        if last:
            joint = joint.clone()
            joint[:, -tokens:] = self.input + self.forecast()
        return {"img": joint}


class DiCache(PublishedCache):
    def __init__(self, evaluations: int, threshold: float) -> None:
        super().__init__(evaluations)
        self.threshold = threshold
        self.change = 0.0
        self.last_probe: torch.Tensor | None = None
        self.probe_residuals: list[torch.Tensor] = []

    def decide(self) -> bool:
        last, self.last_probe = self.last_probe, self.probe
        if last is None or self.number <= int(0.2 * self.evaluations) or self.number == self.evaluations - 1:
            self.change = 0.0
            return False
        self.change += ((self.probe - last).abs().mean() / last.abs().mean()).item()
        if self.change < self.threshold:
            return True
        self.change = 0.0
        return False

    def forecast(self) -> torch.Tensor:
        if len(self.residuals) < 2:
            return self.residuals[0]
        newer, older = self.probe_residuals
        moved = (self.probe - self.input - older).abs().mean() / (newer - older).abs().mean()
        return self.residuals[1] + moved.clip(1, 1.5) * (self.residuals[0] - self.residuals[1])

    def store(self, residual: torch.Tensor) -> None:
        super().store(residual)
        self.probe_residuals = [self.probe - self.input, *self.probe_residuals[:1]]


class Taylor(PublishedCache):
    COMPUTED_FIRST = 3

    def __init__(self, evaluations: int, interval: int) -> None:
        super().__init__(evaluations)
        self.interval = interval
        self.computed: list[int] = []
        """Numbers of the last two computed evaluations, newest first."""

    def decide(self) -> bool:
        if self.number >= self.COMPUTED_FIRST and self.number - self.computed[0] < self.interval:
            return True
        self.computed = [self.number, *self.computed[:1]]
        return False

    def forecast(self) -> torch.Tensor:
        newer, older = self.computed
        slope = (self.residuals[0] - self.residuals[1]) / (newer - older)
        return self.residuals[0] + (self.number - newer) * slope
