"""Comparison of metrics, or of systems, on the same data: paired bootstrap over images, Holm-corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.agreement import Resampled, resample
from i0tscore.results.correlation import CorrelationName
from i0tscore.results.intervals import (
    Estimate,
    Resampling,
    cluster_labels,
    cluster_weights,
    percentile_interval,
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between two metrics on the same ratings, or two systems on the same samples.

    Attributes:
        first: Name of the metric or system.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        figures = self.estimate.to_dict()
        return {"from": self.second, **figures, "p": self.p_value, "p_holm": self.p_holm}


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

    Every metric sees the same resamples.

    Args:
        scores: By metric name, each (n,); rows where any is NaN are left out.
        ratings: Shape (n,).
        clusters: Image of each row (n,); None resamples rows.
        baseline: The metric the others are compared with.
        name: Which correlation.
        resampling: As for ``agreement``.
    """
    settings = resampling or Resampling()
    undefined = np.isnan(np.stack(list(scores.values()))).any(axis=0)
    common = {metric: np.where(undefined, np.nan, values) for metric, values in scores.items()}
    found = {m: resample(values, ratings, clusters, [name], settings) for m, values in common.items()}
    return compare_resampled(found, baseline, name, settings.confidence)


def compare_resampled(
    found: Mapping[str, Resampled], baseline: str, name: CorrelationName, confidence: float
) -> list[Difference]:
    """Compare metrics with a baseline where all are defined on the same rows, from their resamples.

    Args:
        found: By metric.
        baseline: The metric the others are compared with.
        name: Which correlation.
        confidence: Of the intervals.
    """
    base = found[baseline]
    others = {}
    for metric, own in found.items():
        if metric != baseline:
            a, b = own.observed[name], base.observed[name]
            value = None if a is None or b is None else a - b
            others[metric] = (value, own.draws[name] - base.draws[name])
    return _differences(others, baseline, confidence, base.groups)


def compare_means(
    values: Mapping[str, NDArray[Any]],
    clusters: Sequence[Any] | NDArray[Any] | None,
    baseline: str,
    *,
    resampling: Resampling | None = None,
) -> list[Difference]:
    """Compare the means of systems with a baseline's on the same samples, by paired bootstrap over clusters.

    Every system sees the same resamples.

    Args:
        values: Scores by system, each (n,), in the same order of samples; samples where any is NaN are
            left out.
        clusters: Image of each sample (n,); None resamples the samples one by one.
        baseline: The system the others are compared with.
        resampling: The default is 1,000 resamples at 95 %.

    Example:
        >>> import numpy as np
        >>> scores = np.random.default_rng(0).normal(size=40)
        >>> better, = compare_means({"a": scores, "b": scores + 0.1}, None, "a")
        >>> round(better.estimate.value, 3), better.p_value < 0.05
        (0.1, True)
    """
    settings = resampling or Resampling()
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    keep = np.array(~np.isnan(np.stack(list(columns.values()))).any(axis=0), dtype=np.bool_)
    labels, groups = cluster_labels(clusters, keep)
    others = [name for name in columns if name != baseline]
    gains = np.stack([(columns[name] - columns[baseline])[keep] for name in others], axis=1)
    points = gains.mean(axis=0) if len(gains) else np.full(len(others), np.nan)
    draws = np.full((settings.resamples, len(others)), np.nan)
    for i, weights in enumerate(cluster_weights(labels, groups, settings)):
        draws[i] = weights @ gains / weights.sum()
    found = {name: (None if np.isnan(points[k]) else float(points[k]), draws[:, k]) for k, name in enumerate(others)}
    return _differences(found, baseline, settings.confidence, groups)


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


def _differences(
    others: Mapping[str, tuple[float | None, NDArray[np.float64]]],
    baseline: str,
    confidence: float,
    groups: int,
) -> list[Difference]:
    """From observed and resampled differences by name to differences with intervals and p-values."""
    p_values = [_p_value(draws, groups) for _, draws in others.values()]
    return [
        Difference(name, baseline, Estimate(value, percentile_interval(draws, confidence, groups)), p, holm)
        for (name, (value, draws)), p, holm in zip(others.items(), p_values, holm_correction(p_values), strict=True)
    ]


def _p_value(differences: NDArray[np.float64], groups: int) -> float | None:
    """Twice the smaller share of resampled differences on either side of zero, counting the observed one.

    The share is widened as the interval is (``expanded_tail``), so that the two tell the same of few
    clusters.
    """
    from scipy.stats import norm, t

    defined = differences[~np.isnan(differences)]
    if len(defined) < 2:
        return None
    below, above = (defined <= 0).sum() + 1, (defined >= 0).sum() + 1
    share = min(0.5, min(below, above) / (len(defined) + 1))
    return float(2 * t.cdf(norm.ppf(share) * np.sqrt((groups - 1) / groups), groups - 1))
