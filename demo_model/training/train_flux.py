"""Train the Flux model on the codes of the pictures made by data.py.

A run with the same seed, data and number of threads gives the same weights, also after --resume.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from autoencoder import CODE_LIMIT, CODE_SCALE, Autoencoder, load_padded_state
from data import CLASSES, load_pictures
from flux import HIDDEN_SIZE, Flux, sinusoidal_embedding, to_tokens
from muon import Muon, Part
from safetensors.torch import load_file
from sampling import NULL_CLASS
from storage import load_checkpoint, save_checkpoint, save_safetensors
from torch import nn

from progress import Progress

WARM_UP_STEPS = 100
NULL_CLASS_SHARE = 0.1
UNIFORM_SIGMA_SHARE = 0.125
MUON_WEIGHT_DECAY = 0.02
# The dtypes that ComfyUI may run the model in. Each gives the class number a slightly different embedding.
GUIDANCE_DTYPES = (torch.float32, torch.float32, torch.bfloat16, torch.float16)


@torch.no_grad()
def encode_pictures(pictures: torch.Tensor, autoencoder: Autoencoder) -> torch.Tensor:
    """pictures: uint8 (n, 3, 128, 128). Returns Flux tokens, float16 (n, 64, 64)."""
    parts = []
    for part in pictures.split(50):
        codes = autoencoder.encode(part.float() / 255).clamp(-CODE_LIMIT, CODE_LIMIT)
        parts.append(to_tokens(codes / CODE_SCALE).half())
    return torch.cat(parts)


def muon_parts(model: Flux) -> list[Part]:
    """The matrices of the blocks, the fused ones taken apart."""
    hidden = HIDDEN_SIZE
    qkv = [slice(index * hidden, (index + 1) * hidden) for index in range(3)]
    parts = []
    for name, parameter in model.named_parameters():
        if "_blocks." not in name or parameter.ndim != 2 or "mod" in name:
            continue
        if name.endswith("qkv.weight"):
            parts += [Part(parameter, rows=rows) for rows in qkv]
        elif name.endswith("linear1.weight"):  # query, key, value, then the MLP
            parts += [Part(parameter, rows=rows) for rows in (*qkv, slice(3 * hidden, None))]
        elif name.endswith("linear2.weight"):  # attention, then the MLP
            parts += [Part(parameter, columns=columns) for columns in (slice(0, hidden), slice(hidden, None))]
        else:
            parts.append(Part(parameter))
    return parts


def draw_sigmas(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels, float32 (count,): mostly sigmoid(0.5 + 1.1 * normal), some uniform.

    The random numbers behind them come one from each of equal intervals, so they cover the range evenly in every batch.
    """
    uniform_count = round(count * UNIFORM_SIGMA_SHARE)

    def stratified(size: int) -> torch.Tensor:
        return (torch.arange(size) + torch.rand(size, generator=generator)) / size

    normal = torch.special.ndtri(stratified(count - uniform_count).clamp(1e-4, 1 - 1e-4))
    return torch.cat([torch.sigmoid(0.5 + 1.1 * normal), stratified(uniform_count)])


def learning_rate_factor(step: int, steps: int, hold: float) -> float:
    """Warm-up, constant, then linear to zero. step counts from 1."""
    share = (step - 1) / steps
    return min(1.0, step / WARM_UP_STEPS) * min(1.0, (1 - share) / (1 - hold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pictures made by data.py")
    parser.add_argument("--vae", type=Path, required=True, help="autoencoder made by train_autoencoder.py")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write, for ComfyUI's UNETLoader")
    parser.add_argument("--steps", type=int, default=8000, help="length of the run; the learning rate ends at zero")
    parser.add_argument("--init", type=Path, help="exported model to start from (default: random weights)")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures per step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument(
        "--hold", type=float, default=0.5, help="share of the run before the learning rate falls, below 1"
    )
    parser.add_argument(
        "--ema", type=float, default=0.998, help="decay of the averaged weights, which are what is saved"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--checkpoint", type=Path, help="file for the state of the run, from which --resume goes on")
    parser.add_argument("--save-every", type=int, default=250, help="steps between two saves of all files")
    parser.add_argument("--resume", action="store_true", help="go on from --checkpoint")
    arguments = parser.parse_args()
    if arguments.resume and not arguments.checkpoint:
        parser.error("--resume needs --checkpoint")
    settings = {
        name: getattr(arguments, name) for name in ("steps", "batch_size", "learning_rate", "hold", "ema", "seed")
    }

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    autoencoder = Autoencoder()
    load_padded_state(autoencoder, load_file(arguments.vae))
    pictures, labels = load_pictures(arguments.data)
    print(f"encoding {len(pictures)} pictures")
    tokens = encode_pictures(pictures, autoencoder)
    guidance_tables = torch.stack(
        [sinusoidal_embedding(torch.arange(NULL_CLASS + 1), dtype) for dtype in GUIDANCE_DTYPES]
    )

    model = Flux()
    if arguments.init:
        model.load_state_dict(load_file(arguments.init))
    averaged = copy.deepcopy(model).requires_grad_(False)
    parts = muon_parts(model)
    muon = Muon(parts, MUON_WEIGHT_DECAY)
    by_muon = {id(part.parameter) for part in parts}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    by_adamw = [parameter for parameter in trained if id(parameter) not in by_muon]
    adamw = torch.optim.AdamW(by_adamw, lr=arguments.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)

    resumable = {"model": model, "averaged": averaged, "muon": muon, "adamw": adamw}
    first_step, mean_loss = 0, 0.0
    if arguments.resume:
        first_step, mean_loss = load_checkpoint(arguments.checkpoint, settings, generator, **resumable)

    progress = Progress(arguments.steps, first_step)
    for step in range(first_step + 1, arguments.steps + 1):
        learning_rate = arguments.learning_rate * learning_rate_factor(step, arguments.steps, arguments.hold)
        for group in adamw.param_groups:
            group["lr"] = learning_rate

        size = arguments.batch_size
        chosen = torch.randint(len(tokens), (size,), generator=generator)
        clean, classes = tokens[chosen].float(), labels[chosen].clone()
        classes[torch.rand(size, generator=generator) < NULL_CLASS_SHARE] = NULL_CLASS
        guidance = guidance_tables[torch.randint(len(guidance_tables), (size,), generator=generator), classes]
        sigma = draw_sigmas(size, generator)
        noise = torch.randn(clean.shape, generator=generator)
        # Rectified flow: https://arxiv.org/abs/2403.03206
        velocity = model(torch.lerp(clean, noise, sigma[:, None, None]), sinusoidal_embedding(sigma), guidance)
        loss = (velocity - (noise - clean)).square().mean()
        for parameter in trained:
            parameter.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        adamw.step()
        muon.step(learning_rate)
        with torch.no_grad():
            decay = min(arguments.ema, step / (step + 20))
            torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)

        mean_loss = loss.item() if step == 1 else 0.99 * mean_loss + 0.01 * loss.item()
        progress.show(step, mean_loss, learning_rate)
        if step % arguments.save_every == 0 or step == arguments.steps:
            if arguments.checkpoint:
                save_checkpoint(arguments.checkpoint, settings, step, mean_loss, generator, **resumable)
            metadata = {
                "classes": " ".join(CLASSES),
                "null_class": str(NULL_CLASS),
                "class_selector": "the guidance value (FluxGuidance) is the class number",
                "training_steps": str(step),
            }
            save_safetensors({name: t.half() for name, t in averaged.state_dict().items()}, arguments.out, metadata)


if __name__ == "__main__":
    main()
