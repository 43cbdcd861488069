"""Where figures come from; stands in every line that the scripts of this folder print."""

from __future__ import annotations

import platform
from typing import Any

import torch


def describe(device: str) -> dict[str, Any]:
    """device: "cpu" or "cuda"."""
    on_gpu = device == "cuda"
    return {
        "device": torch.cuda.get_device_name(0) if on_gpu else platform.machine(),
        "cuda": torch.version.cuda if on_gpu else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
