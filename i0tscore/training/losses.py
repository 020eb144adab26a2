"""Differentiable losses on image and caption embeddings.

``images`` and ``captions`` are unit embeddings of one batch, shape (n, d); row i of one matches row i of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


def contrastive_loss(
    images: torch.Tensor,
    captions: torch.Tensor,
    scale: float | torch.Tensor,
    targets: torch.Tensor | None = None,
    *,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Compute CLIP's symmetric cross-entropy over the similarities of a batch (Radford et al. 2021).

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings of their captions (n, d).
        scale: Logit scale (inverse temperature) applied to the cosines.
        targets: Probabilities (n, n); one-hot by default.
        smoothing: Share of each target that is spread evenly over the batch.

    Examples:
        >>> round(float(contrastive_loss(torch.eye(2), torch.eye(2), scale=1.0)), 4)
        0.3133
    """
    logits = scale * images @ captions.T
    if targets is None:
        targets = torch.arange(len(logits), device=logits.device)
    losses = [functional.cross_entropy(rows, targets, label_smoothing=smoothing) for rows in (logits, logits.T)]
    return (losses[0] + losses[1]) / 2


def in_modal_cyclic_loss(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """Compute CyCLIP's in-modal consistency loss (Goel et al. 2022).

    (1/n) Σ_j Σ_k (x_j·x_k − y_j·y_k)²: two images should be as similar as their captions. As in CyCLIP, the
    sum over n² terms is divided by n; I0T's code computes the same from logits (mean square / scale² · n).

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings of their captions (n, d).

    Examples:
        >>> round(float(in_modal_cyclic_loss(torch.eye(2), torch.ones(2, 2) / 2**0.5)), 2)
        1.0
    """
    return (images @ images.T - captions @ captions.T).square().sum() / len(images)


def cross_modal_cyclic_loss(images: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
    """Compute CyCLIP's cross-modal consistency loss (Goel et al. 2022).

    (1/n) Σ_j Σ_k (x_j·y_k − x_k·y_j)²: the similarities of mismatched pairs should be symmetric. The
    normalization is that of ``in_modal_cyclic_loss``.

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings of their captions (n, d).

    Examples:
        >>> round(float(cross_modal_cyclic_loss(torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))), 2)
        0.36
    """
    similarity = images @ captions.T
    return (similarity - similarity.T).square().sum() / len(images)


def i0t_loss(
    images: Sequence[torch.Tensor],
    captions: Sequence[torch.Tensor],
    scale: float | torch.Tensor,
    cyclic_weight: float,
    *,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Compute I0T's loss: contrastive plus weighted cyclic losses, with MCSIE (An et al. 2025).

    MCSIE averages the loss over all pairs of an image pass and a caption pass. Two passes per modality under
    ``i0tscore.encoders.attention.attention_dropout`` give (x1, y1), (x1, y2), (x2, y1) and (x2, y2).

    Args:
        images: One tensor per pass.
        captions: One tensor per pass.
        scale: Logit scale of the contrastive loss.
        cyclic_weight: Weight of each of the two cyclic losses; 0 skips them.
        smoothing: Label smoothing of the contrastive loss.

    Examples:
        >>> x, y = torch.eye(2), torch.eye(2).flip(0)
        >>> losses = [float(contrastive_loss(x, other, 1.0)) for other in (x, y)]
        >>> abs(float(i0t_loss([x, x], [x, y], 1.0, cyclic_weight=0)) - sum(losses) / 2) < 1e-6
        True
    """

    def pair_loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        contrastive = contrastive_loss(x, y, scale, smoothing=smoothing)
        if not cyclic_weight:
            return contrastive
        return contrastive + cyclic_weight * (in_modal_cyclic_loss(x, y) + cross_modal_cyclic_loss(x, y))

    return torch.stack([pair_loss(x, y) for x in images for y in captions]).mean()
