"""What both trainings share: recipe, batches, learning rate and optimizer step.

Everything random follows from the seed and the step number alone, so an interrupted run resumes exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from i0tscore.errors import UsageError

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of a training run; the defaults are those of An et al. 2025.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Pairs per step (and process), at least 2.
        learning_rate: Peak learning rate: linear warmup, then half a cosine down to 0.
        weight_decay: Weight decay of AdamW.
        warmup: Warmup steps; a shorter run ends during warmup.
        cyclic_weight: Weight of each of the two cyclic losses; 0 for the contrastive loss alone.
        mcsie: Whether to encode each batch twice under dropout and average the loss over the four pairs
            of passes.
        dropout: Share of the attention weights that MCSIE drops.

    Raises:
        UsageError: A value is out of range.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-6
    weight_decay: float = 1e-2
    warmup: int = 200
    cyclic_weight: float = 0.25
    mcsie: bool = True
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        minimums = {"epochs": 1, "batch_size": 2, "learning_rate": 0, "weight_decay": 0, "warmup": 0}
        for name, minimum in {**minimums, "cyclic_weight": 0}.items():
            value = getattr(self, name)
            if not minimum <= value < math.inf:
                raise UsageError(f"Expected {name} to be finite and at least {minimum}, got {value}.")


def epoch_batches(image_index: IntArray, size: int, seed: int, epoch: int) -> list[IntArray]:
    """Return the batches of one epoch: rows of pairs, shuffled, without an incomplete last batch.

    Captions of the same image are spread out: every image appears once before any appears twice. Within a
    batch, the contrastive loss would treat the other captions of an image as mismatched.

    Args:
        image_index: Index of each pair's image (n,), with n ≥ ``size``.
        size: Pairs per batch.
        seed: Seed of the run.
        epoch: Epoch, starting at 0.

    Example:
        >>> image_index = np.array([7, 7, 8, 8])
        >>> [sorted(image_index[rows].tolist()) for rows in epoch_batches(image_index, 2, seed=0, epoch=0)]
        [[7, 8], [7, 8]]
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(image_index))
    shuffled = image_index[order]
    by_image = np.argsort(shuffled, kind="stable")
    _, first, counts = np.unique(shuffled[by_image], return_index=True, return_counts=True)
    occurrence = np.empty(len(order), dtype=np.int64)
    occurrence[by_image] = np.arange(len(order)) - np.repeat(first, counts)
    order = order[np.argsort(occurrence, kind="stable")]
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def learning_rate(peak: float, warmup: int, step: int, total: int) -> float:
    """Return the learning rate of a step (from 0) out of ``total``: linear warmup, then half a cosine.

    Example:
        >>> [round(learning_rate(1.0, 2, step, 6), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (total - warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def step_seed(*parts: int) -> int:
    """Return a 32-bit seed derived from integers such as seed, step and rank."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def optimizer_step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    """Backpropagate a loss and update the parameters with a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
