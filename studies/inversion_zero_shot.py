"""Zero-shot classification of photographs as they are and inverted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.intervals import Estimate, Resampling, cluster_weights, percentile_interval
from studies.classification import Classification, classify
from studies.inversion_material import Crossed, Material
from studies.inversion_tasks import NATIVE, QUERIES, Line, Task, mean_of

ACCURACIES = ("accuracy", "balanced accuracy")


def zero_shot(material: Material, oti: Crossed, resampling: Resampling) -> Task:
    """A photograph is of the class whose captions are most similar.

    The class-balanced accuracy of a resample, in which a class may be missing, is that of the classes it has.
    """
    part = oti.part(material.labelled)
    native = classify(material.images[material.labelled], material.classes, material.labels)
    lines = [Line(NATIVE, None, None, _accuracies(native, resampling), {})]
    for step, moved in part.points.items():
        found = classify(moved, material.classes, material.labels)
        changes = _accuracy_changes(native, found, resampling)
        lines.append(Line(QUERIES, step, part.cosine(step), _accuracies(found, resampling), changes))
    count = len(material.labelled)
    return Task("zero-shot", ACCURACIES, count, 0, count, tuple(lines))


def _accuracies(found: Classification, resampling: Resampling) -> dict[str, Estimate]:
    figures = (found.accuracy(resampling), found.balanced_accuracy(resampling))
    return dict(zip(ACCURACIES, figures, strict=True))


def _accuracy_changes(native: Classification, found: Classification, resampling: Resampling) -> dict[str, Estimate]:
    images = np.arange(len(native.labels))
    plain = mean_of(found.right.astype(np.float64) - native.right, images, resampling)

    def balanced(weights: NDArray[np.int64]) -> float:
        return _balanced(found, weights) - _balanced(native, weights)

    draws = [balanced(weights) for weights in cluster_weights(images, len(images), resampling)]
    interval = percentile_interval(np.array(draws), resampling.confidence, len(images))
    return dict(zip(ACCURACIES, (plain, Estimate(balanced(np.ones_like(images)), interval)), strict=True))


def _balanced(found: Classification, weights: NDArray[np.int64]) -> float:
    """Class-balanced accuracy where images count as often as their weights say."""
    there, hits = (np.bincount(found.labels, w) for w in (weights, weights * found.right))
    return float((hits[there > 0] / there[there > 0]).mean())
