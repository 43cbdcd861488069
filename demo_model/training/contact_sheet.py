"""Draw every class and write one picture of all of them, without ComfyUI.

The result is what ComfyUI draws with KSampler ("euler", "simple", the same steps, CFG and seed) and VAEDecode. The
first pictures of all classes have the seeds --seed, --seed + 1, and so on; the second ones begin at --seed + 1000.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from autoencoder import CODE_SCALE, Autoencoder, load_padded_state
from data import CLASSES
from flux import Flux
from PIL import Image
from safetensors.torch import load_file
from sampling import initial_noise, sample


@torch.inference_mode()
def draw_row(model: Flux, autoencoder: Autoencoder, first_seed: int, steps: int, cfg: float) -> torch.Tensor:
    """One picture of every class: uint8 (classes, 3, 128, 128)."""
    noise = torch.cat([initial_noise(first_seed + index) for index in range(len(CLASSES))])
    latents = sample(model, torch.arange(len(CLASSES)), noise, steps, cfg)
    return (autoencoder.decode(latents * CODE_SCALE).clamp(0, 1) * 255).round().byte()


def arrange(pictures: torch.Tensor, columns: int) -> Image.Image:
    """pictures: uint8 (n, 3, height, width), n a multiple of columns."""
    rows = pictures.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)
    return Image.fromarray(rows.flatten(0, 1).flatten(1, 2).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="file made by train_flux.py")
    parser.add_argument("--vae", type=Path, required=True, help="file made by train_autoencoder.py")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--rows", type=int, default=2, help="pictures of every class")
    parser.add_argument("--columns", type=int, default=12, help="pictures in a line of the sheet")
    parser.add_argument("--steps", type=int, default=28, help="Euler steps")
    parser.add_argument("--cfg", type=float, default=3.0, help="classifier-free guidance against the null class")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    arguments = parser.parse_args()
    if arguments.rows * len(CLASSES) % arguments.columns:
        parser.error(f"--columns must divide {arguments.rows * len(CLASSES)} pictures")

    torch.set_num_threads(arguments.threads)
    model, autoencoder = Flux(), Autoencoder()
    model.load_state_dict(load_file(arguments.model))
    load_padded_state(autoencoder, load_file(arguments.vae))
    rows = [
        draw_row(model, autoencoder, arguments.seed + 1000 * row, arguments.steps, arguments.cfg)
        for row in range(arguments.rows)
    ]
    sheet = arrange(torch.cat(rows), arguments.columns)
    # 256 colours with dithering: half the size of true colour. Pillow dithers only towards a palette that is given.
    sheet.quantize(palette=sheet.quantize(256), dither=Image.Dither.FLOYDSTEINBERG).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
