"""What several files of this folder test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from block_model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def model() -> Iterator[Model]:
    """A small model of blocks, the same in every test, while no gradients are recorded."""
    torch.manual_seed(0)
    with torch.inference_mode():
        yield Model().eval()
