"""Train the autoencoder, or only its decoder, on the pictures made by data.py.

With --init and --freeze-encoder the decoder alone is trained. The codes stay the same, so a Flux model trained on them
stays valid. A run with the same seed, data and number of threads gives the same weights, also after --resume.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from autoencoder import CODE_LIMIT, Autoencoder, load_padded_state, padded_state, start_from_principal_components
from data import load_pictures
from muon import Muon, Part
from safetensors.torch import load_file
from storage import load_checkpoint, save_checkpoint, save_safetensors
from torch import nn

from progress import Progress

WARM_UP_STEPS = 30
ENCODER_LEARNING_RATE_FACTOR = 0.25
HELD_OUT_PICTURES = 240


def batch_of_crops(pictures: torch.Tensor, size: int, crop: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops on the grid of the latent cells.

    pictures: uint8 (n, 3, height, width). Returns float32 (size, 3, crop, crop), values 0 to 1.
    """
    chosen = torch.randint(len(pictures), (size,), generator=generator).tolist()
    places = (torch.randint((pictures.shape[-1] - crop) // 8 + 1, (size, 2), generator=generator) * 8).tolist()
    crops = [
        pictures[index, :, top : top + crop, left : left + crop]
        for index, (top, left) in zip(chosen, places, strict=True)
    ]
    return torch.stack(crops).float() / 255


def code_penalty(codes: torch.Tensor) -> torch.Tensor:
    """Keeps every channel near mean 0 and deviation 1 and without outliers. codes: float32 (n, 16, height, width)."""
    mean = codes.mean((0, 2, 3)).square().mean()
    deviation = (codes.std((0, 2, 3)) - 1).square().mean()
    return mean + deviation + 0.02 * (codes.abs() - 2.5).relu().mean()


def reconstruction_loss(result: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute and squared error plus the error of the differences between neighbours, which is about edges.

    Both: float32 (n, 3, height, width).
    """
    error = result - target
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + 0.5 * edges + error.square().mean()


@torch.no_grad()
def signal_to_noise(autoencoder: Autoencoder, pictures: torch.Tensor) -> float:
    """Mean PSNR in dB of encoded and decoded pictures. pictures: uint8 (n, 3, height, width)."""
    ratios = []
    for part in pictures.split(24):
        target = part.float() / 255
        result = autoencoder.decode(autoencoder.encode(target).clamp(-CODE_LIMIT, CODE_LIMIT)).clamp(0, 1)
        ratios.append(-10 * (result - target).square().flatten(1).mean(1).log10())
    return torch.cat(ratios).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pictures made by data.py")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write, for ComfyUI's VAELoader")
    parser.add_argument("--steps", type=int, default=3000, help="length of the run; the learning rate ends at zero")
    parser.add_argument("--init", type=Path, help="exported autoencoder to start from (default: a whitened PCA)")
    parser.add_argument("--freeze-encoder", action="store_true", help="train the decoder only; needs --init")
    parser.add_argument("--batch-size", type=int, default=16, help="crops per step")
    parser.add_argument("--crop", type=int, default=64, help="side of the square crops in pixels, a multiple of 8")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument(
        "--noise",
        type=float,
        default=0.1,
        help="largest deviation of the noise on the codes; it makes the decoder forgive the errors of a Flux model",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--checkpoint", type=Path, help="file for the state of the run, from which --resume goes on")
    parser.add_argument("--save-every", type=int, default=250, help="steps between two saves of all files")
    parser.add_argument("--resume", action="store_true", help="go on from --checkpoint")
    arguments = parser.parse_args()
    if arguments.freeze_encoder and not arguments.init:
        parser.error("--freeze-encoder needs --init")
    if arguments.resume and not arguments.checkpoint:
        parser.error("--resume needs --checkpoint")
    settings = {
        name: getattr(arguments, name)
        for name in ("steps", "freeze_encoder", "batch_size", "crop", "learning_rate", "noise", "seed")
    }

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    pictures, _ = load_pictures(arguments.data)
    pictures, held_out = pictures[:-HELD_OUT_PICTURES], pictures[-HELD_OUT_PICTURES:]
    autoencoder = Autoencoder()
    if arguments.init:
        load_padded_state(autoencoder, load_file(arguments.init))
    else:
        start_from_principal_components(autoencoder, pictures[:600].float() / 255)
    autoencoder.taesd_encoder.requires_grad_(not arguments.freeze_encoder)

    # Muon suits matrices with two long sides; the first and last filters, biases and the encoder (small steps away from
    # the PCA) are left to AdamW.
    by_muon = [p for p in autoencoder.taesd_decoder.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
    by_adamw = [p for p in autoencoder.taesd_decoder.parameters() if all(p is not other for other in by_muon)]
    muon = Muon([Part(parameter) for parameter in by_muon])
    groups = [{"params": by_adamw, "factor": 1.0}]
    if not arguments.freeze_encoder:
        groups.append({"params": list(autoencoder.taesd_encoder.parameters()), "factor": ENCODER_LEARNING_RATE_FACTOR})
    adamw = torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    trained = [p for p in autoencoder.parameters() if p.requires_grad]

    resumable = {"model": autoencoder, "muon": muon, "adamw": adamw}
    first_step, mean_loss = 0, 0.0
    if arguments.resume:
        first_step, mean_loss = load_checkpoint(arguments.checkpoint, settings, generator, **resumable)

    progress = Progress(arguments.steps, first_step)
    for step in range(first_step + 1, arguments.steps + 1):
        share = (step - 1) / arguments.steps
        learning_rate = arguments.learning_rate * min(1, step / WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * share))
        for group in adamw.param_groups:
            group["lr"] = learning_rate * group["factor"]

        target = batch_of_crops(pictures, arguments.batch_size, arguments.crop, generator)
        codes = autoencoder.encode(target)
        level = arguments.noise * torch.rand(len(codes), 1, 1, 1, generator=generator)
        noise = level * torch.randn(codes.shape, generator=generator)
        loss = reconstruction_loss(autoencoder.decode(codes.clamp(-CODE_LIMIT, CODE_LIMIT) + noise), target)
        if not arguments.freeze_encoder:
            loss = loss + 0.05 * code_penalty(codes)
        adamw.zero_grad(set_to_none=True)
        for parameter in by_muon:
            parameter.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        adamw.step()
        muon.step(learning_rate)

        mean_loss = loss.item() if step == 1 else 0.98 * mean_loss + 0.02 * loss.item()
        progress.show(step, mean_loss, learning_rate)
        if step % arguments.save_every == 0 or step == arguments.steps:
            if arguments.checkpoint:
                save_checkpoint(arguments.checkpoint, settings, step, mean_loss, generator, **resumable)
            quality = signal_to_noise(autoencoder, held_out)
            metadata = {"training_steps": str(step), "psnr_db": f"{quality:.2f}"}
            save_safetensors(padded_state(autoencoder), arguments.out, metadata)
            print(f"step {step}: {quality:.2f} dB on {HELD_OUT_PICTURES} pictures that are not trained on")


if __name__ == "__main__":
    main()
