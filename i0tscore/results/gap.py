"""The modality gap of a corpus: every measure with its interval, and the report of several standardizers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap.cosines import PairSums
from i0tscore.gap.measures import Peaks, minimum_cosine_distance, peak_coordinates, severity
from i0tscore.gap.separability import Separability, separability
from i0tscore.results.intervals import (
    Estimate,
    Resampling,
    bootstrap_mean,
    cluster_weights,
    percentile_interval,
)

MEASURES = (
    "centroid_distance",
    "linear_separability",
    "modality_accuracy",
    "minimum_cosine_distance",
    "relative_gap",
    "matched",
    "mismatched",
    "image_image",
    "caption_caption",
)
"""In the order shown; the last four are mean cosines."""

_DRAWS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class GapMeasures:
    """Every measure of the modality gap of one corpus.

    Attributes:
        images: Distinct images that were measured.
        captions: Their captions.
        estimates: A figure with its interval for each of ``MEASURES``; see ``measure_gap``.
        dimensions: Of an embedding.
        severity: Band of the centroid distance, ``low``, ``moderate`` or ``severe``.
        separability_rows: Rows that the linear separability was fitted to, two a pair; None if undefined.
        separability_without_gap: What the linear separability would be without any gap; None if undefined.
        peaks: Which coordinates carry the gap.
        notes: What is undefined, and why.
    """

    images: int
    captions: int
    dimensions: int
    estimates: dict[str, Estimate]
    severity: str
    separability_rows: int | None
    separability_without_gap: float | None
    peaks: Peaks
    notes: tuple[str, ...]

    def __getitem__(self, measure: str) -> Estimate:
        """The figure of one of ``MEASURES``."""
        return self.estimates[measure]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "images": self.images,
            "captions": self.captions,
            "dimensions": self.dimensions,
            "severity": self.severity,
            "measures": {name: self.estimates[name].to_dict() for name in MEASURES},
            "separability_rows": self.separability_rows,
            "separability_without_gap": self.separability_without_gap,
            "peaks": {
                "largest": [peak._asdict() for peak in self.peaks.largest],
                "peaks": list(self.peaks.peaks),
                "ceiling": self.peaks.ceiling,
            },
            "notes": list(self.notes),
        }


def measure_gap(
    images: NDArray[Any],
    captions: NDArray[Any],
    image_of: NDArray[np.int64] | None = None,
    resampling: Resampling | None = None,
) -> GapMeasures:
    """Measure the modality gap.

    Intervals resample images, each with its captions. The minimum cosine distance has none, since the
    bootstrap is wrong for extremes. For the linear separability and the accuracy the held-out pairs are
    resampled and the regression is not fitted again, since copies of a row would be on both sides.
    A bootstrap draw of a distance is too large by noise, so draws of its square are moved to have the
    measured square as their mean.

    Args:
        images: Unit embeddings of distinct images (m, d).
        captions: Unit embeddings (n, d).
        image_of: For each caption the row of its image (n,); left out, caption i is of image i.
        resampling: Of the intervals; the default is 1,000 resamples at 95 %.

    Returns:
        ``centroid_distance`` CD, ``linear_separability`` LS and ``modality_accuracy`` (one caption an
        image), ``minimum_cosine_distance`` MCD, ``relative_gap`` RMG, and the mean cosines ``matched``,
        ``mismatched``, ``image_image`` and ``caption_caption``. Vectors without a direction (NaN) are left
        out, with a note.

    Raises:
        InputError: Fewer than two images with captions.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(1, 1, (50, 4)), rng.normal(-1, 1, (50, 4))
        >>> unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        >>> found = measure_gap(*unit)
        >>> found.severity, found["relative_gap"].value > 0.5
        ('severe', True)
    """
    settings = resampling or Resampling()
    given = len(images), len(captions)
    images, captions, image_of = _with_direction(images, captions, image_of)
    if len(images) < 2:
        raise InputError(f"a modality gap needs two images with captions; there are {len(images)}")
    notes = []
    if (len(images), len(captions)) != given:
        left = given[0] - len(images), given[1] - len(captions)
        notes.append(f"left out for want of a direction: {left[0]} images, {left[1]} captions")
    estimates = _from_means(PairSums.of(images, captions, image_of), settings)
    distance = minimum_cosine_distance(images, captions)
    estimates["minimum_cosine_distance"] = Estimate(distance, None)
    first = np.unique(image_of, return_index=True)[1]
    told: Separability | None = None
    try:
        told = separability(images, captions[first])
    except InputError as error:
        notes.append(str(error))
    estimates |= _from_separability(told, settings)
    return GapMeasures(
        images=len(images),
        captions=len(captions),
        dimensions=images.shape[1],
        estimates=estimates,
        severity=severity(estimates["centroid_distance"].value or 0.0),
        separability_rows=None if told is None else told.fitted_rows,
        separability_without_gap=None if told is None else told.without_gap,
        peaks=peak_coordinates(images.mean(0, dtype=np.float64), captions.mean(0, dtype=np.float64)),
        notes=tuple(notes),
    )


def _with_direction(
    images: NDArray[Any], captions: NDArray[Any], image_of: NDArray[np.int64] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """What is left without NaN and without images that have no caption, images numbered anew."""
    owners = np.arange(len(images)) if image_of is None else np.asarray(image_of)
    if owners.shape != (len(captions),):
        raise InputError(f"{len(captions)} captions need as many images to belong to, not {owners.shape}")
    keep = ~np.isnan(captions).any(axis=1) & ~np.isnan(images).any(axis=1)[owners]
    kept, anew = np.unique(owners[keep], return_inverse=True)
    return images[kept], captions[keep], anew


def _from_means(sums: PairSums, settings: Resampling) -> dict[str, Estimate]:
    count = len(sums.images)
    measured = {name: float(values[0]) for name, values in sums.measure().items()}
    parts = [sums.measure(weights) for weights in _weights(count, settings)]
    draws = {name: np.concatenate([p[name] for p in parts]) if parts else np.empty(0) for name in measured}
    squared = draws["centroid_distance"] ** 2
    if len(squared):
        moved = squared - squared.mean() + measured["centroid_distance"] ** 2
        draws["centroid_distance"] = np.sqrt(moved.clip(0))
    return {
        name: Estimate(None if np.isnan(value) else value, percentile_interval(draws[name], settings.confidence, count))
        for name, value in measured.items()
    }


def _weights(count: int, settings: Resampling) -> Iterator[NDArray[np.int64]]:
    """Bootstrap weights of images, some resamples at a time (r, m)."""
    drawn = cluster_weights(np.arange(count), count, settings)
    while batch := list(islice(drawn, _DRAWS_AT_ONCE)):
        yield np.stack(batch)


def _from_separability(told: Separability | None, settings: Resampling) -> dict[str, Estimate]:
    if told is None:
        undefined = Estimate(None, None)
        return {"linear_separability": undefined, "modality_accuracy": undefined}
    explained, right = 1 - told.squared_errors.mean(axis=1), told.right.mean(axis=1)
    return {
        "linear_separability": Estimate(told.linear_separability, bootstrap_mean(explained, told.pairs, settings)),
        "modality_accuracy": Estimate(told.accuracy, bootstrap_mean(right, told.pairs, settings)),
    }
