"""Muon: momentum whose update is made orthogonal, for weight matrices and convolution filters.

Keller Jordan, https://kellerjordan.github.io/posts/muon/ (the coefficients of the iteration are from there). The scale
0.2 * sqrt(larger side) gives updates the size that AdamW's have, so that both share one learning rate:
https://arxiv.org/abs/2502.16982.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ITERATIONS = 5


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Bring all singular values close to 1.

    matrices: float32 (n, rows, columns) with rows <= columns; same on return.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    result = matrices / (matrices.norm(dim=(1, 2), keepdim=True) * 1.02 + 1e-7)
    for _ in range(NEWTON_SCHULZ_ITERATIONS):
        gram = result @ result.transpose(1, 2)
        result = torch.baddbmm(result, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), result, beta=a)
    return result


class Part(NamedTuple):
    """One matrix inside a parameter. Fused matrices (query, key, value) are separate matrices for Muon."""

    parameter: torch.nn.Parameter
    rows: slice = slice(None)
    columns: slice = slice(None)

    def wide(self, tensor: torch.Tensor) -> torch.Tensor:
        """This part of a tensor shaped like the parameter, as a matrix with rows <= columns."""
        matrix = tensor.flatten(1)[self.rows, self.columns]
        return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix

    def gradient(self) -> torch.Tensor:
        """The gradient of this part, as a matrix with rows <= columns."""
        assert self.parameter.grad is not None, "Muon needs a gradient for every parameter"
        return self.wide(self.parameter.grad)


class Muon:
    """Nesterov momentum, orthogonalised; matrices of one shape are computed together."""

    def __init__(self, parts: Sequence[Part], weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        self.weight_decay = weight_decay
        self.momentum = momentum
        self.groups: dict[tuple[int, ...], list[Part]] = {}
        for part in parts:
            if not part.parameter.is_contiguous():
                raise ValueError("Muon updates contiguous parameters only")
            self.groups.setdefault(tuple(part.wide(part.parameter).shape), []).append(part)
        self.buffers = [torch.zeros(len(group), *shape) for shape, group in self.groups.items()]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for (shape, group), buffer in zip(self.groups.items(), self.buffers, strict=True):
            gradients = torch.stack([part.gradient() for part in group])
            buffer.lerp_(gradients, 1 - self.momentum)
            updates = orthogonalise(torch.lerp(gradients, buffer, self.momentum)) * (0.2 * shape[1] ** 0.5)
            for part, update in zip(group, updates, strict=True):
                weight = part.wide(part.parameter.data)  # a view, so the parameter is updated in place
                weight.mul_(1 - learning_rate * self.weight_decay).sub_(update, alpha=learning_rate)

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": self.buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for buffer, saved in zip(self.buffers, state["buffers"], strict=True):
            buffer.copy_(saved)
