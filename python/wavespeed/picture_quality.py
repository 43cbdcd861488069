"""How far pictures are from others, in numbers. Pictures are 8-bit RGB, (N, H, W, 3), and are compared one by one."""

from __future__ import annotations

import math
from statistics import fmean

import torch

LARGEST = 255
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
LUMA = (0.299, 0.587, 0.114)
"""Of ITU-R BT.601, for red, green and blue."""


def psnr(pictures: torch.Tensor, reference: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB over all of them; infinite when they are equal.

    About: 20 another picture, 30 visible in places, 40 hard to see, 50 invisible.
    """
    error = fmean(
        (one.double() - other.double()).square().mean().item() for one, other in zip(pictures, reference, strict=True)
    )
    return math.inf if error == 0 else 10 * math.log10(LARGEST**2 / error)


def ssim(pictures: torch.Tensor, reference: torch.Tensor) -> float:
    """Structural similarity, the mean over all of them; 1 when they are equal.

    Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, 2004: a Gaussian window of 11
    pixels, on luma.
    """
    return fmean(_ssim(_luma(one), _luma(other)) for one, other in zip(pictures, reference, strict=True))


def _luma(picture: torch.Tensor) -> torch.Tensor:
    """(H, W, 3) -> (H, W)"""
    return picture.double() @ picture.new_tensor(LUMA, dtype=torch.float64)


def _ssim(one: torch.Tensor, other: torch.Tensor) -> float:
    """one, other: (H, W)"""
    first, second, first_square, second_square, product = _blurred(
        torch.stack((one, other, one * one, other * other, one * other))
    )
    stable_mean, stable_variance = (K1 * LARGEST) ** 2, (K2 * LARGEST) ** 2
    means = first * second
    mean_squares = first * first + second * second
    likeness = (2 * means + stable_mean) * (2 * (product - means) + stable_variance)
    scale = (mean_squares + stable_mean) * (first_square + second_square - mean_squares + stable_variance)
    return (likeness / scale).mean().item()


def _blurred(planes: torch.Tensor) -> torch.Tensor:
    """(N, H, W) -> (N, H - 10, W - 10); the window is smaller where a picture is."""
    down, across = (_gaussian(min(WINDOW, length)).to(planes.device) for length in planes.shape[1:])
    columns = torch.nn.functional.conv2d(planes[:, None], down.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(columns, across.view(1, 1, 1, -1))[:, 0]


def _gaussian(length: int) -> torch.Tensor:
    """(length,), with the sum 1"""
    distance = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    weights = torch.exp(-distance.square() / (2 * SIGMA**2))
    return weights / weights.sum()
