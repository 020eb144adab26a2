"""Agreement of several scores with the same ratings: each by itself, against each other, and in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.agreement import (
    Agreement,
    Resampled,
    agreement,
    preference_accuracy,
    rater_ceiling,
    resample,
)
from i0tscore.results.comparison import Difference, compare_agreement, compare_resampled
from i0tscore.results.correlation import CORRELATIONS, CorrelationName, correlation
from i0tscore.results.intervals import Estimate, Resampling
from i0tscore.samples.ratings import Labels
from i0tscore.samples.score_tables import RatedScores

AGREEMENT_SCHEMA = "i0tscore.agreement/1"

BY_ROWS = (
    "rows were resampled one by one: where several rows share an image, these intervals are too narrow; "
    "group them by image"
)


@dataclass(frozen=True, slots=True)
class CorrelationReport:
    """How scores agree with ratings.

    Attributes:
        agreement: By metric.
        headline: The correlation that differences and parts are about.
        baseline: The metric that the others are compared with.
        differences: From the baseline, by metric.
        raters: Each rating against the mean of the item's others; None with one rating an item.
        averaged: The headline correlation if ratings were averaged, by metric; empty with one an item.
        accuracy: Preference accuracy within groups and number of pairs, by metric; empty without groups.
        parts: The headline correlation by column, by label in it, and by metric.
        over: What was resampled, in words.
        resampling: Of the intervals.
        notes: What a reader should know.
        signatures: How scores were made, by metric, where that is known.
    """

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
    def labelled_parts(self) -> dict[str, dict[str, Estimate]]:
        """The parts as ``column=label``, by metric."""
        return {
            f"{column}={label}": figures
            for column, by_label in self.parts.items()
            for label, figures in by_label.items()
        }

    @property
    def parts_by_label(self) -> dict[str, dict[str, Estimate]]:
        """The parts by label alone, for sets whose columns share none."""
        return {label: figures for by_label in self.parts.values() for label, figures in by_label.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema ``i0tscore.agreement/1``; what is undefined is None."""
        metrics = {name: value.to_dict() for name, value in self.agreement.items()}
        for name, difference in self.differences.items():
            metrics[name]["difference"] = difference.to_dict()
        for name, (estimate, pairs) in self.accuracy.items():
            metrics[name]["preference_accuracy"] = {**estimate.to_dict(), "pairs": pairs}
        return {
            "schema": AGREEMENT_SCHEMA,
            "headline": self.headline,
            "baseline": self.baseline,
            "resampling": {"over": self.over, **asdict(self.resampling)},
            "metrics": metrics,
            "raters": None if self.raters is None else self.raters.to_dict(),
            "parts": {
                part: {name: estimate.to_dict() for name, estimate in by_metric.items()}
                for part, by_metric in self.labelled_parts.items()
            },
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
        headline: The correlation that differences and parts are about.
        baseline: The metric that the others are compared with; the first if None. Where it has no scores,
            there are no differences.
        resampling: Of the intervals; the default is 1,000 resamples at 95 %.

    Example:
        >>> ratings = np.arange(30) // 6
        >>> rated = RatedScores(ratings, {"mine": np.arange(30.0)}, None, "rows")
        >>> round(correlation_report(rated).agreement["mine"].estimates["tau_c"].value, 3)
        1.0
    """
    settings, first = resampling or Resampling(), baseline or next(iter(rated.scores))
    found = {
        name: resample(values, rated.ratings, rated.clusters, CORRELATIONS, settings)
        for name, values in rated.scores.items()
    }
    undefined = {name: int(np.isnan(values).sum()) for name, values in rated.scores.items()}
    notes = [
        f"{name} is undefined for {count} rows, which are left out of its figures"
        for name, count in undefined.items()
        if count
    ]
    return CorrelationReport(
        {name: value.agreement(settings.confidence) for name, value in found.items()},
        headline,
        first,
        {difference.first: difference for difference in _differences(rated, found, first, headline, settings)},
        _raters(rated, settings),
        _averaged(rated, headline),
        _accuracy(rated, settings),
        {column: _parts(rated, labels, headline, settings) for column, labels in rated.parts.items()},
        rated.over,
        settings,
        (*rated.notes, *([BY_ROWS] if rated.clusters is None else []), *notes),
        rated.signatures,
    )


def _differences(
    rated: RatedScores,
    found: Mapping[str, Resampled],
    baseline: str,
    headline: CorrelationName,
    resampling: Resampling,
) -> list[Difference]:
    if baseline not in found or len(found) < 2:
        return []
    if all(value.n == len(rated.ratings) for value in found.values()):
        return compare_resampled(found, baseline, headline, resampling.confidence)
    return compare_agreement(
        rated.scores, rated.ratings, rated.clusters, baseline, name=headline, resampling=resampling
    )


def _raters(rated: RatedScores, resampling: Resampling) -> Agreement | None:
    if rated.items is None or not rated.several_raters:
        return None
    others, given, rows = rater_ceiling(rated.ratings, rated.items)
    # Ratings of one item are never independent of each other, whatever rows are.
    clusters = rated.items[rows] if rated.clusters is None else np.asarray(rated.clusters)[rows]
    return agreement(others, given, clusters, resampling=resampling)


def _averaged(rated: RatedScores, headline: CorrelationName) -> dict[str, float | None]:
    if not rated.several_raters:
        return {}
    means = rated.averaged()
    kept = {name: ~np.isnan(values) for name, values in means.scores.items()}
    return {
        name: correlation(headline, values[kept[name]], means.ratings[kept[name]])
        for name, values in means.scores.items()
    }


def _accuracy(rated: RatedScores, resampling: Resampling) -> dict[str, tuple[Estimate, int]]:
    """Between captions of a group by their mean ratings, so that no caption is compared with itself."""
    if rated.groups is None:
        return {}
    means = rated.averaged()
    groups = np.asarray(means.groups)
    clusters = groups if means.clusters is None else np.asarray(means.clusters)
    found = {}
    for name, values in means.scores.items():
        keep = ~np.isnan(values)
        found[name] = preference_accuracy(
            values[keep], means.ratings[keep], groups[keep], clusters[keep], resampling=resampling
        )
    return found


def _parts(
    rated: RatedScores, labels: Labels, headline: CorrelationName, resampling: Resampling
) -> dict[str, dict[str, Estimate]]:
    of_row = np.asarray(labels)
    clusters: NDArray[Any] | None = None if rated.clusters is None else np.asarray(rated.clusters)
    found: dict[str, dict[str, Estimate]] = {}
    for label in dict.fromkeys(labels):
        keep = of_row == label
        own = None if clusters is None else clusters[keep]
        found[label] = {
            name: agreement(values[keep], rated.ratings[keep], own, names=[headline], resampling=resampling).estimates[
                headline
            ]
            for name, values in rated.scores.items()
        }
    return found
