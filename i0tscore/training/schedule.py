"""What a training step sees and how far it goes, from seed and step alone: batches and learning rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def draw_batches(groups: Rows, size: int, seed: int, epoch: int) -> list[Rows]:
    """The batches of one epoch: all pairs in an order drawn from seed and epoch, without an incomplete rest.

    Captions of one image are kept apart: each image comes once before any comes twice. Otherwise the
    contrastive loss would count an image's other captions as wrong ones.

    Args:
        groups: Which image each pair has (n,), n ≥ ``size``.
        size: Pairs a batch.
        seed: Of the run.
        epoch: From 0.

    Example:
        >>> groups = np.array([7, 7, 8, 8])
        >>> [sorted(groups[rows].tolist()) for rows in draw_batches(groups, 2, seed=0, epoch=0)]
        [[7, 8], [7, 8]]
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(groups))
    drawn = groups[order]
    by_group = np.argsort(drawn, kind="stable")
    first = np.unique(drawn[by_group], return_index=True, return_counts=True)
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_group] = np.arange(len(order)) - np.repeat(first[1], first[2])
    order = order[np.argsort(turn, kind="stable")]
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def learning_rate(highest: float, warmup: int, step: int, total: int) -> float:
    """The learning rate of a step (from 0) of ``total``: up linearly, then down along half a cosine.

    Example:
        >>> [round(learning_rate(1.0, 2, step, 6), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return highest * (step + 1) / warmup
    done = (step - warmup) / (total - warmup)
    return highest * (1 + math.cos(math.pi * done)) / 2
