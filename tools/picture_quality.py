"""How far a picture's file is from another one, in numbers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import torch
from PIL import Image

from comfyui_tree import ROOT

sys.path.insert(0, str(ROOT / "python"))

from wavespeed import picture_quality

if TYPE_CHECKING:
    from pathlib import Path


def psnr(picture: Path, reference: Path) -> float:
    """In dB, of two 8-bit RGB pictures of one size; infinite when they are equal."""
    left, right = (_pixels(path) for path in (picture, reference))
    if left.shape != right.shape:
        raise ValueError(f"{picture.name} is {left.shape[2]}x{left.shape[1]}, {reference.name} is not.")
    return picture_quality.psnr(left, right)


def _pixels(path: Path) -> torch.Tensor:
    """(1, H, W, 3), 8 bit"""
    with Image.open(path) as picture:
        data = bytearray(picture.convert("RGB").tobytes())
        return torch.frombuffer(data, dtype=torch.uint8).reshape(1, picture.height, picture.width, 3)
