"""Closed-form alternatives to inversion: linear maps of embeddings for comparisons within one modality.

Both keep the directions that images and texts share, and compare images with images (or texts with texts) there.
Neither helps to compare images with texts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.base import Encoder
from i0tscore.errors import InputError, ModelError, UsageError
from i0tscore.gap import normalize


class Projectors(NamedTuple):
    """Last, linear layers of both towers: embeddings are features @ projector, normalized.

    Attributes:
        image: Projector of shape (f, d).
        text: Projector of shape (g, d).
    """

    image: NDArray[np.float64]
    text: NDArray[np.float64]


def linear_projectors(encoder: Encoder) -> Projectors:
    """Return the projectors of an open_clip model.

    Raises:
        ModelError: A tower of the encoder ends in a head with a hidden layer (``lite``), in a bias, or in its pooling
            (SigLIP).
    """
    model = getattr(encoder, "model", None)
    if model is None:
        raise ModelError(f"Expected an encoder with an open_clip model, got {type(encoder).__name__}.")
    text = getattr(model, "text", model)
    found = {"image": getattr(model.visual, "proj", None), "text": getattr(text, "text_projection", None)}
    return Projectors(*(_matrix(part, side, encoder) for side, part in found.items()))


def isoclip(embeddings: NDArray[Any], own: NDArray[Any], other: NDArray[Any], *, top: int, bottom: int) -> NDArray[Any]:
    """Project embeddings of one modality on the middle band of directions that the two projectors share.

    With Ψ = own otherᵀ = UΣVᵀ, the paper maps features f to f U Uᵀ own, with the remaining columns of U. U lies in the
    range of ``own``, so f U is a function of f own, and the result computed here from embeddings is exactly that from
    features. The length of embeddings does not matter.

    Args:
        embeddings: Embeddings of images or of texts (n, d).
        own: Projector of their modality (f, d), see ``linear_projectors``.
        other: Projector of the other modality (g, d).
        top: Number of the largest singular values to leave out (published for CLIP ViT-B/32: 150 for images, 20 for
            texts).
        bottom: Number of the smallest nonzero singular values to leave out (published: 50 and 100).

    Returns:
        Unit vectors (n, d), comparable only with others of the same modality and band.

    Raises:
        UsageError: No direction would remain, or a number is negative.

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
        raise UsageError(f"Expected top and bottom to leave some of {rank} singular values, got {top} and {bottom}.")
    band = slice(top, rank - bottom)
    to_band = second.T @ (vt[band].T / values[band])  # u[:, band] = first @ to_band
    onto_band = to_band @ (u[:, band].T @ first)
    return _project(embeddings, onto_band)


def project_pca(embeddings: NDArray[Any], texts: NDArray[Any], components: int | None = None) -> NDArray[Any]:
    """Project embeddings on the principal components of texts.

    The components are those of the texts around their mean; the embeddings are not centered.

    Args:
        embeddings: Embeddings of images (n, d).
        texts: Unit embeddings of texts (m, d): "a photo of {class}" for ImageNet's classes in the paper.
        components: Number of components; d / 2 if None.

    Returns:
        Unit vectors (n, components).

    Raises:
        UsageError: The number of components is not between 1 and d.
        InputError: There are too few texts for that many components.

    Source:
        Herzog & Wang (CVPR 2026).

    Example:
        >>> texts = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, -0.1, 0.0]])
        >>> abs(project_pca(np.array([[3.0, 4.0, 12.0]]), texts, 2)).round(6)
        array([[0.6, 0.8]])
    """
    count = texts.shape[1] // 2 if components is None else components
    if not 1 <= count <= texts.shape[1]:
        raise UsageError(f"Expected components from 1 to {texts.shape[1]}, got {count}.")
    if len(texts) <= count:
        raise InputError(f"Expected more than {count} texts for {count} components, got {len(texts)}.")
    centered = texts.astype(np.float64) - texts.mean(axis=0, dtype=np.float64)
    return _project(embeddings, np.linalg.svd(centered, full_matrices=False)[2][:count].T)


def _project(embeddings: NDArray[Any], mapping: NDArray[np.float64]) -> NDArray[Any]:
    projected: NDArray[Any] = normalize(embeddings.astype(np.float64) @ mapping)
    return projected.astype(embeddings.dtype)


def _matrix(part: Any, side: str, encoder: Encoder) -> NDArray[np.float64]:
    """Return the matrix of a projector, which open_clip stores as a parameter (f, d) or as a linear layer."""
    import torch

    if isinstance(part, torch.nn.Linear) and part.bias is None:
        part = part.weight.T
    if not isinstance(part, torch.Tensor):
        raise ModelError(
            f"The {side} tower of {encoder.fingerprint.name} does not end in a linear projection without bias, which "
            "this closed form needs. Try project_pca, or inversion."
        )
    matrix: NDArray[np.float64] = part.detach().double().cpu().numpy()
    return matrix
