"""Rivals of inversion that need no optimisation: linear maps on embeddings, for one kind against itself.

Both keep, of the space, what images and texts have in common, and compare images with images (or texts
with texts) there. Neither gives anything to compare images with texts by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.base import Encoder
from i0tscore.errors import InputError, ModelError, UsageError
from i0tscore.gap import normalize


class Projectors(NamedTuple):
    """The last, linear layers of both towers: embeddings are features @ projector, then of unit length.

    Attributes:
        image: Shape (f, d).
        text: Shape (g, d).
    """

    image: NDArray[np.float64]
    text: NDArray[np.float64]


def linear_projectors(encoder: Encoder) -> Projectors:
    """The projectors of an open_clip model.

    Raises:
        ModelError: A tower of the encoder ends otherwise: in a head with a hidden layer (``lite``), in a
            bias, or in its pooling (SigLIP).
    """
    model = getattr(encoder, "model", None)
    if model is None:
        raise ModelError(f"{type(encoder).__name__} shows no model, so its projectors are not known")
    text = getattr(model, "text", model)
    found = {
        "image": getattr(model.visual, "proj", None),
        "text": getattr(text, "text_projection", None),
    }
    return Projectors(*(_matrix(part, side, encoder) for side, part in found.items()))


def isoclip(
    embeddings: NDArray[Any],
    own: NDArray[Any],
    other: NDArray[Any],
    *,
    top: int,
    bottom: int,
) -> NDArray[Any]:
    """Keep of one modality's embeddings the middle band of directions that the two projectors share.

    With Ψ = own otherᵀ = UΣVᵀ, the paper takes features f to f U Uᵀ own, with the columns of U that are
    left. U lies in the range of ``own``, so f U is a function of f own, and what is computed here from
    embeddings is exactly what would be from features. The length of embeddings does not matter.

    Args:
        embeddings: Of images or of texts (n, d).
        own: Projector of their modality (f, d), see ``linear_projectors``.
        other: Projector of the other one (g, d).
        top: How many of the largest singular values to leave out (published for CLIP ViT-B/32: 150 for
            images, 20 for texts).
        bottom: How many of the smallest that are not 0 (published: 50 and 100).

    Returns:
        Unit vectors (n, d), to be compared with others of the same modality and band only.

    Raises:
        UsageError: Nothing would be left, or a number is negative.

    Source:
        IsoCLIP (CVPR 2026).

    Example:
        >>> isoclip(np.array([[3.0, 4.0]]), np.eye(2), np.eye(2), top=0, bottom=0)
        array([[0.6, 0.8]])
    """
    first, second = own.astype(np.float64), other.astype(np.float64)
    u, values, vt = np.linalg.svd(first @ second.T, full_matrices=False)
    rank = int((values > values[0] * max(first.shape) * np.finfo(np.float64).eps).sum())
    if min(top, bottom) < 0 or top + bottom >= rank:
        raise UsageError(f"top {top} and bottom {bottom} must leave some of {rank} singular values")
    band = slice(top, rank - bottom)
    to_band = second.T @ (vt[band].T / values[band])  # u[:, band] = first @ to_band
    onto_band = to_band @ (u[:, band].T @ first)
    return _kept(embeddings, onto_band)


def project_pca(embeddings: NDArray[Any], texts: NDArray[Any], components: int | None = None) -> NDArray[Any]:
    """Project embeddings on the main directions in which texts differ.

    The components are those of the texts around their mean; the embeddings are not centred.

    Args:
        embeddings: Of images (n, d).
        texts: Unit embeddings of texts (m, d): in the paper "a photo of {class}" for ImageNet's classes.
        components: How many components; d / 2 if not given.

    Returns:
        Unit vectors (n, components).

    Raises:
        UsageError: The number of components is not between 1 and d.
        InputError: There are too few texts for so many.

    Source:
        Herzog & Wang (CVPR 2026).

    Example:
        >>> texts = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
        >>> abs(project_pca(np.array([[3.0, 4.0, 12.0]]), texts, 2)).round(6)
        array([[0.6, 0.8]])
    """
    count = texts.shape[1] // 2 if components is None else components
    if not 1 <= count <= texts.shape[1]:
        raise UsageError(f"components must be from 1 to {texts.shape[1]}, got {count}")
    if len(texts) <= count:
        raise InputError(f"{len(texts)} texts do not span {count} components: give more texts")
    centred = texts.astype(np.float64) - texts.mean(axis=0, dtype=np.float64)
    return _kept(embeddings, np.linalg.svd(centred, full_matrices=False)[2][:count].T)


def _kept(embeddings: NDArray[Any], mapping: NDArray[np.float64]) -> NDArray[Any]:
    moved: NDArray[Any] = normalize(embeddings.astype(np.float64) @ mapping)
    return moved.astype(embeddings.dtype)


def _matrix(part: Any, side: str, encoder: Encoder) -> NDArray[np.float64]:
    """The matrix of a projector that open_clip keeps as a parameter (f, d) or as a linear layer."""
    import torch

    if isinstance(part, torch.nn.Linear) and part.bias is None:
        part = part.weight.T
    if not isinstance(part, torch.Tensor):
        raise ModelError(
            f"the {side} tower of {encoder.fingerprint.name} does not end in a linear projection without "
            "bias, which this closed form needs: use project_pca, or inversion"
        )
    matrix: NDArray[np.float64] = part.detach().double().cpu().numpy()
    return matrix
