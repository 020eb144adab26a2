"""Zero-shot classification of images by the captions that name their classes. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import normalize
from i0tscore.results.intervals import (
    Estimate,
    Resampling,
    bootstrap_mean,
    cluster_weights,
    percentile_interval,
)

TemplateRule = Literal["features", "directions"]


def class_vectors(features: NDArray[Any], rule: TemplateRule = "directions") -> NDArray[Any]:
    """One unit vector a class from its name in several templates, to be standardized as captions are.

    The code of An et al. 2025 has two rules: ``features`` averages what the encoder puts out and then
    normalises (their CIFAR-100), so that long vectors weigh more; ``directions`` normalises each and averages
    these (their Birdsnap, and CLIP). On unit vectors, which is what encoders here put out, both are the same.

    Args:
        features: Shape (c, t, d): of each class its t templates.
        rule: Which one.

    Returns:
        Shape (c, d), of norm 1. Centring comes after it, as in both of theirs.

    Raises:
        ValueError: The array has not three axes.

    Example:
        >>> features = np.array([[[3.0, 0.0], [0.0, 4.0]]])
        >>> class_vectors(features, "features").tolist(), class_vectors(features).round(3).tolist()
        ([[0.6, 0.8]], [[0.707, 0.707]])
    """
    if features.ndim != 3:
        raise ValueError(f"templates have the shape (classes, templates, d), not {features.shape}")
    chosen = features if rule == "features" else normalize(features)
    return normalize(chosen.mean(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """How images were classified.

    Attributes:
        right: Of each image (n,), whether its own class is the most similar one; where another is just as
            similar it is not.
        labels: Its own class (n,), int64.
    """

    right: NDArray[np.bool_]
    labels: NDArray[np.int64]

    def accuracy(self, resampling: Resampling | None = None) -> Estimate:
        """Share of images that are right, with an interval by bootstrap over images."""
        values = self.right.astype(np.float64)
        return Estimate(float(values.mean()), bootstrap_mean(values, np.arange(len(values)), resampling))

    def balanced_accuracy(self, resampling: Resampling | None = None) -> Estimate:
        """Mean over classes of the share that is right, so that every class counts the same.

        The interval is by bootstrap over images; a class that a resample lacks is left out of it.
        """
        settings = resampling or Resampling()
        images = np.arange(len(self.labels))
        draws = [self._balanced(weights) for weights in cluster_weights(images, len(images), settings)]
        interval = percentile_interval(np.array(draws), settings.confidence, len(images))
        return Estimate(self._balanced(np.ones(len(images), dtype=np.int64)), interval)

    def _balanced(self, weights: NDArray[np.int64]) -> float:
        there = np.bincount(self.labels, weights)
        hits = np.bincount(self.labels, weights * self.right)
        return float((hits[there > 0] / there[there > 0]).mean())


def classify(images: NDArray[Any], classes: NDArray[Any], labels: Sequence[int] | NDArray[Any]) -> Classification:
    """Compare each image with each class by dot product.

    Args:
        images: Shape (n, d).
        classes: Shape (c, d), from ``class_vectors``.
        labels: Row of each image's own class (n,), integers in [0, c).

    Raises:
        ValueError: There are no images, or labels are missing or of no class.

    Example:
        >>> found = classify(np.eye(3), np.eye(3), [0, 1, 1])
        >>> found.right.tolist(), round(found.accuracy().value, 3), found.balanced_accuracy().value
        ([True, True, False], 0.667, 0.75)
    """
    own = np.asarray(labels, dtype=np.int64)
    if not len(images) or len(own) != len(images) or own.min() < 0 or own.max() >= len(classes):
        raise ValueError(f"{len(images)} images need as many labels, each in [0, {len(classes)})")
    similarity = images @ classes.T
    rows = np.arange(len(own))
    similarity[np.isnan(similarity)] = -np.inf
    mine = similarity[rows, own]
    similarity[rows, own] = -np.inf
    right: NDArray[np.bool_] = (mine[:, None] > similarity).all(axis=1)
    return Classification(right, own)
