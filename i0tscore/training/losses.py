"""Losses on embeddings of images and captions; tensors in, one differentiable number out."""

from __future__ import annotations

import torch
from torch.nn import functional


def soft_targets(captions: torch.Tensor, *, hard_weight: float, temperature: float) -> torch.Tensor:
    """Targets that give credit to captions which say nearly the same as an image's own.

    A caption corpus is full of near-duplicates ("a dog runs", "a dog is running"); one-hot targets
    push them apart. The target of row i is its own caption with ``hard_weight`` and a softmax over
    caption–caption cosines with the rest.

    Args:
        captions: Caption features of a batch, shape (n, d), of any length.
        hard_weight: Weight of the own caption, in [0, 1]; 1 gives one-hot targets.
        temperature: Of the softmax, above 0.

    Returns:
        Shape (n, n), rows summing to 1.

    Example:
        >>> soft_targets(torch.eye(2), hard_weight=1.0, temperature=0.1)
        tensor([[1., 0.],
                [0., 1.]])
    """
    unit = functional.normalize(captions, dim=-1)
    soft = (unit @ unit.T / temperature).softmax(dim=-1)
    return hard_weight * torch.eye(len(unit), dtype=soft.dtype) + (1.0 - hard_weight) * soft


def contrastive_loss(
    images: torch.Tensor, captions: torch.Tensor, scale: float, targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Symmetric cross-entropy over the batch's similarities (Radford et al. 2021).

    Args:
        images: Unit embeddings, shape (n, d).
        captions: Unit embeddings, shape (n, d), row i belonging to image i.
        scale: Logit scale (inverse temperature) on the cosines.
        targets: Probabilities, shape (n, n); by default row i is caption i alone.

    Example:
        >>> round(float(contrastive_loss(torch.eye(2), torch.eye(2), scale=1.0)), 4)
        0.3133
    """
    logits = scale * images @ captions.T
    wanted = torch.arange(len(logits)) if targets is None else targets
    return (functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)) / 2
