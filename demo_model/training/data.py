"""Pictures of emoji, drawn from the OFL font Noto Color Emoji on soft two-colour backgrounds.

Every picture is made from a class number and random numbers only, so a seed gives the same pictures again.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from safetensors import safe_open
from storage import save_safetensors

# The position in this list is the class number, which is also the guidance value that selects the class.
EMOJI: dict[str, str] = {
    "apple": "🍎",
    "banana": "🍌",
    "strawberry": "🍓",
    "watermelon": "🍉",
    "cherries": "🍒",
    "burger": "🍔",
    "donut": "🍩",
    "cat": "🐱",
    "panda": "🐼",
    "fox": "🦊",
    "frog": "🐸",
    "pig": "🐷",
    "penguin": "🐧",
    "crab": "🦀",
    "cactus": "🌵",
    "tree": "🌲",
    "sunflower": "🌻",
    "mushroom": "🍄",
    "rainbow": "🌈",
    "star": "⭐",
    "football": "⚽",
    "car": "🚗",
    "smile": "😀",
    "pumpkin": "🎃",
}
CLASSES: tuple[str, ...] = tuple(EMOJI)
PICTURE_SIZE = 128
# The colour bitmaps in the font have one size only ("strike"): 109 pixels per em, 136 x 128 pixels each.
FONT_STRIKE = 109
SPRITE_SIZE = 136

# The narrower these ranges, the sharper a small model draws: it has to hold the picture in every possible placement.
SCALE_RANGE = (0.84, 0.90)
ROTATION_DEGREES = 4.0
SHIFT_SHARE = 0.25  # of the room between the emoji and the border of the picture
DARK_BACKGROUND_SHARE = 0.15


def find_font() -> Path:
    """The font as installed by the Debian package fonts-noto-color-emoji."""
    found = sorted(Path("/usr/share/fonts").rglob("NotoColorEmoji.ttf"))
    if not found:
        raise SystemExit("NotoColorEmoji.ttf was not found. Install fonts-noto-color-emoji or pass --font.")
    return found[0]


def render_sprites(font_path: Path) -> torch.Tensor:
    """All emoji with premultiplied alpha: float32 (classes, 4, 136, 136), values 0 to 1."""
    font = ImageFont.truetype(str(font_path), FONT_STRIKE)
    sprites = []
    for emoji in EMOJI.values():
        image = Image.new("RGBA", (SPRITE_SIZE, SPRITE_SIZE), (0, 0, 0, 0))
        ImageDraw.Draw(image).text((0, 4), emoji, font=font, embedded_color=True)
        sprite = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        sprite[:3] *= sprite[3:]
        sprites.append(sprite)
    return torch.stack(sprites)


def hsv_to_rgb(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Colours (n,) each, values 0 to 1, to float32 (n, 3)."""
    channels = []
    for offset in (5, 3, 1):  # red, green, blue: https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
        k = (offset + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, -1)


def draw_backgrounds(count: int, generator: torch.Generator) -> torch.Tensor:
    """Linear ramps between two similar colours: float32 (count, 3, 128, 128), values 0 to 1."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    dark = torch.rand(count, generator=generator) < DARK_BACKGROUND_SHARE
    hue = uniform(0, 1)
    value = torch.where(dark, uniform(0.15, 0.45), uniform(0.72, 1.0))
    saturation = torch.where(dark, uniform(0.2, 0.8), uniform(0.0, 0.55))
    first = hsv_to_rgb(hue, saturation, value)
    second = hsv_to_rgb(
        (hue + uniform(-0.08, 0.08)) % 1,
        (saturation + uniform(-0.15, 0.15)).clamp(0, 1),
        (value + uniform(-0.18, 0.18)).clamp(0.1, 1),
    )
    direction = uniform(0, 2 * math.pi)[:, None, None]
    line = torch.linspace(-1, 1, PICTURE_SIZE)
    ramp = (line * direction.cos() + line[:, None] * direction.sin()) / 2 + 0.5
    return torch.lerp(first[:, :, None, None], second[:, :, None, None], ramp.clamp(0, 1)[:, None])


def draw_pictures(sprites: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Place emoji at random on random backgrounds.

    sprites: float32 (classes, 4, 136, 136); labels: int64 (n,). Returns float32 (n, 3, 128, 128), values 0 to 1.
    """
    count = len(labels)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    scale = uniform(*SCALE_RANGE) * PICTURE_SIZE / SPRITE_SIZE
    angle = uniform(-ROTATION_DEGREES, ROTATION_DEGREES) * math.pi / 180
    room = (PICTURE_SIZE - 128 * scale) / 2 * SHIFT_SHARE
    # affine_grid maps output to input coordinates, both from -1 to 1 over the whole picture.
    shift_x = uniform(-1, 1) * room * 2 / PICTURE_SIZE
    shift_y = uniform(-1, 1) * room * 2 / PICTURE_SIZE
    zoom = PICTURE_SIZE / (SPRITE_SIZE * scale)
    cosine, sine = angle.cos() * zoom, angle.sin() * zoom
    row_x = torch.stack([cosine, sine, -cosine * shift_x - sine * shift_y], -1)
    row_y = torch.stack([-sine, cosine, sine * shift_x - cosine * shift_y], -1)
    # Twice the resolution, then averaged: clean edges.
    grid = F.affine_grid(
        torch.stack([row_x, row_y], 1), [count, 4, PICTURE_SIZE * 2, PICTURE_SIZE * 2], align_corners=False
    )
    placed = F.avg_pool2d(F.grid_sample(sprites[labels], grid, align_corners=False), 2)
    return (placed[:, :3] + draw_backgrounds(count, generator) * (1 - placed[:, 3:])).clamp(0, 1)


def load_pictures(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The file written by this script: pictures uint8 (n, 3, 128, 128) and labels int64 (n,)."""
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("classes") != " ".join(CLASSES):
            raise SystemExit(f"{path} holds other classes than data.py lists. Make it again.")
        return file.get_tensor("pictures"), file.get_tensor("labels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write (about 49 KB per picture)")
    parser.add_argument("--per-class", type=int, default=500, help="pictures of every class")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--font", type=Path, help="path of NotoColorEmoji.ttf (default: the installed one)")
    arguments = parser.parse_args()

    generator = torch.Generator().manual_seed(arguments.seed)
    sprites = render_sprites(arguments.font or find_font())
    every_class = torch.arange(len(CLASSES))
    pictures = torch.empty(arguments.per_class, len(CLASSES), 3, PICTURE_SIZE, PICTURE_SIZE, dtype=torch.uint8)
    for index in range(arguments.per_class):
        pictures[index] = (draw_pictures(sprites, every_class, generator) * 255).round().byte()
        print(f"\r{index + 1} of {arguments.per_class} pictures per class", end="", flush=True)
    print()
    # Classes take turns, so every part of the file is balanced.
    tensors = {"pictures": pictures.flatten(0, 1), "labels": every_class.repeat(arguments.per_class)}
    save_safetensors(tensors, arguments.out, {"classes": " ".join(CLASSES), "font": "Noto Color Emoji, OFL 1.1"})
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
