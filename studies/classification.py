"""Zero-shot classification of images by the captions that name their classes, on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import normalize
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean, cluster_weights, percentile_interval

TemplateRule = Literal["features", "directions"]


def class_vectors(features: NDArray[Any], rule: TemplateRule = "directions") -> NDArray[Any]:
    """Return one unit vector per class from its name in several templates, to be standardized as captions are.

    The code of An et al. 2025 has two rules. ``features`` averages the encoder's output and then normalizes (CIFAR-100
    there), so that long vectors weigh more. ``directions`` normalizes each vector and averages these (Birdsnap there,
    and CLIP). On unit vectors, which is what encoders here return, both are the same.

    Args:
        features: Text features of each class in t templates, shape (c, t, d).
        rule: Rule for the average.

    Returns:
        Unit vectors of shape (c, d). Centering comes afterwards, as with both rules in the paper's code.

    Raises:
        ValueError: The array does not have three axes.

    Example:
        >>> features = np.array([[[3.0, 0.0], [0.0, 4.0]]])
        >>> class_vectors(features, "features").tolist(), class_vectors(features).round(3).tolist()
        ([[0.6, 0.8]], [[0.707, 0.707]])
    """
    if features.ndim != 3:
        raise ValueError(f"Expected templates of shape (classes, templates, d), got {features.shape}.")
    chosen = features if rule == "features" else normalize(features)
    return normalize(chosen.mean(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """Result of classifying images.

    Attributes:
        right: Whether each image's own class is the most similar one (n,); ties count as wrong.
        labels: Class of each image (n,), int64.
    """

    right: NDArray[np.bool_]
    labels: NDArray[np.int64]

    def accuracy(self, resampling: Resampling | None = None) -> Estimate:
        """Return the share of images that are right, with an interval by bootstrap over images."""
        values = self.right.astype(np.float64)
        return Estimate(float(values.mean()), bootstrap_mean(values, np.arange(len(values)), resampling))

    def balanced_accuracy(self, resampling: Resampling | None = None) -> Estimate:
        """Return the mean over classes of the share that is right.

        The interval is by bootstrap over images; a resample leaves out the classes that it lacks.
        """
        settings = resampling or Resampling()
        images = np.arange(len(self.labels))
        draws = [self.balanced(weights) for weights in cluster_weights(images, len(images), settings)]
        interval = percentile_interval(np.array(draws), settings.confidence, len(images))
        return Estimate(self.balanced(np.ones(len(images), dtype=np.int64)), interval)

    def balanced(self, weights: NDArray[np.int64]) -> float:
        """Return the class-balanced accuracy of images that count ``weights`` times (n,)."""
        counts = np.bincount(self.labels, weights)
        hits = np.bincount(self.labels, weights * self.right)
        return float((hits[counts > 0] / counts[counts > 0]).mean())


def classify(images: NDArray[Any], classes: NDArray[Any], labels: Sequence[int] | NDArray[Any]) -> Classification:
    """Compare each image with each class by dot product.

    Args:
        images: Embeddings of shape (n, d).
        classes: Class vectors of shape (c, d), from ``class_vectors``.
        labels: Row of each image's class (n,), integers in [0, c).

    Raises:
        ValueError: There are no images, or a label is missing or out of range.

    Example:
        >>> found = classify(np.eye(3), np.eye(3), [0, 1, 1])
        >>> found.right.tolist(), round(found.accuracy().value, 3), found.balanced_accuracy().value
        ([True, True, False], 0.667, 0.75)
    """
    own = np.asarray(labels, dtype=np.int64)
    if not len(images) or len(own) != len(images) or own.min() < 0 or own.max() >= len(classes):
        raise ValueError(
            f"Expected {len(images)} labels for {len(images)} images, at least one, each in [0, {len(classes)})."
        )
    similarity = images @ classes.T
    rows = np.arange(len(own))
    similarity[np.isnan(similarity)] = -np.inf
    mine = similarity[rows, own]
    similarity[rows, own] = -np.inf
    right: NDArray[np.bool_] = (mine[:, None] > similarity).all(axis=1)
    return Classification(right, own)
