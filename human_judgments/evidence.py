"""Agreement of scores with a set of ratings or preferences, in every way that a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from i0tscore.results import Resampling, bootstrap_mean
from i0tscore.results.agreement import Agreement, agreement, preference_accuracy, rater_ceiling
from i0tscore.results.comparison import Difference, compare_agreement
from i0tscore.results.correlation import CorrelationName, correlation
from i0tscore.results.intervals import Estimate
from i0tscore.samples.ratings import Labels, PreferenceSet, RatingSet

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Agreement of metrics with a rating set.

    Attributes:
        agreement: By metric.
        differences: From the baseline, by metric; empty where it is not among them.
        raters: Each rating against the mean of the item's others; None with one rating an item.
        averaged: The headline correlation if ratings were averaged, by metric; empty with one an item.
        accuracy: Preference accuracy within groups and number of pairs, by metric; empty without groups.
        parts: The headline correlation by category or system, and by metric in it.
    """

    agreement: dict[str, Agreement]
    differences: dict[str, Difference]
    raters: Agreement | None
    averaged: dict[str, float | None]
    accuracy: dict[str, tuple[Estimate, int]]
    parts: dict[str, dict[str, Estimate]]


def rating_evidence(
    ratings: RatingSet,
    scores: Mapping[str, Column],
    *,
    headline: CorrelationName,
    baseline: str,
    resampling: Resampling,
) -> Evidence:
    """Measure agreement with every metric.

    Args:
        ratings: The set.
        scores: By metric, one a sample of the set.
        headline: The correlation that comparisons and parts are about.
        baseline: The metric that the others are compared with.
        resampling: Of the intervals.
    """
    rows = {name: values[ratings.item] for name, values in scores.items()}
    found = {
        name: agreement(values, ratings.rating, ratings.clusters, resampling=resampling)
        for name, values in rows.items()
    }
    differences = []
    if baseline in rows and len(rows) > 1:
        differences = compare_agreement(
            rows, ratings.rating, ratings.clusters, baseline, name=headline, resampling=resampling
        )
    return Evidence(
        found,
        {difference.first: difference for difference in differences},
        _raters(ratings, resampling),
        _averaged(ratings, scores, headline),
        _accuracy(ratings, scores, resampling),
        {
            **_parts(ratings, ratings.categories, rows, headline, resampling),
            **_parts(ratings, ratings.systems, rows, headline, resampling),
        },
    )


def _raters(ratings: RatingSet, resampling: Resampling) -> Agreement | None:
    if not ratings.several_raters:
        return None
    others, given, rows = rater_ceiling(ratings.rating, ratings.item)
    return agreement(others, given, np.asarray(ratings.clusters)[rows], resampling=resampling)


def _averaged(
    ratings: RatingSet, scores: Mapping[str, Column], headline: CorrelationName
) -> dict[str, float | None]:
    if not ratings.several_raters:
        return {}
    means = ratings.averaged()
    kept = {name: ~np.isnan(values[means.item]) for name, values in scores.items()}
    return {
        name: correlation(headline, values[means.item][kept[name]], means.rating[kept[name]])
        for name, values in scores.items()
    }


def _accuracy(
    ratings: RatingSet, scores: Mapping[str, Column], resampling: Resampling
) -> dict[str, tuple[Estimate, int]]:
    """Between captions of a group by their mean ratings, so that no caption is compared with itself."""
    if ratings.groups is None:
        return {}
    means = ratings.averaged()
    groups, clusters = np.asarray(means.groups), np.asarray(means.clusters)
    found = {}
    for name, values in scores.items():
        rows = values[means.item]
        keep = ~np.isnan(rows)
        found[name] = preference_accuracy(
            rows[keep], means.rating[keep], groups[keep], clusters[keep], resampling=resampling
        )
    return found


def _parts(
    ratings: RatingSet,
    labels: Labels | None,
    rows: Mapping[str, Column],
    headline: CorrelationName,
    resampling: Resampling,
) -> dict[str, dict[str, Estimate]]:
    if labels is None:
        return {}
    of_row, clusters = np.asarray(labels), np.asarray(ratings.clusters)
    found: dict[str, dict[str, Estimate]] = {}
    for label in dict.fromkeys(labels):
        keep = of_row == label
        found[label] = {
            name: agreement(
                values[keep], ratings.rating[keep], clusters[keep], names=[headline], resampling=resampling
            ).estimates[headline]
            for name, values in rows.items()
        }
    return found


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """Agreement of one metric with a preference set.

    Attributes:
        accuracy: Share of pairs in which the preferred caption scores higher; equal scores count half.
        parts: The same by category.
        ties: Share of pairs whose scores are equal.
        difference: From the baseline, on the same pairs; None for the baseline itself or without it.
        n: Pairs with both scores.
    """

    accuracy: Estimate
    parts: dict[str, Estimate]
    ties: float
    difference: Estimate | None
    n: int


def pair_evidence(
    pairs: PreferenceSet, scores: Mapping[str, Column], *, baseline: str, resampling: Resampling
) -> dict[str, PairEvidence]:
    """Measure how often each metric prefers what people prefer.

    Args:
        pairs: The set.
        scores: By metric, of the first captions of all pairs and then of the second (2n,).
        baseline: The metric that the others are compared with.
        resampling: Of the intervals, over images.
    """
    correct = {name: _correct(pairs, values) for name, values in scores.items()}
    clusters = np.asarray(pairs.clusters)
    categories = np.asarray(pairs.categories) if pairs.categories is not None else None

    def share(values: Column, keep: NDArray[np.bool_] | None = None) -> Estimate:
        mask = ~np.isnan(values) if keep is None else keep & ~np.isnan(values)
        if not mask.any():
            return Estimate(None, None)
        return Estimate(float(values[mask].mean()), bootstrap_mean(values[mask], clusters[mask], resampling))

    found = {}
    for name, values in correct.items():
        parts = (
            {}
            if categories is None
            else {str(c): share(values, categories == c) for c in np.unique(categories)}
        )
        compared = name != baseline and baseline in correct
        found[name] = PairEvidence(
            share(values),
            parts,
            float((values == 0.5).mean()),
            share(values - correct[baseline]) if compared else None,
            int((~np.isnan(values)).sum()),
        )
    return found


def _correct(pairs: PreferenceSet, values: Column) -> Column:
    first, second = values[: pairs.n], values[pairs.n :]
    preferred = np.where(pairs.label == 0, first - second, second - first)
    result: Column = (1 + np.sign(preferred)) / 2
    return result
