"""Report of how several scores agree with the same ratings: each alone, against a baseline, and by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from i0tscore.results.correlation import (
    Agreement,
    CorrelationName,
    agreement,
    agreement_differences,
    compare_agreement,
    correlation,
    preference_accuracy,
    rater_ceiling,
)
from i0tscore.results.intervals import Difference, Estimate, Resampling
from i0tscore.results.report import Report, plain
from i0tscore.samples.ratings import Labels, RatedScores

ROWS_RESAMPLED = (
    "Rows were resampled individually. If several rows share an image, these intervals are too narrow: cluster the "
    "rows by image."
)


@dataclass(frozen=True, slots=True)
class CorrelationReport(Report):
    """Agreement of scores with ratings.

    Attributes:
        agreement: Agreement by metric.
        headline: Correlation of the differences and parts.
        baseline: Metric that the others are compared with.
        differences: Differences from the baseline by metric.
        raters: Agreement of each rating with the mean of its item's others; None with one rating per item.
        averaged: Headline correlation with the mean rating of each item, by metric; empty with one rating per item.
        accuracy: Preference accuracy within groups and number of pairs, by metric; empty without groups.
        parts: Headline correlation by column, by label in it, and by metric.
        over: What was resampled: a column or ``rows``.
        resampling: Settings of the intervals.
        notes: Notes for the reader.
        signatures: Signatures by metric, where known.
    """

    SCHEMA = "i0tscore.agreement/1"

    agreement: dict[str, Agreement]
    headline: CorrelationName
    baseline: str
    differences: dict[str, Difference]
    raters: Agreement | None
    averaged: dict[str, float | None]
    accuracy: dict[str, tuple[Estimate, int]]
    parts: dict[str, dict[str, dict[str, Estimate]]]
    over: str
    resampling: Resampling
    notes: tuple[str, ...]
    signatures: dict[str, str]

    @property
    def labeled_parts(self) -> dict[str, dict[str, Estimate]]:
        """Estimates by ``column=label`` and metric."""
        return {
            f"{column}={label}": estimates
            for column, by_label in self.parts.items()
            for label, estimates in by_label.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/agreement.schema.json``; undefined values are None."""
        metrics = plain(self.agreement)
        for name, difference in self.differences.items():
            metrics[name]["difference"] = difference.to_dict()
        for name, (estimate, pairs) in self.accuracy.items():
            metrics[name]["preference_accuracy"] = {**estimate.to_dict(), "pairs": pairs}
        return {
            "schema": self.SCHEMA,
            "headline": self.headline,
            "baseline": self.baseline,
            "resampling": {"over": self.over, **self.resampling.to_dict()},
            "metrics": metrics,
            "raters": plain(self.raters),
            "parts": plain(self.labeled_parts),
            "notes": list(self.notes),
            "signatures": dict(self.signatures),
        }


def correlation_report(
    rated: RatedScores,
    *,
    headline: CorrelationName = "tau_c",
    baseline: str | None = None,
    resampling: Resampling | None = None,
) -> CorrelationReport:
    """Measure how every score agrees with the ratings.

    Args:
        rated: Ratings and scores.
        headline: Correlation of the differences and parts.
        baseline: Metric to compare the others with; the first if None. There are no differences if it has no scores.
        resampling: Settings of the intervals; 1,000 resamples at 95% if None.

    Example:
        >>> ratings = np.arange(30) // 6
        >>> rated = RatedScores(ratings, {"mine": np.arange(30.0)}, None, "rows")
        >>> round(correlation_report(rated).agreement["mine"].estimates["tau_c"].value, 3)
        1.0
    """
    settings, baseline = resampling or Resampling(), baseline or next(iter(rated.scores))
    agreements = {
        name: agreement(values, rated.ratings, rated.clusters, resampling=settings)
        for name, values in rated.scores.items()
    }
    undefined = {name: len(rated.ratings) - found.n for name, found in agreements.items()}
    notes = [
        f"{name} is undefined for {count} rows, which are left out of its figures."
        for name, count in undefined.items()
        if count
    ]
    if baseline not in agreements or len(agreements) < 2:
        differences = []
    elif any(undefined.values()):
        differences = compare_agreement(
            rated.scores, rated.ratings, rated.clusters, baseline, name=headline, resampling=settings
        )
    else:
        differences = agreement_differences(agreements, baseline, headline, settings.confidence)
    averaged, accuracy = {}, {}
    if rated.several_raters or rated.groups is not None:
        means = rated.averaged()
        accuracy = _accuracy(means, settings)
        if rated.several_raters:
            averaged = {
                name: correlation(headline, values[~np.isnan(values)], means.ratings[~np.isnan(values)])
                for name, values in means.scores.items()
            }
    return CorrelationReport(
        agreements,
        headline,
        baseline,
        {difference.first: difference for difference in differences},
        _raters(rated, settings),
        averaged,
        accuracy,
        {column: _parts(rated, labels, headline, settings) for column, labels in rated.parts.items()},
        rated.over,
        settings,
        (*rated.notes, *([ROWS_RESAMPLED] if rated.clusters is None else []), *notes),
        rated.signatures,
    )


def _raters(rated: RatedScores, resampling: Resampling) -> Agreement | None:
    if rated.items is None or not rated.several_raters:
        return None
    others, own, rows = rater_ceiling(rated.ratings, rated.items)
    # Ratings of one item depend on each other even if rows are resampled.
    clusters = rated.items[rows] if rated.clusters is None else np.asarray(rated.clusters)[rows]
    return agreement(others, own, clusters, resampling=resampling)


def _accuracy(means: RatedScores, resampling: Resampling) -> dict[str, tuple[Estimate, int]]:
    """Compare captions of a group by their mean ratings, so that no caption is compared with itself."""
    if means.groups is None:
        return {}
    groups = np.asarray(means.groups)
    clusters = groups if means.clusters is None else np.asarray(means.clusters)
    accuracy = {}
    for name, values in means.scores.items():
        keep = ~np.isnan(values)
        accuracy[name] = preference_accuracy(
            values[keep], means.ratings[keep], groups[keep], clusters[keep], resampling=resampling
        )
    return accuracy


def _parts(
    rated: RatedScores, labels: Labels, headline: CorrelationName, resampling: Resampling
) -> dict[str, dict[str, Estimate]]:
    label_of = np.asarray(labels)
    clusters = None if rated.clusters is None else np.asarray(rated.clusters)
    parts = {}
    for label in dict.fromkeys(labels):
        keep = label_of == label
        own = None if clusters is None else clusters[keep]
        parts[label] = {
            name: agreement(values[keep], rated.ratings[keep], own, names=[headline], resampling=resampling).estimates[
                headline
            ]
            for name, values in rated.scores.items()
        }
    return parts
