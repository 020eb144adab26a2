"""Figures from the mean rating of each item: correlations, and the order of captions within a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.correlation import CorrelationName, correlation
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean
from i0tscore.samples.ratings import RatingSet


def averaged_data(rated: RatingSet, headline: CorrelationName, resampling: Resampling) -> dict[str, dict[str, Any]]:
    """Compute figures from averaged ratings, so that no caption is compared with itself.

    Args:
        rated: Ratings with scores.
        headline: Correlation to compute.
        resampling: Settings of the intervals.

    Returns:
        Plain data by metric: ``preference_accuracy`` if captions are compared within groups, and
        ``averaged_ratings``, the correlation with the mean ratings, if some item has several.
    """
    data: dict[str, dict[str, Any]] = {name: {} for name in rated.scores}
    if not rated.several_raters and rated.groups is None:
        return data
    means = rated.averaged()
    for name, values in means.scores.items():
        keep = ~np.isnan(values)
        if means.groups is not None:
            groups = np.asarray(means.groups)
            clusters = np.asarray(means.clusters) if means.clusters else groups
            estimate, pairs = group_accuracy(
                values[keep], means.rating[keep], groups[keep], clusters[keep], resampling=resampling
            )
            data[name]["preference_accuracy"] = {**estimate.to_dict(), "pairs": pairs}
        if rated.several_raters:
            data[name]["averaged_ratings"] = correlation(headline, values[keep], means.rating[keep])
    return data


def group_accuracy(
    scores: NDArray[Any],
    ratings: NDArray[Any],
    groups: Sequence[Any] | NDArray[Any],
    clusters: Sequence[Any] | NDArray[Any] | None = None,
    *,
    resampling: Resampling | None = None,
) -> tuple[Estimate, int]:
    """Return the share of pairs within a group that scores order as people do, and the number of pairs.

    Pairs with equal ratings do not count; pairs with equal scores count half.

    Args:
        scores: Shape (n,).
        ratings: Shape (n,).
        groups: Group of each row (n,), such as its image; pairs are formed within groups.
        clusters: Cluster of each row (n,), constant within a group; the groups if None.
        resampling: Settings of the intervals; 1,000 resamples at 95% if None.

    Example:
        >>> import numpy as np
        >>> estimate, pairs = group_accuracy(np.array([1, 2, 3]), np.array([1, 1, 4]), [0, 0, 0])
        >>> estimate.value, pairs
        (1.0, 2)
    """
    correct: list[float] = []
    owners: list[Any] = []
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    for group in range(labels.max() + 1 if len(labels) else 0):
        rows = np.flatnonzero(labels == group)
        first, second = np.triu_indices(len(rows), 1)
        preferred = np.sign(ratings[rows[first]] - ratings[rows[second]])
        scored = np.sign(scores[rows[first]] - scores[rows[second]])
        counts = preferred != 0
        correct.extend(((1 + preferred * scored) / 2)[counts].tolist())
        owners.extend([group if clusters is None else clusters[rows[0]]] * int(counts.sum()))
    if not correct:
        return Estimate(None, None), 0
    values = np.array(correct)
    return Estimate(float(values.mean()), bootstrap_mean(values, owners, resampling)), len(values)
