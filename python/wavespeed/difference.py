"""The memory of a difference: 8 bits for each element and a scale for a group of them (include/wavespeed/kernels.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

DIFFERENCE_GROUP = 512
"""Elements that share a scale, in memory order: WS_KERNEL_GROUP in kernels.h."""


def count_groups(n: int | torch.SymInt) -> Any:
    return (n + DIFFERENCE_GROUP - 1) // DIFFERENCE_GROUP


def difference_size(n: int | torch.SymInt) -> Any:
    """In floats: the scales, then the values, four in the place of a float."""
    return count_groups(n) + (n + 3) // 4
