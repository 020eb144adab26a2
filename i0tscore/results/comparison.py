"""Comparison of metrics, or of systems, on the same data: paired bootstrap over images, Holm-corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.agreement import resampled
from i0tscore.results.correlation import CorrelationName, correlation
from i0tscore.results.intervals import Estimate, Resampling, cluster_labels, percentile_interval


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference in agreement between two metrics on the same ratings.

    Attributes:
        first: Name of the metric.
        second: Name of the one it is compared with.
        estimate: first − second, with the interval of the paired bootstrap.
        p_value: Two-sided, of the hypothesis that there is no difference.
        p_holm: The same after Holm's correction for all comparisons made together.
    """

    first: str
    second: str
    estimate: Estimate
    p_value: float | None
    p_holm: float | None


def compare_agreement(
    scores: Mapping[str, NDArray[Any]],
    ratings: NDArray[Any],
    clusters: Sequence[Any] | NDArray[Any] | None,
    baseline: str,
    *,
    name: CorrelationName = "tau_c",
    resampling: Resampling | None = None,
) -> list[Difference]:
    """Compare metrics with a baseline on the same ratings, by paired bootstrap over clusters.

    Every metric sees the same resamples. The p-value is twice the smaller share of resampled
    differences on either side of zero, counting the observed one.

    Args:
        scores: By metric name, each (n,); rows where any is NaN are left out.
        ratings: Shape (n,).
        clusters: Image of each row (n,); None resamples rows.
        baseline: The metric the others are compared with.
        name: Which correlation.
        resampling: As for ``agreement``.
    """
    settings = resampling or Resampling()
    keep = ~np.isnan(np.stack(list(scores.values()))).any(axis=0)
    labels, groups = cluster_labels(clusters, keep)
    kept = {metric: np.asarray(values, dtype=np.float64)[keep] for metric, values in scores.items()}
    ratings = np.asarray(ratings, dtype=np.float64)[keep]
    draws = resampled([name], kept, ratings, labels, groups, settings)
    points = {metric: correlation(name, values, ratings) for metric, values in kept.items()}
    others = [metric for metric in scores if metric != baseline]
    p_values = [_p_value(draws[m][name] - draws[baseline][name]) for m in others]
    differences = []
    for metric, p, holm in zip(others, p_values, holm_correction(p_values), strict=True):
        a, b = points[metric], points[baseline]
        value = None if a is None or b is None else a - b
        interval = percentile_interval(
            draws[metric][name] - draws[baseline][name], settings.confidence, groups
        )
        differences.append(Difference(metric, baseline, Estimate(value, interval), p, holm))
    return differences


def holm_correction(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction; undefined p-values stay undefined and do not count.

    Example:
        >>> holm_correction([0.01, 0.04, None])
        [0.02, 0.04, None]
    """
    defined = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for step, (p, i) in enumerate(defined):
        floor = max(floor, min(1.0, p * (len(defined) - step)))
        corrected[i] = floor
    return corrected


def _p_value(differences: NDArray[np.float64]) -> float | None:
    defined = differences[~np.isnan(differences)]
    if len(defined) < 2:
        return None
    below, above = (defined <= 0).sum() + 1, (defined >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(defined) + 1)))
