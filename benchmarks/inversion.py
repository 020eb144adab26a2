"""Speedup of inverting images or captions over a plain implementation, at the same losses.

    python benchmarks/inversion.py                       # 5 steps of 64 images, a few minutes
    python benchmarks/inversion.py --captions            # captions with lite, one pseudo-patch, a few seconds

The model is open_clip's ViT-B-32 with random weights, and the targets are random: trained models are as fast, and
nothing is downloaded. The plain implementation is that of a simple script: all 77 positions through open_clip's own
attention, including gradients of the parameters. Both start from the same pseudo-tokens. CPU time is compared, which
other work on the machine hardly affects.

With --captions, the plain implementation computes the image tower of lite on the pseudo-patch at every position of its
grid, and i0tscore only at the few positions that differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch.nn import functional

from i0tscore.encoders import load_encoder
from i0tscore.encoders.open_clip_models import quiet
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.inversion import Inverted, invert_images
from i0tscore.inversion.invert import cosine_losses, initialize

ARCHITECTURE = "ViT-B-32"
POSITION = 4
"""Position of the pseudo-token in ``a photo of {}``."""


def main() -> None:
    """Measure and print."""
    options = _parse()
    torch.manual_seed(0)
    if options.captions:
        captions(options.n, options.steps)
        return
    with quiet():
        model = open_clip.create_model(ARCHITECTURE, load_weights=False).eval()
    targets = functional.normalize(torch.randn(options.n, model.text_projection.shape[1]), dim=-1)
    began = time.process_time()
    encoder = _encoder()
    invert_images(encoder, targets, batch_size=options.n, steps=1)  # excludes one-time work from the measurement
    print(f"{ARCHITECTURE}, random weights, {options.n} images, {torch.get_num_threads()} thread(s)")
    print(f"loading and first call: {time.process_time() - began:.1f} s")
    began = time.process_time()
    ours = invert_images(
        encoder, targets, batch_size=options.n, steps=options.steps, eval_steps=range(options.steps + 1)
    )
    fast = time.process_time() - began
    began = time.process_time()
    curve = plain(model, targets, ours)
    slow = time.process_time() - began
    passes = options.steps + 1
    print(f"plain:    {slow / passes:.3f} s per step")
    print(f"i0tscore: {fast / passes:.3f} s per step, {slow / fast:.1f} times as fast")
    print(f"largest difference of a loss: {np.abs(curve - ours.eval_losses).max():.1e}")


def captions(n: int, steps: int) -> None:
    """Measure and print for captions."""
    encoder = load_encoder("lite")
    rows, columns = encoder.patch_grid
    full, reduced = encoder.patch_tower(rows * columns), encoder.patch_tower(1)
    targets = functional.normalize(torch.randn(n, encoder.dimension), dim=-1)
    start = 0.02 * torch.randn(n, 1, encoder.patch_width)
    methods = {"plain": lambda vectors: full(vectors.expand(-1, rows * columns, -1)), "i0tscore": reduced}
    seconds, losses = {}, {}
    print(f"lite, {n} captions, {torch.get_num_threads()} thread(s)")
    for name, tower in methods.items():
        losses_and_gradients(tower, start, targets)  # excludes one-time work from the measurement
        began = time.process_time()
        for _ in range(steps):
            losses[name], _ = losses_and_gradients(tower, start, targets)
        seconds[name] = (time.process_time() - began) / steps
    for name, time_taken in seconds.items():
        print(f"{name}: {1000 * time_taken / n:.2f} ms per update of one caption")
    print(f"{seconds['plain'] / seconds['i0tscore']:.1f} times as fast")
    print(f"largest difference of a loss: {(losses['plain'] - losses['i0tscore']).abs().max():.1e}")


def losses_and_gradients(
    tower: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the losses (n,) of one update, and their gradients with respect to the pseudo-patches."""
    patches = start.clone().requires_grad_()
    _, losses = cosine_losses(tower(patches), targets)
    return losses.detach(), torch.autograd.grad(losses.sum(), patches)[0]


def plain(model: Any, targets: torch.Tensor, ours: Inverted) -> npt.NDArray[np.float32]:
    """Return the losses (n, steps + 1) of the plain implementation, with the same pseudo-tokens and settings."""
    ids = open_clip.get_tokenizer(ARCHITECTURE)(["a photo of £"]).expand(len(targets), -1)
    start = initialize(ours.ids, model.token_embedding.embedding_dim, ours.config)
    pseudo = torch.nn.Parameter(start)
    optimizer = torch.optim.AdamW([pseudo], lr=ours.config.lr, weight_decay=ours.config.weight_decay)
    curve = []
    for _ in range(ours.config.steps + 1):
        x = model.token_embedding(ids)
        x = torch.cat([x[:, :POSITION], pseudo, x[:, POSITION + 1 :]], dim=1) + model.positional_embedding
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        features = x[torch.arange(len(x)), ids.argmax(dim=-1)] @ model.text_projection
        losses = 1 - functional.cosine_similarity(features, targets)
        curve.append(losses.detach().numpy())
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    return np.stack(curve, axis=1)


def _encoder() -> OpenClipEncoder:
    torch.manual_seed(0)  # the same weights as in the plain model
    with quiet():
        model = open_clip.create_model(ARCHITECTURE, load_weights=False)
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return OpenClipEncoder(model, open_clip.get_tokenizer(ARCHITECTURE), transform, name=ARCHITECTURE)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64, help="Number of items, all in one batch (default: 64).")
    parser.add_argument("--captions", action="store_true", help="Invert captions with lite instead.")
    parser.add_argument("--steps", type=int, default=5, help="Number of updates (default: 5; the paper uses 150).")
    return parser.parse_args()


if __name__ == "__main__":
    main()
