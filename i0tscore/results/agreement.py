"""Agreement of scores with human ratings: point values as scipy's, intervals by bootstrap over images.

Ratings of one image share that image, so rows are not independent: whole clusters are resampled.
Arrays in, result objects out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.correlation import CORRELATIONS, CorrelationName, WeightedRows, correlation
from i0tscore.results.intervals import bootstrap_mean, expanded_tail


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made.

    Attributes:
        confidence: Coverage, in (0, 1).
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Of the resampling.
    """

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 12345


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; None where undefined."""

    value: float | None
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How one metric agrees with one set of ratings.

    Attributes:
        n: Rows: one rating of one caption.
        groups: Clusters that were resampled.
        estimates: By name, ``tau_b``, ``tau_c``, ``spearman``, ``pearson``.
        ties: Share of pairs with different ratings whose scores are equal.
    """

    n: int
    groups: int
    estimates: dict[CorrelationName, Estimate]
    ties: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``i0tscore correlate --format json`` prints it."""
        figures = {str(name): estimate.to_dict() for name, estimate in self.estimates.items()}
        return {"n": self.n, "groups": self.groups, **figures, "ties": self.ties}


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


def agreement(
    scores: NDArray[Any],
    ratings: NDArray[Any],
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    *,
    names: Sequence[CorrelationName] = CORRELATIONS,
    resampling: Resampling | None = None,
) -> Agreement:
    """Correlate scores with ratings.

    Args:
        scores: Shape (n,); rows that are NaN are left out.
        ratings: Shape (n,), higher is better.
        clusters: Image of each row (n,); None resamples rows one by one.
        names: Which correlations.
        resampling: Of the intervals; the default is 1,000 resamples at 95 %.

    Example:
        >>> import numpy as np
        >>> result = agreement(np.arange(20.0), np.arange(20) // 5, np.arange(20) // 2)
        >>> round(result.estimates["tau_c"].value, 3), result.groups
        (1.0, 10)
    """
    scores, ratings = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    keep = ~np.isnan(scores)
    labels, groups = _labels(clusters, keep)
    scores, ratings = scores[keep], ratings[keep]
    draws = resampled(names, {"": scores}, ratings, labels, groups, resampling or Resampling())[""]
    estimates = {
        name: Estimate(
            correlation(name, scores, ratings),
            _interval(draws[name], (resampling or Resampling()).confidence, groups),
        )
        for name in names
    }
    return Agreement(len(scores), groups, estimates, tied_pairs(scores, ratings))


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
    labels, groups = _labels(clusters, keep)
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
        interval = _interval(draws[metric][name] - draws[baseline][name], settings.confidence, groups)
        differences.append(Difference(metric, baseline, Estimate(value, interval), p, holm))
    return differences


def resampled(
    names: Sequence[CorrelationName],
    scores: Mapping[str, NDArray[np.float64]],
    ratings: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: int,
    resampling: Resampling,
) -> dict[str, dict[CorrelationName, NDArray[np.float64]]]:
    """Correlations of every metric on the same resamples: metric → name → (resamples,)."""
    rows = {metric: WeightedRows(values, ratings) for metric, values in scores.items()}
    draws: dict[str, dict[CorrelationName, NDArray[np.float64]]]
    draws = {metric: {name: np.full(resampling.resamples, np.nan) for name in names} for metric in scores}
    for i, weights in enumerate(_cluster_weights(labels, groups, resampling)):
        for metric, prepared in rows.items():
            for name in names:
                draws[metric][name][i] = prepared.correlation(name, weights)
    return draws


def preference_accuracy(
    scores: NDArray[Any],
    ratings: NDArray[Any],
    groups: Sequence[Any] | NDArray[Any],
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    *,
    resampling: Resampling | None = None,
) -> tuple[Estimate, int]:
    """Share of pairs within a group that scores order as people do, and the number of pairs.

    Pairs with equal ratings do not count; pairs with equal scores count half.

    Args:
        scores: Shape (n,).
        ratings: Shape (n,).
        groups: What is compared within, e.g. the image (n,).
        clusters: What is resampled (n,), constant within a group; the groups themselves if None.
        resampling: As for ``agreement``.

    Example:
        >>> import numpy as np
        >>> estimate, pairs = preference_accuracy(np.array([1, 2, 3]), np.array([1, 1, 4]), [0, 0, 0])
        >>> estimate.value, pairs
        (1.0, 2)
    """
    settings = resampling or Resampling()
    correct: list[float] = []
    owners: list[Any] = []
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    for group in range(labels.max() + 1 if len(labels) else 0):
        rows = np.flatnonzero(labels == group)
        first, second = np.triu_indices(len(rows), 1)
        asked = np.sign(ratings[rows[first]] - ratings[rows[second]])
        given = np.sign(scores[rows[first]] - scores[rows[second]])
        counts = asked != 0
        correct.extend(((1 + asked * given) / 2)[counts].tolist())
        owners.extend([group if clusters is None else clusters[rows[0]]] * int(counts.sum()))
    if not correct:
        return Estimate(None, None), 0
    values = np.array(correct)
    interval = None
    if settings.resamples:
        interval = bootstrap_mean(
            values,
            owners,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
        )
    return Estimate(float(values.mean()), interval), len(values)


def rater_ceiling(
    ratings: NDArray[Any], items: Sequence[Any] | NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """What a metric could reach at best: each rating against the mean of the item's other ratings.

    Args:
        ratings: One rating a row (n,).
        items: The rated item of each row (n,); items with one rating are left out.

    Returns:
        The others' means, the ratings, and the rows they come from; pass the first two to
        ``agreement`` as scores and ratings.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    labels = np.unique(np.asarray(items), return_inverse=True)[1]
    counts, sums = np.bincount(labels)[labels], np.bincount(labels, ratings)[labels]
    rows = np.flatnonzero(counts > 1)
    others = (sums[rows] - ratings[rows]) / (counts[rows] - 1)
    return others, ratings[rows], rows


def tied_pairs(scores: NDArray[Any], ratings: NDArray[Any]) -> float:
    """Share of pairs with different ratings whose scores are equal, in [0, 1]."""

    def same(*columns: NDArray[Any]) -> float:
        counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)[1].astype(np.float64)
        return float((counts * (counts - 1)).sum() / 2)

    comparable = len(scores) * (len(scores) - 1) / 2 - same(ratings) if len(scores) else 0.0
    return (same(scores) - same(scores, ratings)) / comparable if comparable else 0.0


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


def _labels(
    clusters: Sequence[Any] | NDArray[Any] | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    kept = np.arange(keep.sum()) if clusters is None else np.asarray(clusters)[keep]
    labels: NDArray[np.int64] = np.unique(kept, return_inverse=True)[1]
    return labels, int(labels.max()) + 1 if len(labels) else 0


def _cluster_weights(
    labels: NDArray[np.int64], groups: int, resampling: Resampling
) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(resampling.seed)
    for _ in range(resampling.resamples if groups > 1 else 0):
        drawn = np.bincount(generator.integers(0, groups, groups), minlength=groups)
        yield drawn[labels]


def _interval(draws: NDArray[np.float64], confidence: float, groups: int) -> tuple[float, float] | None:
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return None
    tail = expanded_tail(confidence, groups)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _p_value(differences: NDArray[np.float64]) -> float | None:
    defined = differences[~np.isnan(differences)]
    if len(defined) < 2:
        return None
    below, above = (defined <= 0).sum() + 1, (defined >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / (len(defined) + 1)))
