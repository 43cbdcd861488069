"""PSNR and SSIM: against their definitions, written out plainly."""

from __future__ import annotations

import math

import pytest
import torch

from wavespeed.picture_quality import psnr, ssim


def pictures(count: int = 1, height: int = 24, width: int = 20, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def disturbed(reference: torch.Tensor, by: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(-by, by + 1, reference.shape, generator=generator)
    return (reference.int() + noise).clamp(0, 255).to(torch.uint8)


def ssim_by_definition(one: torch.Tensor, other: torch.Tensor) -> float:
    """One window at a time, with the sums of the paper."""
    weight = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    window = torch.tensor([[a * b for b in weight] for a in weight], dtype=torch.float64)
    window /= window.sum()
    x, y = (0.299 * p[..., 0].double() + 0.587 * p[..., 1].double() + 0.114 * p[..., 2].double() for p in (one, other))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (plane[top : top + 11, left : left + 11] for plane in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            found.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
            )
    return torch.stack(found).mean().item()


@pytest.mark.parametrize("by", [3, 40, 255])
def test_ssim_is_what_the_paper_defines(by: int) -> None:
    reference = pictures()
    other = disturbed(reference, by)
    assert ssim(other, reference) == pytest.approx(ssim_by_definition(other[0], reference[0]), abs=1e-9)
    assert ssim(other, reference) == pytest.approx(ssim(reference, other), abs=1e-12)


def test_equal_pictures_are_equal() -> None:
    reference = pictures(count=2)
    assert psnr(reference, reference) == math.inf
    assert ssim(reference, reference) == pytest.approx(1.0, abs=1e-12)


def test_psnr_of_a_known_difference() -> None:
    reference = torch.full((1, 8, 8, 3), 100, dtype=torch.uint8)
    assert psnr(reference + 1, reference) == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert psnr(reference + 10, reference) == pytest.approx(20 * math.log10(25.5), abs=1e-9)
    assert psnr(torch.zeros_like(reference), torch.full_like(reference, 255)) == pytest.approx(0.0, abs=1e-12)


def test_more_noise_is_farther_away() -> None:
    reference = pictures()
    others = [disturbed(reference, by) for by in (1, 5, 25, 125)]
    for measure in (psnr, ssim):
        values = [measure(other, reference) for other in others]
        assert values == sorted(values, reverse=True)


def test_pictures_of_a_batch_are_compared_one_by_one() -> None:
    reference = pictures(count=3)
    other = disturbed(reference, 30)
    assert ssim(other, reference) == pytest.approx(
        sum(ssim(other[i : i + 1], reference[i : i + 1]) for i in range(3)) / 3
    )
    errors = [10 ** (-psnr(other[i : i + 1], reference[i : i + 1]) / 10) for i in range(3)]
    assert psnr(other, reference) == pytest.approx(-10 * math.log10(sum(errors) / 3))
    with pytest.raises(ValueError, match="zip"):
        psnr(other, reference[:2])


def test_pictures_smaller_than_the_window_can_be_compared() -> None:
    reference = pictures(height=8, width=5)
    assert ssim(reference, reference) == pytest.approx(1.0, abs=1e-12)
    assert ssim(disturbed(reference, 100), reference) < 0.9
