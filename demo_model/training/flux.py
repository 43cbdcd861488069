"""A small Flux in plain PyTorch, for training.

Parameter names and arithmetic are those of the original model (https://github.com/black-forest-labs/flux, model.py and
modules/layers.py), so the saved file loads into ComfyUI as it is. ComfyUI's own implementation updates tensors in place
and cannot be trained. The class number travels through the guidance input; the text input is a constant.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN_SIZE = 128
HEAD_SIZE = 128
DOUBLE_BLOCKS = 4
SINGLE_BLOCKS = 8
MLP_RATIO = 4
# ComfyUI reads the width of the text input from the file and then fixes these: rotary axes, embedding size, base.
CONTEXT_SIZE = 1024
ROTARY_AXES = (16, 56, 56)
ROTARY_BASE = 10000
EMBEDDING_SIZE = 256
# A latent of 16 channels, in patches of 2 x 2.
LATENT_CHANNELS = 16
TOKEN_SIZE = LATENT_CHANNELS * 4
GRID = 8  # tokens per side of a 128-pixel picture
TEXT_TOKENS = 2  # a text of any length works as well, because all text tokens are equal and carry no position


def sinusoidal_embedding(values: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Embedding of sigmas or guidance values.

    ComfyUI converts the guidance value to the dtype of the model before it multiplies by 1000, so the embedding differs
    with that dtype. values: (n,). Returns float32 (n, 256).
    """
    scaled = (values.to(dtype) * 1000).float()
    half = EMBEDDING_SIZE // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = scaled[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1).to(dtype).float()


def rotary_angles() -> torch.Tensor:
    """Rotations of every token, first the text and then the image row by row: complex64 (tokens, 64)."""
    positions = torch.zeros(TEXT_TOKENS + GRID * GRID, len(ROTARY_AXES), dtype=torch.float64)
    positions[TEXT_TOKENS:, 1] = torch.arange(GRID).repeat_interleave(GRID)
    positions[TEXT_TOKENS:, 2] = torch.arange(GRID).repeat(GRID)
    angles = []
    for axis, size in enumerate(ROTARY_AXES):
        frequencies = ROTARY_BASE ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles.append(positions[:, axis : axis + 1] * frequencies)
    joined = torch.cat(angles, -1)
    return torch.polar(torch.ones_like(joined), joined).to(torch.complex64)


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Layer norm without parameters. x: float32 (n, tokens, hidden); same on return."""
    return F.layer_norm(x, (x.shape[-1],), eps=1e-6)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """query, key, value: float32 (n, heads, tokens, 128); rotations: complex64 (tokens, 64).

    Returns float32 (n, tokens, hidden).
    """

    def rotate(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.contiguous().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * rotations).flatten(-2)

    return F.scaled_dot_product_attention(rotate(query), rotate(key), value).transpose(1, 2).flatten(2)


class RMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32 (..., size); same on return."""
        return F.rms_norm(x, (x.shape[-1],), self.scale)


class QueryKeyNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_norm = RMSNorm(HEAD_SIZE)
        self.key_norm = RMSNorm(HEAD_SIZE)

    def split(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """qkv: float32 (n, tokens, 3 * hidden). Returns query, key, value: float32 (n, heads, tokens, 128)."""
        query, key, value = qkv.unflatten(-1, (3, -1, HEAD_SIZE)).permute(2, 0, 3, 1, 4)
        return self.query_norm(query), self.key_norm(key), value


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HIDDEN_SIZE, 3 * HIDDEN_SIZE)
        self.norm = QueryKeyNorm()
        self.proj = nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)


class Modulation(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.lin = nn.Linear(HIDDEN_SIZE, count * HIDDEN_SIZE)

    def forward(self, conditioning: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """conditioning: float32 (n, hidden). Returns shift, scale and gate, once or twice: float32 (n, 1, hidden)."""
        return self.lin(F.silu(conditioning))[:, None].chunk(self.count, -1)


class MLPEmbedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_layer = nn.Linear(EMBEDDING_SIZE, HIDDEN_SIZE)
        self.out_layer = nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """embedding: float32 (n, 256). Returns float32 (n, hidden)."""
        return self.out_layer(F.silu(self.in_layer(embedding)))


def build_mlp() -> nn.Sequential:
    inner = MLP_RATIO * HIDDEN_SIZE
    return nn.Sequential(nn.Linear(HIDDEN_SIZE, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, HIDDEN_SIZE))


class DoubleBlock(nn.Module):
    """Image and text tokens have their own weights and one attention."""

    def __init__(self) -> None:
        super().__init__()
        self.img_mod, self.img_attn, self.img_mlp = Modulation(6), SelfAttention(), build_mlp()
        self.txt_mod, self.txt_attn, self.txt_mlp = Modulation(6), SelfAttention(), build_mlp()

    def forward(
        self, image: torch.Tensor, text: torch.Tensor, conditioning: torch.Tensor, rotations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """image, text: float32 (n, tokens, hidden); conditioning: float32 (n, hidden). Returns image and text."""
        image_modulation, text_modulation = self.img_mod(conditioning), self.txt_mod(conditioning)
        parts = []
        for tokens, layer, (shift, scale, *_) in (
            (text, self.txt_attn, text_modulation),
            (image, self.img_attn, image_modulation),
        ):
            parts.append(layer.norm.split(layer.qkv(normalise(tokens) * (1 + scale) + shift)))
        query, key, value = (torch.cat(pair, 2) for pair in zip(*parts, strict=True))
        attended = attention(query, key, value, rotations)
        text_length = text.shape[1]
        image = self._add(image, attended[:, text_length:], self.img_attn, self.img_mlp, image_modulation)
        text = self._add(text, attended[:, :text_length], self.txt_attn, self.txt_mlp, text_modulation)
        return image, text

    @staticmethod
    def _add(
        tokens: torch.Tensor,
        attended: torch.Tensor,
        layer: SelfAttention,
        mlp: nn.Sequential,
        modulation: tuple[torch.Tensor, ...],
    ) -> torch.Tensor:
        """tokens, attended: float32 (n, tokens, hidden). Returns the tokens after attention and MLP."""
        _, _, attention_gate, shift, scale, mlp_gate = modulation
        tokens = tokens + attention_gate * layer.proj(attended)
        return tokens + mlp_gate * mlp(normalise(tokens) * (1 + scale) + shift)


class SingleBlock(nn.Module):
    """All tokens together; attention and MLP side by side."""

    def __init__(self) -> None:
        super().__init__()
        inner = MLP_RATIO * HIDDEN_SIZE
        self.modulation = Modulation(3)
        self.linear1 = nn.Linear(HIDDEN_SIZE, 3 * HIDDEN_SIZE + inner)
        self.linear2 = nn.Linear(HIDDEN_SIZE + inner, HIDDEN_SIZE)
        self.norm = QueryKeyNorm()

    def forward(self, tokens: torch.Tensor, conditioning: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
        """tokens: float32 (n, tokens, hidden); conditioning: float32 (n, hidden). Returns the tokens."""
        shift, scale, gate = self.modulation(conditioning)
        hidden = self.linear1(normalise(tokens) * (1 + scale) + shift)
        qkv, inner = hidden[..., : 3 * HIDDEN_SIZE], hidden[..., 3 * HIDDEN_SIZE :]
        attended = attention(*self.norm.split(qkv), rotations)
        return tokens + gate * self.linear2(torch.cat([attended, F.gelu(inner, approximate="tanh")], -1))


class LastLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(HIDDEN_SIZE, TOKEN_SIZE)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(HIDDEN_SIZE, 2 * HIDDEN_SIZE))

    def forward(self, tokens: torch.Tensor, conditioning: torch.Tensor) -> torch.Tensor:
        """tokens: float32 (n, tokens, hidden); conditioning: float32 (n, hidden). Returns float32 (n, tokens, 64)."""
        shift, scale = self.adaLN_modulation(conditioning)[:, None].chunk(2, -1)
        return self.linear(normalise(tokens) * (1 + scale) + shift)


class Flux(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.img_in = nn.Linear(TOKEN_SIZE, HIDDEN_SIZE)
        self.txt_in = nn.Linear(CONTEXT_SIZE, HIDDEN_SIZE)
        self.time_in = MLPEmbedder()
        self.guidance_in = MLPEmbedder()
        self.double_blocks = nn.ModuleList(DoubleBlock() for _ in range(DOUBLE_BLOCKS))
        self.single_blocks = nn.ModuleList(SingleBlock() for _ in range(SINGLE_BLOCKS))
        self.final_layer = LastLayer()
        # A plain attribute, so that the file holds exactly the parameters of the original.
        self.rotations = rotary_angles()
        self._initialise()

    def _initialise(self) -> None:
        """Every block starts as the identity (adaLN-zero, https://arxiv.org/abs/2212.09748)."""
        for name, parameter in self.named_parameters():
            zero = "mod" in name or name.startswith("final_layer") or name == "txt_in.weight" or name.endswith("bias")
            if zero:
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        for embedder in (self.time_in, self.guidance_in):
            nn.init.normal_(embedder.in_layer.weight, std=0.02)
            nn.init.normal_(embedder.out_layer.weight, std=0.02)
        nn.init.normal_(self.txt_in.bias, std=0.5)
        # Stays zero: whatever text arrives, all text tokens equal the bias.
        self.txt_in.weight.requires_grad_(False)

    def forward(self, tokens: torch.Tensor, sigma: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
        """The predicted velocity, noise minus picture.

        tokens: float32 (n, 64, 64), see to_tokens; sigma, guidance: float32 (n, 256), see sinusoidal_embedding.
        Returns float32 (n, 64, 64).
        """
        image = self.img_in(tokens)
        text = self.txt_in.bias.expand(len(tokens), TEXT_TOKENS, -1)
        conditioning = self.time_in(sigma) + self.guidance_in(guidance)
        for block in self.double_blocks:
            image, text = block(image, text, conditioning, self.rotations)
        joined = torch.cat([text, image], 1)
        for block in self.single_blocks:
            joined = block(joined, conditioning, self.rotations)
        return self.final_layer(joined[:, TEXT_TOKENS:], conditioning)


def to_tokens(latents: torch.Tensor) -> torch.Tensor:
    """latents: (n, 16, 16, 16). Returns (n, 64, 64): patches of 2 x 2, values in the order channel, row, column."""
    return F.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def to_latents(tokens: torch.Tensor) -> torch.Tensor:
    """The inverse of to_tokens."""
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (GRID, GRID)), 2)
