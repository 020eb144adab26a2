"""Losses on embeddings of images and captions; tensors in, one differentiable number out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    images: torch.Tensor,
    captions: torch.Tensor,
    scale: float | torch.Tensor,
    targets: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric cross-entropy over the batch's similarities (Radford et al. 2021).

    Args:
        images: Unit embeddings, shape (n, d).
        captions: Unit embeddings, shape (n, d), row i belonging to image i.
        scale: Logit scale (inverse temperature) on the cosines, a number or learned.
        targets: Probabilities, shape (n, n); by default row i is caption i alone.

    Example:
        >>> round(float(contrastive_loss(torch.eye(2), torch.eye(2), scale=1.0)), 4)
        0.3133
    """
    logits = scale * images @ captions.T
    wanted = torch.arange(len(logits), device=logits.device) if targets is None else targets
    return (functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)) / 2


def in_modal_cyclic_loss(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """In-modal cyclic consistency (Goel et al. 2022, CyCLIP): two images are as alike as their captions.

    (1/n) Σ_j Σ_k (x_j·x_k − y_j·y_k)²: the squares of all n² differences of cosines, divided by n and
    not by n², as in CyCLIP; the code of I0T computes the same from logits (mean square / scale² · n).

    Args:
        images: Unit embeddings, shape (n, d).
        captions: Unit embeddings, shape (n, d), row i belonging to image i.

    Example:
        >>> round(float(in_modal_cyclic_loss(torch.eye(2), torch.ones(2, 2) / 2**0.5)), 2)
        1.0
    """
    return _square_per_row(images @ images.T - captions @ captions.T)


def cross_modal_cyclic_loss(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """Cross-modal cyclic consistency (Goel et al. 2022, CyCLIP): mismatched similarities are symmetric.

    (1/n) Σ_j Σ_k (x_j·y_k − x_k·y_j)², normalised as ``in_modal_cyclic_loss``.

    Args:
        images: Unit embeddings, shape (n, d).
        captions: Unit embeddings, shape (n, d), row i belonging to image i.

    Example:
        >>> round(float(cross_modal_cyclic_loss(torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))), 2)
        0.36
    """
    similarity = images @ captions.T
    return _square_per_row(similarity - similarity.T)


def mcsie_loss(
    images: Sequence[torch.Tensor],
    captions: Sequence[torch.Tensor],
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """MCSIE (An et al. 2025): the mean of a loss over each pass of the images with each of the captions.

    With two passes a side, made under ``i0tscore.encoders.attention.attention_dropout``, these are the
    four pairs (x1, y1), (x1, y2), (x2, y1), (x2, y2); with one pass a side it is the loss itself.

    Args:
        images: Unit embeddings of one batch, (n, d) a pass.
        captions: The same of its captions.
        loss: What is averaged, of an (n, d) pair.

    Example:
        >>> x, y = torch.eye(2), torch.eye(2).flip(0)
        >>> scores = [float(contrastive_loss(x, other, 1.0)) for other in (x, y)]
        >>> both = mcsie_loss([x, x], [x, y], lambda a, b: contrastive_loss(a, b, 1.0))
        >>> abs(float(both) - sum(scores) / 2) < 1e-6
        True
    """
    losses = [loss(x, y) for x in images for y in captions]
    return torch.stack(losses).mean()


def _square_per_row(differences: torch.Tensor) -> torch.Tensor:
    return differences.square().sum() / len(differences)
