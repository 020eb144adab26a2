"""Agreement of scores with human ratings: correlations, intervals, comparisons, and the raters' own agreement.

A bootstrap over clusters draws some clusters twice and others not at all, which gives rows integer weights.
``WeightedRows`` sorts the rows once and then computes, for any weights, what scipy would compute on rows repeated
that often. Ratings of one image are not independent, so whole clusters are resampled.

Functions share these arguments: ``scores`` and ``ratings`` are columns (n,), higher is better, and rows whose score
is NaN are left out; ``clusters`` has the image of each row (n,), and None resamples rows; ``resampling`` sets the
intervals, 1,000 resamples at 95% if None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from i0tscore.errors import InputError
from i0tscore.results.intervals import (
    Difference,
    Estimate,
    Resampling,
    cluster_labels,
    cluster_weights,
    format_estimate,
    paired_differences,
    percentile_interval,
)
from i0tscore.results.report import Report, plain
from i0tscore.samples.diagnostics import quote
from i0tscore.samples.rating_sets import Published
from i0tscore.samples.ratings import RatingSet

CorrelationName = Literal["tau_b", "tau_c", "spearman", "pearson", "auc"]
CORRELATIONS: tuple[CorrelationName, ...] = ("tau_b", "tau_c", "spearman", "pearson")

Column = Sequence[Any] | NDArray[Any]

SYSTEM_CORRELATIONS: tuple[CorrelationName, ...] = ("pearson", "spearman", "tau_b")

ROWS_RESAMPLED = (
    "Rows were resampled individually. If several rows share an image, these intervals are too narrow: cluster the "
    "rows by image."
)

_CELLS = 2_000_000
"""Largest table of ranks by rating levels that Kendall's τ is counted in; scipy computes it beyond."""


def correlation(name: CorrelationName, scores: NDArray[Any], ratings: NDArray[Any]) -> float | None:
    """Return a correlation as scipy computes it; None where undefined (a constant column, fewer than two rows).

    ``auc`` expects two rating levels. It is the share of pairs of a high and a low rating whose scores are in that
    order; ties count half (Mann–Whitney).

    Examples:
        >>> import numpy as np
        >>> correlation("tau_b", np.array([1, 2, 3]), np.array([1, 2, 3]))
        1.0
    """
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(ratings) == 0:
        return None
    if name == "auc":
        good = ratings == ratings.max()
        u = stats.mannwhitneyu(scores[good], scores[~good]).statistic
        return float(u / (good.sum() * (~good).sum()))
    if name == "spearman":
        return float(stats.spearmanr(scores, ratings).statistic)
    if name == "pearson":
        return float(stats.pearsonr(scores, ratings).statistic)
    return float(stats.kendalltau(scores, ratings, variant=name[-1]).statistic)


class WeightedRows:
    """Rows of scores and ratings, prepared for correlations under integer weights."""

    def __init__(self, scores: NDArray[Any], ratings: NDArray[Any]) -> None:
        self._x = np.asarray(scores, dtype=np.float64)
        self._y = np.asarray(ratings, dtype=np.float64)
        self._score_rank = np.unique(self._x, return_inverse=True)[1]
        self._level = np.unique(self._y, return_inverse=True)[1]
        self._ranks = int(self._score_rank.max()) + 1 if len(self._x) else 0
        self._levels = int(self._level.max()) + 1 if len(self._y) else 0
        self._cell = self._level * self._ranks + self._score_rank
        self._counted = self._ranks * self._levels <= _CELLS

    def correlation(self, name: CorrelationName, weights: NDArray[np.int64]) -> float:
        """Return the correlation of rows repeated ``weights`` (n,) times; NaN where undefined."""
        if name == "pearson":
            return _pearson(self._x, self._y, weights)
        if name == "spearman":
            return _pearson(
                _average_ranks(self._score_rank, self._ranks, weights),
                _average_ranks(self._level, self._levels, weights),
                weights,
            )
        if self._counted:
            return self._kendall(name, weights)
        rows = np.repeat(np.arange(len(weights)), weights)
        value = correlation(name, self._x[rows], self._y[rows])
        return float("nan") if value is None else value

    def _kendall(self, name: CorrelationName, weights: NDArray[np.int64]) -> float:
        table = np.bincount(self._cell, weights, self._levels * self._ranks).reshape(self._levels, self._ranks)
        size = table.sum()
        # For each rating level and score, the weight with a lower rating, at and up to that score.
        lower = np.cumsum(table, axis=0) - table
        at_most = np.cumsum(lower, axis=1)
        concordant = (table * (at_most - lower)).sum()
        discordant = (table * (at_most[:, -1:] - at_most)).sum()
        per_score, per_level = table.sum(axis=0), table.sum(axis=1)
        if name == "auc":
            pairs = per_level[-1] * per_level[:-1].sum()
            return float(0.5 + (concordant - discordant) / (2 * pairs)) if pairs else float("nan")
        if name == "tau_c":
            classes = min(np.count_nonzero(per_score), np.count_nonzero(per_level))
            scale = size**2 * (classes - 1) / classes / 2 if classes else 0.0
        else:
            pairs = size * (size - 1) / 2
            untied = [pairs - (c * (c - 1)).sum() / 2 for c in (per_score, per_level)]
            scale = float(np.sqrt(untied[0]) * np.sqrt(untied[1]))
        return float((concordant - discordant) / scale) if scale > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of one metric with a set of ratings.

    Attributes:
        n: Number of rows with a defined score; a row is one rating of one caption.
        groups: Number of clusters that were resampled.
        estimates: Correlations by name.
        ties: Share of pairs with different ratings whose scores are equal.
        draws: Correlations on the resamples (resamples,) by name; NaN where undefined. Metrics with the same defined
            rows, clusters and seed share their resamples.
    """

    n: int
    groups: int
    estimates: dict[CorrelationName, Estimate]
    ties: float
    draws: dict[CorrelationName, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without the draws."""
        return {"n": self.n, "groups": self.groups, **plain(self.estimates), "ties": self.ties}


def agreement(
    scores: NDArray[Any],
    ratings: NDArray[Any],
    clusters: Column | None = None,
    *,
    names: Sequence[CorrelationName] = CORRELATIONS,
    resampling: Resampling | None = None,
) -> Agreement:
    """Correlate scores with ratings by each of the correlations in ``names``.

    Examples:
        >>> import numpy as np
        >>> result = agreement(np.arange(20.0), np.arange(20) // 5, np.arange(20) // 2)
        >>> round(result.estimates["tau_c"].value, 3), result.groups
        (1.0, 10)
    """
    settings = resampling or Resampling()
    scores, ratings = np.asarray(scores, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
    keep = ~np.isnan(scores)
    labels, groups = cluster_labels(clusters, keep)
    scores, ratings = scores[keep], ratings[keep]
    rows = WeightedRows(scores, ratings)
    draws = {name: np.full(settings.resamples, np.nan) for name in names}
    for i, weights in enumerate(cluster_weights(labels, groups, settings)):
        for name in names:
            draws[name][i] = rows.correlation(name, weights)
    estimates = {
        name: Estimate(
            correlation(name, scores, ratings), percentile_interval(draws[name], settings.confidence, groups)
        )
        for name in names
    }
    return Agreement(len(scores), groups, estimates, tied_pairs(scores, ratings), draws)


def compare_agreement(
    scores: Mapping[str, NDArray[Any]],
    ratings: NDArray[Any],
    clusters: Column | None,
    baseline: str,
    *,
    name: CorrelationName = "tau_c",
    resampling: Resampling | None = None,
) -> list[Difference]:
    """Compare metrics with a baseline on the rows where all are defined, by paired bootstrap over clusters."""
    settings = resampling or Resampling()
    undefined = np.isnan(np.stack(list(scores.values()))).any(axis=0)
    agreements = {
        metric: agreement(np.where(undefined, np.nan, values), ratings, clusters, names=[name], resampling=settings)
        for metric, values in scores.items()
    }
    return agreement_differences(agreements, baseline, name, settings.confidence)


def agreement_differences(
    agreements: Mapping[str, Agreement], baseline: str, name: CorrelationName, confidence: float
) -> list[Difference]:
    """Compare metrics with a baseline by their resamples, which must be of the same rows, clusters and seed."""
    base = agreements[baseline]
    differences = {}
    for metric, own in agreements.items():
        if metric != baseline:
            a, b = own.estimates[name].value, base.estimates[name].value
            value = None if a is None or b is None else a - b
            differences[metric] = (value, own.draws[name] - base.draws[name])
    return paired_differences(differences, baseline, confidence, base.groups)


def rater_ceiling(
    ratings: NDArray[Any], items: Sequence[Any] | NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Pair each rating with the mean of its item's other ratings.

    Args:
        ratings: One rating per row (n,).
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


def krippendorff_alpha(
    ratings: NDArray[Any], items: Sequence[Any] | NDArray[Any], weights: NDArray[np.int64] | None = None
) -> float:
    """Return Krippendorff's α of ratings on an interval scale; NaN where undefined.

    α is 1 if all raters of an item agree, and about 0 if they agree as by chance. (Krippendorff, Content Analysis, 4th
    ed. 2018, chapter 12.)

    Args:
        ratings: One rating per row (n,).
        items: The rated item of each row (n,); items with one rating are left out.
        weights: How often each row counts (n,), the same for all rows of an item; once if None.

    Examples:
        >>> import numpy as np
        >>> krippendorff_alpha(np.array([1, 1, 4, 4]), ["a", "a", "b", "b"])
        1.0
    """
    labels = np.unique(np.asarray(items), return_inverse=True)[1]
    counts = np.bincount(labels)[labels]
    weight = np.where(counts > 1, 1 if weights is None else weights, 0)
    ratings, n = np.asarray(ratings, dtype=np.float64), weight.sum()
    if n < 2:
        return float("nan")
    means = (np.bincount(labels, ratings) / np.bincount(labels))[labels]
    observed = weight @ ((ratings - means) ** 2 * counts / np.maximum(counts - 1, 1)) / n
    expected = weight @ (ratings - weight @ ratings / n) ** 2 / (n - 1)
    return float(1 - observed / expected) if expected > 0 else float("nan")


def tied_pairs(scores: NDArray[Any], ratings: NDArray[Any]) -> float:
    """Return the share of pairs with different ratings whose scores are equal, in [0, 1]."""

    def equal_pairs(*columns: NDArray[Any]) -> float:
        counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)[1].astype(np.float64)
        return float((counts * (counts - 1)).sum() / 2)

    comparable = len(scores) * (len(scores) - 1) / 2 - equal_pairs(ratings) if len(scores) else 0.0
    return (equal_pairs(scores) - equal_pairs(scores, ratings)) / comparable if comparable else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class CorrelationReport(Report):
    """Agreement of scores with ratings.

    Attributes:
        agreement: Agreement by metric.
        headline: Correlation of the differences and parts.
        baseline: Metric that the others are compared with.
        differences: Differences from the baseline by metric.
        raters: Agreement of each rating with the mean of its item's others; None with one rating per item.
        parts: Headline correlation by ``column=label`` and by metric.
        over: What was resampled: a column or ``rows``.
        signatures: Signatures by metric, where known.
        systems: Correlations of the mean score and the mean rating of each captioning system, by metric; empty with
            fewer than three systems.
        published: Published figures of the set.
        alpha: Krippendorff's α of the ratings, on an interval scale; None with one rating per item.
    """

    SCHEMA = "i0tscore.agreement/1"

    agreement: dict[str, Agreement]
    headline: CorrelationName
    baseline: str
    differences: dict[str, Difference]
    raters: Agreement | None
    parts: dict[str, dict[str, Estimate]]
    over: str
    resampling: Resampling
    notes: tuple[str, ...]
    signatures: dict[str, str]
    systems: dict[str, dict[CorrelationName, Estimate]] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    alpha: Estimate | None = None

    def figures(self) -> dict[str, str]:
        """Return the headline correlation by metric."""
        found = {
            name: format_estimate(agreement.estimates[self.headline]) for name, agreement in self.agreement.items()
        }
        return {"correlation": self.headline, **found}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/agreement.schema.json``; undefined values are None."""
        metrics = plain(self.agreement)
        for name, difference in self.differences.items():
            metrics[name]["difference"] = difference.to_dict()
        return {
            "schema": self.SCHEMA,
            "headline": self.headline,
            "baseline": self.baseline,
            "resampling": {"over": self.over, **self.resampling.to_dict()},
            "metrics": metrics,
            "raters": None if self.raters is None else {**plain(self.raters), "krippendorff_alpha": plain(self.alpha)},
            "parts": plain(self.parts),
            "notes": list(self.notes),
            "signatures": dict(self.signatures),
            **({"systems": plain(self.systems)} if self.systems else {}),
            **({"published": plain(self.published)} if self.published else {}),
        }


def correlation_report(
    rated: RatingSet,
    *,
    headline: CorrelationName = "tau_c",
    baseline: str | None = None,
    resampling: Resampling | None = None,
    system: str = "system",
    published: tuple[Published, ...] = (),
) -> CorrelationReport:
    """Measure how every score agrees with the ratings.

    Args:
        rated: Ratings with scores.
        headline: Correlation of the differences and parts.
        baseline: Metric to compare the others with; the first if None. There are no differences if it has no scores.
        resampling: Settings of the intervals; 1,000 resamples at 95% if None.
        system: Name of the part with the captioning system of each row, if there is one.
        published: Published figures to show beside.

    Examples:
        >>> scores = {"mine": np.arange(30.0)}
        >>> rated = RatingSet("demo", (), np.arange(30), np.arange(30) // 6, over="rows", scores=scores)
        >>> correlation_report(rated, resampling=Resampling(resamples=0))
        CorrelationReport(correlation=tau_c, mine=1.000)
    """
    settings, baseline = resampling or Resampling(), baseline or next(iter(rated.scores))
    clusters = rated.clusters or None
    agreements = {
        name: agreement(values, rated.rating, clusters, resampling=settings) for name, values in rated.scores.items()
    }
    undefined = {name: rated.n - found.n for name, found in agreements.items()}
    notes = [
        f"{name} is undefined for {count} rows, which are left out of its figures."
        for name, count in undefined.items()
        if count
    ]
    if baseline not in agreements or len(agreements) < 2:
        differences = []
    elif any(undefined.values()):
        differences = compare_agreement(
            rated.scores, rated.rating, clusters, baseline, name=headline, resampling=settings
        )
    else:
        differences = agreement_differences(agreements, baseline, headline, settings.confidence)
    raters, alpha = _raters(rated, settings)
    return CorrelationReport(
        agreements,
        headline,
        baseline,
        {difference.first: difference for difference in differences},
        raters,
        _parts(rated, headline, settings),
        rated.over,
        settings,
        (*rated.notes, *([] if clusters else [ROWS_RESAMPLED]), *notes),
        dict(rated.signatures),
        _systems(rated, system, settings),
        published,
        alpha,
    )


def item_rows(rated: RatingSet, baseline: str) -> list[dict[str, Any]]:
    """Return a row for each rated item, those that the score ``baseline`` ranks high but people rank low first.

    A row has ``image``, ``caption``, ``ratings`` (their number), ``rating`` (their mean), the scores, None where
    undefined, and ``rank_difference``: the rank of the baseline's score minus that of the mean rating, divided by the
    number of items.

    Raises:
        InputError: A score has the name of another column.
    """
    first, counts = np.unique(rated.item, return_index=True, return_counts=True)[1:]
    means = np.bincount(rated.item, rated.rating) / counts
    scores = {name: values[first] for name, values in rated.scores.items()}
    for name in scores:
        if name in ("image", "caption", "ratings", "rating", "rank_difference"):
            raise InputError(f"The score {quote(name)} has the name of another column of the items. Rename it.")
    known, difference = ~np.isnan(scores[baseline]), np.full(len(first), np.nan)
    difference[known] = (stats.rankdata(scores[baseline][known]) - stats.rankdata(means[known])) / max(known.sum(), 1)
    columns = {"ratings": counts, "rating": means, **scores, "rank_difference": difference}
    return [
        {"image": rated.samples[i].image.name, "caption": rated.samples[i].caption}
        | {name: None if np.isnan(column[i]) else column[i].item() for name, column in columns.items()}
        for i in np.argsort(-difference, kind="stable")
    ]


def _systems(rated: RatingSet, system: str, resampling: Resampling) -> dict[str, dict[CorrelationName, Estimate]]:
    """Correlate the mean scores of systems with their mean ratings; resamples are of clusters, not of systems."""
    names, systems = np.unique(rated.parts.get(system, ()), return_inverse=True)
    if len(names) < 3:
        return {}
    found = {}
    for metric, scores in rated.scores.items():
        keep = ~np.isnan(scores)
        columns, own = (scores[keep], rated.rating[keep]), systems[keep]
        clusters, groups = cluster_labels(rated.clusters or None, keep)

        def means(weights: NDArray[np.int64], own: NDArray[Any] = own, columns: Any = columns) -> list[NDArray[Any]]:
            sizes = np.bincount(own, weights)
            return [np.bincount(own, weights * column)[sizes > 0] / sizes[sizes > 0] for column in columns]

        draws = [means(weights) for weights in cluster_weights(clusters, groups, resampling)]
        observed = means(np.ones(len(own), dtype=np.int64))
        found[metric] = {
            name: Estimate(
                correlation(name, *observed),
                percentile_interval(
                    np.array([correlation(name, *drawn) for drawn in draws], float), resampling.confidence, groups
                ),
            )
            for name in SYSTEM_CORRELATIONS
        }
    return found


def _raters(rated: RatingSet, resampling: Resampling) -> tuple[Agreement | None, Estimate | None]:
    """Return the agreement of each rating with the mean of its item's others, and Krippendorff's α."""
    if not rated.several_raters:
        return None, None
    others, own, rows = rater_ceiling(rated.rating, rated.item)
    # Ratings of one item depend on each other even if rows are resampled.
    clusters = np.asarray(rated.clusters)[rows] if rated.clusters else rated.item[rows]
    labels, groups = cluster_labels(clusters, np.ones(len(rows), dtype=bool))
    items = rated.item[rows]
    # An item in several clusters, such as raters, would be resampled in part, for which α has no weights.
    nested = np.unique(np.stack([items, labels]), axis=1).shape[1] == len(np.unique(items))
    settings = resampling if nested else replace(resampling, resamples=0)
    draws = [krippendorff_alpha(own, items, weights) for weights in cluster_weights(labels, groups, settings)]
    value = krippendorff_alpha(own, items)
    alpha = Estimate(
        None if np.isnan(value) else value, percentile_interval(np.array(draws), resampling.confidence, groups)
    )
    return agreement(others, own, clusters, resampling=resampling), alpha


def _parts(rated: RatingSet, headline: CorrelationName, resampling: Resampling) -> dict[str, dict[str, Estimate]]:
    parts = {}
    for column, labels in rated.parts.items():
        for label in dict.fromkeys(labels):
            keep = np.array([own == label for own in labels])
            clusters = np.asarray(rated.clusters)[keep] if rated.clusters else None
            found = {
                name: agreement(values[keep], rated.rating[keep], clusters, names=[headline], resampling=resampling)
                for name, values in rated.scores.items()
            }
            parts[f"{column}={label}"] = {name: own.estimates[headline] for name, own in found.items()}
    return parts


def _average_ranks(group: NDArray[np.int64], groups: int, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    size = np.bincount(group, weights, groups)
    ranks: NDArray[np.float64] = (np.cumsum(size) - size + (size + 1) / 2)[group]
    return ranks


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    total = weights.sum()
    if total < 2:
        return float("nan")
    dx, dy = x - weights @ x / total, y - weights @ y / total
    spread = np.sqrt((weights @ (dx * dx)) * (weights @ (dy * dy)))
    return float(weights @ (dx * dy) / spread) if spread > 0 else float("nan")
