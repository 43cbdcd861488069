"""What several files of this folder test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from block_model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def seeded() -> None:
    """The same random numbers in every test."""
    torch.manual_seed(0)


@pytest.fixture
def no_gradients(seeded: None) -> Iterator[None]:
    """No gradients are recorded."""
    with torch.inference_mode():
        yield


@pytest.fixture
def model(no_gradients: None) -> Model:
    """A small model of blocks, the same in every test."""
    return Model().eval()
