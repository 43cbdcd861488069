"""An autoencoder with the layout of TAESD (https://github.com/madebyollin/taesd): 8 x smaller, 16 latent channels.

ComfyUI builds this layout with 64 channels everywhere. A narrow network is trained, and its filters are padded with
zeros for the file. That is exact: a channel whose filters and bias are zero stays zero through every ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

LATENT_CHANNELS = 16
FULL_WIDTH = 64
# Channels at full, half, quarter and eighth resolution, and the trained residual blocks there. The layout has 1, 3, 3
# and 3 blocks in both halves; blocks that are not trained keep zero filters, so only their ReLU remains.
ENCODER_WIDTHS = (8, 32, 64, 64)
ENCODER_BLOCKS = (0, 0, 1, 2)
DECODER_WIDTHS = (16, 32, 64, 64)
DECODER_BLOCKS = (1, 1, 2, 3)
LAYOUT_BLOCKS = (1, 3, 3, 3)

# The decoder squashes its input with 3 * tanh(x / 3), so codes should stay small, while the Flux model learns best at
# unit variance. The Flux model therefore works on code / CODE_SCALE.
CODE_SCALE = 0.8
CODE_LIMIT = 4.0
# ComfyUI's latent format for Flux (comfy/latent_formats.py): model latent = (latent - shift) * scale.
FLUX_SCALE = 0.3611
FLUX_SHIFT = 0.1159


def convolution(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride, bias=bias)


class Block(nn.Module):
    """Residual block. It starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = convolution(width, width)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.conv = nn.Sequential(convolution(width, width), nn.ReLU(), convolution(width, width), nn.ReLU(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32 (n, width, height, width in pixels); same on return."""
        return F.relu(self.conv(x) + x)


class Clamp(nn.Module):
    """TAESD's soft limit in front of the decoder."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape; same on return, values between -3 and 3."""
        return torch.tanh(x / 3) * 3


def blocks(stage: int, width: int, trained: int) -> list[nn.Module]:
    """The residual blocks of one resolution. A block with zero filters is just a ReLU."""
    return [Block(width) if index < trained else nn.ReLU() for index in range(LAYOUT_BLOCKS[stage])]


def build_encoder(widths: Sequence[int], trained_blocks: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [convolution(3, widths[0]), *blocks(0, widths[0], trained_blocks[0])]
    for stage in (1, 2, 3):
        layers.append(convolution(widths[stage - 1], widths[stage], stride=2, bias=False))
        layers.extend(blocks(stage, widths[stage], trained_blocks[stage]))
    return nn.Sequential(*layers, convolution(widths[3], LATENT_CHANNELS))


def build_decoder(widths: Sequence[int], trained_blocks: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [Clamp(), convolution(LATENT_CHANNELS, widths[3]), nn.ReLU()]
    for stage in (3, 2, 1, 0):
        layers.extend(blocks(stage, widths[stage], trained_blocks[stage]))
        if stage > 0:
            layers.append(nn.Upsample(scale_factor=2))
            layers.append(convolution(widths[stage], widths[stage - 1], bias=False))
    return nn.Sequential(*layers, convolution(widths[0], 3))


class Autoencoder(nn.Module):
    """Parameter names are those of ComfyUI's comfy/taesd/taesd.py."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_encoder = build_encoder(ENCODER_WIDTHS, ENCODER_BLOCKS)
        self.taesd_decoder = build_decoder(DECODER_WIDTHS, DECODER_BLOCKS)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """pictures: float32 (n, 3, height, width), values 0 to 1. Returns float32 (n, 16, height / 8, width / 8)."""
        return self.taesd_encoder(pictures.contiguous(memory_format=torch.channels_last)).contiguous()

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """codes: float32 (n, 16, height, width). Returns float32 (n, 3, 8 * height, 8 * width), about 0 to 1."""
        return self.taesd_decoder(codes.contiguous(memory_format=torch.channels_last)).contiguous()


@torch.no_grad()
def start_from_principal_components(autoencoder: Autoencoder, pictures: torch.Tensor) -> None:
    """Make the encoder an exact whitened PCA of 8 x 8 patches; training then starts from a good linear code.

    The colours are not negative, so they pass every ReLU unchanged. Two convolutions with stride 2 collect 4 x 4 pixels
    in 48 channels, the third computes the components and their negatives, the last one subtracts the halves after the
    ReLU. pictures: float32 (n, 3, height, width), values 0 to 1.
    """
    count = LATENT_CHANNELS
    patches = pictures.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 192)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    deviations = values.flip(0)[:count].sqrt()
    components = vectors.flip(1)[:, :count].T / deviations[:, None]
    filters = components.view(count, 3, 8, 8)

    # The convolutions outside the residual blocks.
    stem, first, second, third, last = (layer for layer in autoencoder.taesd_encoder if isinstance(layer, nn.Conv2d))
    assert stem.bias is not None
    assert last.bias is not None
    for layer in (stem, first, second, third, last):
        layer.weight.mul_(0.3)
    stem.weight[:3] = 0
    stem.bias[:3] = 0
    for colour in range(3):
        stem.weight[colour, colour, 1, 1] = 1
    for layer, channels in ((first, 3), (second, 12)):
        layer.weight[: 4 * channels] = 0
        for channel in range(channels):
            for row in range(2):
                for column in range(2):
                    layer.weight[channel * 4 + row * 2 + column, channel, 1 + row, 1 + column] = 1
    third.weight[: 2 * count] = 0
    for colour in range(3):
        for y in range(8):
            for x in range(8):
                # The bits of a pixel's place in the patch say in which channel and tap it arrives.
                channel = (colour * 4 + (y & 1) * 2 + (x & 1)) * 4 + (y >> 1 & 1) * 2 + (x >> 1 & 1)
                third.weight[:count, channel, 1 + (y >> 2), 1 + (x >> 2)] = filters[:, colour, y, x]
                third.weight[count : 2 * count, channel, 1 + (y >> 2), 1 + (x >> 2)] = -filters[:, colour, y, x]
    last.weight[:, : 2 * count] = 0
    last.weight[:, 2 * count :] *= 0.1
    for component in range(count):
        last.weight[component, component, 1, 1] = 1
        last.weight[component, count + component, 1, 1] = -1
    last.bias.copy_(-(components @ mean))


def padded_state(autoencoder: Autoencoder) -> dict[str, torch.Tensor]:
    """All tensors that ComfyUI expects, float16, the trained filters in the first channels of each."""
    full_widths = (FULL_WIDTH,) * len(LAYOUT_BLOCKS)
    full = nn.ModuleDict(
        {
            "taesd_encoder": build_encoder(full_widths, LAYOUT_BLOCKS),
            "taesd_decoder": build_decoder(full_widths, LAYOUT_BLOCKS),
        }
    )
    state = {name: torch.zeros_like(tensor, dtype=torch.float16) for name, tensor in full.state_dict().items()}
    for name, tensor in autoencoder.state_dict().items():
        state[name][tuple(slice(0, size) for size in tensor.shape)] = tensor.half()
    # ComfyUI decodes (latent - vae_shift) * vae_scale, where latent = model latent / FLUX_SCALE + FLUX_SHIFT.
    state["vae_scale"] = torch.tensor(FLUX_SCALE * CODE_SCALE, dtype=torch.float16)
    state["vae_shift"] = torch.tensor(FLUX_SHIFT, dtype=torch.float16)
    return state


def load_padded_state(autoencoder: Autoencoder, state: Mapping[str, torch.Tensor]) -> None:
    """The inverse of padded_state: take the trained filters out of an exported file."""
    autoencoder.load_state_dict(
        {
            name: state[name][tuple(slice(0, size) for size in tensor.shape)].float()
            for name, tensor in autoencoder.state_dict().items()
        }
    )
