"""Agreement of scores with human ratings: point values as scipy's, intervals by bootstrap over images.

Ratings of one image share that image, so rows are not independent: whole clusters are resampled.
Arrays in, result objects out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.correlation import CORRELATIONS, CorrelationName, WeightedRows, correlation
from i0tscore.results.intervals import (
    Estimate,
    Resampling,
    bootstrap_mean,
    cluster_labels,
    cluster_weights,
    percentile_interval,
)


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
    settings = resampling or Resampling()
    return resample(scores, ratings, clusters, names, settings).agreement(settings.confidence)


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """Correlations of one metric with ratings, observed and on resamples.

    Attributes:
        n: Rows whose score is defined.
        groups: Clusters that were resampled.
        observed: By name; None where undefined.
        draws: By name, (resamples,); NaN where undefined. Those of other metrics with the same defined
            rows, clusters and seed are of the same resamples.
        ties: As in ``Agreement``.
    """

    n: int
    groups: int
    observed: dict[CorrelationName, float | None]
    draws: dict[CorrelationName, NDArray[np.float64]]
    ties: float

    def agreement(self, confidence: float) -> Agreement:
        """The correlations with their intervals."""
        estimates = {
            name: Estimate(value, percentile_interval(self.draws[name], confidence, self.groups))
            for name, value in self.observed.items()
        }
        return Agreement(self.n, self.groups, estimates, self.ties)


def resample(
    scores: NDArray[Any],
    ratings: NDArray[Any],
    clusters: Sequence[Any] | NDArray[Any] | None,
    names: Sequence[CorrelationName],
    resampling: Resampling,
) -> Resampled:
    """Correlate scores with ratings, as they are and on resamples; arguments as for ``agreement``."""
    scores, ratings = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    keep = ~np.isnan(scores)
    labels, groups = cluster_labels(clusters, keep)
    scores, ratings = scores[keep], ratings[keep]
    rows = WeightedRows(scores, ratings)
    draws = {name: np.full(resampling.resamples, np.nan) for name in names}
    for i, weights in enumerate(cluster_weights(labels, groups, resampling)):
        for name in names:
            draws[name][i] = rows.correlation(name, weights)
    observed = {name: correlation(name, scores, ratings) for name in names}
    return Resampled(len(scores), groups, observed, draws, tied_pairs(scores, ratings))


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
    return Estimate(float(values.mean()), bootstrap_mean(values, owners, resampling)), len(values)


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
