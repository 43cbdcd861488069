"""Euler sampling with classifier-free guidance, the same as ComfyUI's KSampler with "euler" and "simple"."""

from __future__ import annotations

import itertools
import math

import torch
from flux import GRID, LATENT_CHANNELS, Flux, sinusoidal_embedding, to_latents, to_tokens

# The guidance value of the class "any picture", which classifier-free guidance compares with. It stays below 65 because
# a model in float16 multiplies it by 1000, and 65504 is the largest number there.
NULL_CLASS = 60
# ComfyUI's model sampling for Flux uses this shift and a table of 10000 sigmas.
SHIFT = 1.15
TABLE_SIZE = 10000


def simple_sigmas(steps: int) -> list[float]:
    """The scheduler "simple": steps + 1 values from 1 down to 0."""
    times = torch.arange(1, TABLE_SIZE + 1) / TABLE_SIZE
    table = math.exp(SHIFT) / (math.exp(SHIFT) + (1 / times - 1))
    return [float(table[-(1 + int(index * TABLE_SIZE / steps))]) for index in range(steps)] + [0.0]


def initial_noise(seed: int) -> torch.Tensor:
    """The noise that ComfyUI makes for one 128-pixel picture: float32 (1, 16, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, LATENT_CHANNELS, 2 * GRID, 2 * GRID, generator=generator)


@torch.inference_mode()
def sample(model: Flux, labels: torch.Tensor, noise: torch.Tensor, steps: int, cfg: float) -> torch.Tensor:
    """Draw latents of the given classes.

    labels: int64 (n,); noise: float32 (n, 16, 16, 16). Returns model latents, float32 (n, 16, 16, 16).
    """
    guidance = sinusoidal_embedding(labels.float())
    null_guidance = sinusoidal_embedding(torch.full_like(labels, NULL_CLASS).float())
    tokens = to_tokens(noise)
    sigmas = simple_sigmas(steps)
    for sigma, next_sigma in itertools.pairwise(sigmas):
        sigma_embedding = sinusoidal_embedding(torch.full(labels.shape, sigma))
        velocity = model(tokens, sigma_embedding, guidance)
        if cfg != 1:
            unconditional = model(tokens, sigma_embedding, null_guidance)
            velocity = unconditional + cfg * (velocity - unconditional)
        tokens = tokens + (next_sigma - sigma) * velocity
    return to_latents(tokens)
