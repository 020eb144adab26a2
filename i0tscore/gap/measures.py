"""Measures of the modality gap between two sets of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

PEAK = 0.1
"""A coordinate is a peak where a mean has so much of a unit vector's square."""

_CELLS = 4_000_000
"""Similarities held at once."""


def centroid_distance(images: NDArray[Any], captions: NDArray[Any]) -> float:
    """Distance between the mean image and the mean caption (Liang et al. 2022; CD in An et al. 2025).

    Args:
        images: Unit embeddings, shape (n, d).
        captions: Unit embeddings, shape (m, d).

    Returns:
        ‖mean(images) − mean(captions)‖, in [0, 2]; rows that are NaN are left out.

    Example:
        >>> import numpy as np
        >>> centroid_distance(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
        1.4142135623730951
    """
    difference = _mean(images) - _mean(captions)
    return float(np.sqrt((difference * difference).sum()))


def severity(distance: float) -> Literal["low", "moderate", "severe"]:
    """The band of a centroid distance (An et al. 2025): low below .19, severe from .63.

    Example:
        >>> severity(0.0102), severity(0.4795), severity(0.7642)
        ('low', 'moderate', 'severe')
    """
    return "low" if distance < 0.19 else "moderate" if distance < 0.63 else "severe"


def minimum_cosine_distance(images: NDArray[Any], captions: NDArray[Any]) -> float:
    """Smallest cosine distance between an image and a caption, matched or not (MCD in An et al. 2025).

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings (m, d).

    Returns:
        1 − max x·y, in [0, 2], with at most 32 MB of similarities held at once.

    Example:
        >>> import numpy as np
        >>> minimum_cosine_distance(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.6, 0.8]]))
        0.4
    """
    step = max(1, _CELLS // max(1, len(captions)))
    blocks = (images[start : start + step] @ captions.T for start in range(0, len(images), step))
    return 1.0 - max(float(block.max()) for block in blocks)


class Peak(NamedTuple):
    """A coordinate with the means of both modalities, and its share of the squared centroid distance."""

    coordinate: int
    image_mean: float
    caption_mean: float
    share: float


@dataclass(frozen=True, slots=True)
class Peaks:
    """The coordinates that carry the gap.

    Attributes:
        largest: Coordinates with the largest shares of the squared centroid distance, the largest first.
        peaks: Coordinates where the square of either mean is at least 0.1 of a unit vector's.
        ceiling: Largest cosine of an image and a caption that have the means' values in ``peaks``.
    """

    largest: tuple[Peak, ...]
    peaks: tuple[int, ...]
    ceiling: float


def peak_coordinates(image_mean: NDArray[Any], caption_mean: NDArray[Any], *, count: int = 5) -> Peaks:
    """Which coordinates carry the gap, and the cosine they leave room for (An et al. 2025).

    An image with the values p in the peaks and a caption with the values q have at most the cosine
    p·q + √((1 − ‖p‖²)(1 − ‖q‖²)). Where each peak belongs to one modality and the other is 0 there, that is
    the paper's √((1 − p²)(1 − 2q²)), .76 for its p = −1/2 and q = 1/3.

    Args:
        image_mean: Mean of unit embeddings (d,).
        caption_mean: Mean of unit embeddings (d,).
        count: How many coordinates to list.

    Example:
        >>> import numpy as np
        >>> found = peak_coordinates(np.array([-0.5, 0, 0, 0]), np.array([0, 1/3, 1/3, 0]))
        >>> found.peaks, round(found.ceiling, 2)
        ((0, 1, 2), 0.76)
    """
    x, y = np.asarray(image_mean, dtype=np.float64), np.asarray(caption_mean, dtype=np.float64)
    squares = (x - y) ** 2
    order = np.argsort(-squares, kind="stable")[:count]
    total = float(squares.sum()) or 1.0
    largest = tuple(Peak(int(j), float(x[j]), float(y[j]), float(squares[j] / total)) for j in order)
    peaks = np.flatnonzero(np.maximum(x * x, y * y) >= PEAK)
    p, q = x[peaks], y[peaks]
    room = max(1.0 - float(p @ p), 0.0) * max(1.0 - float(q @ q), 0.0)
    return Peaks(largest, tuple(peaks.tolist()), float(p @ q) + room**0.5)


def expected_residual_gap(matched_score: float, count: int) -> float:
    """Centroid distance that ``post`` leaves on new data when its means come from ``count`` pairs.

    The mean of n standardized residuals of unit length is off by about √(1/n) a modality; matched
    images and captions err together, by as much as their mean score: √(2·(1 − score)/n). With a score
    of .44 this gives .19 for 32 pairs and .094 for 128; An et al. 2025, Table 3, measured .188 and .099.

    Args:
        matched_score: Mean I0TScore of the matched pairs.
        count: Number of pairs behind the means, at least 1.

    Example:
        >>> round(expected_residual_gap(0.44, 32), 2)
        0.19
    """
    return float(np.sqrt(2.0 * max(1.0 - matched_score, 0.0) / count))


def _mean(vectors: NDArray[Any]) -> NDArray[np.float64]:
    defined = ~np.isnan(vectors).any(axis=1)
    if not defined.any():
        raise ValueError("no row with a defined direction")
    mean: NDArray[np.float64] = vectors[defined].mean(axis=0, dtype=np.float64)
    return mean
