"""Agreement of several scores with the same ratings: each by itself, against each other, and in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.agreement import Agreement, agreement, rater_ceiling
from i0tscore.results.comparison import Difference, compare_agreement
from i0tscore.results.correlation import CorrelationName
from i0tscore.results.intervals import Estimate, Resampling
from i0tscore.samples.ratings import Labels
from i0tscore.samples.score_tables import RatedScores

AGREEMENT_SCHEMA = "i0tscore.agreement/1"

BY_ROWS = (
    "rows were resampled one by one: where several rows share an image, these intervals are too narrow; "
    "group them by image"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How scores agree with ratings.

    Attributes:
        agreement: By metric.
        headline: The correlation that differences and parts are about.
        baseline: The metric that the others are compared with.
        differences: From the baseline, by metric.
        raters: Each rating against the mean of the item's others; None with one rating an item.
        parts: The headline correlation by part (``column=label``), and by metric in it.
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
    parts: dict[str, dict[str, Estimate]]
    over: str
    resampling: Resampling
    notes: tuple[str, ...]
    signatures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema ``i0tscore.agreement/1``; what is undefined is None."""
        metrics = {name: value.to_dict() for name, value in self.agreement.items()}
        for name, difference in self.differences.items():
            metrics[name]["difference"] = difference.to_dict()
        return {
            "schema": AGREEMENT_SCHEMA,
            "headline": self.headline,
            "baseline": self.baseline,
            "resampling": {"over": self.over, **asdict(self.resampling)},
            "metrics": metrics,
            "raters": None if self.raters is None else self.raters.to_dict(),
            "parts": {
                part: {name: estimate.to_dict() for name, estimate in by_metric.items()}
                for part, by_metric in self.parts.items()
            },
            "notes": list(self.notes),
            "signatures": dict(self.signatures),
        }


def gather_evidence(
    rated: RatedScores,
    *,
    headline: CorrelationName = "tau_c",
    baseline: str | None = None,
    resampling: Resampling | None = None,
) -> Evidence:
    """Measure how every score agrees with the ratings.

    Args:
        rated: Ratings and scores.
        headline: The correlation that differences and parts are about.
        baseline: The metric that the others are compared with; the first if None.
        resampling: Of the intervals; the default is 1,000 resamples at 95 %.

    Example:
        >>> ratings = np.arange(30) // 6
        >>> rated = RatedScores(ratings, {"mine": np.arange(30.0)}, None, "rows")
        >>> round(gather_evidence(rated).agreement["mine"].estimates["tau_c"].value, 3)
        1.0
    """
    settings, first = resampling or Resampling(), baseline or next(iter(rated.scores))
    found = {
        name: agreement(values, rated.ratings, rated.clusters, resampling=settings)
        for name, values in rated.scores.items()
    }
    differences = []
    if len(rated.scores) > 1:
        differences = compare_agreement(
            rated.scores, rated.ratings, rated.clusters, first, name=headline, resampling=settings
        )
    undefined = {name: int(np.isnan(values).sum()) for name, values in rated.scores.items()}
    notes = [
        f"{name} is undefined for {count} rows, which are left out of its figures"
        for name, count in undefined.items()
        if count
    ]
    return Evidence(
        found,
        headline,
        first,
        {difference.first: difference for difference in differences},
        _raters(rated, settings),
        {
            f"{column}={label}": figures
            for column, labels in rated.parts.items()
            for label, figures in _parts(rated, labels, headline, settings).items()
        },
        rated.over,
        settings,
        (*rated.notes, *([BY_ROWS] if rated.clusters is None else []), *notes),
        rated.signatures,
    )


def _raters(rated: RatedScores, resampling: Resampling) -> Agreement | None:
    if rated.items is None or len(np.unique(rated.items)) == len(rated.items):
        return None
    others, given, rows = rater_ceiling(rated.ratings, rated.items)
    # Ratings of one item are never independent of each other, whatever rows are.
    clusters = rated.items[rows] if rated.clusters is None else np.asarray(rated.clusters)[rows]
    return agreement(others, given, clusters, resampling=resampling)


def _parts(
    rated: RatedScores, labels: Labels, headline: CorrelationName, resampling: Resampling
) -> Mapping[str, dict[str, Estimate]]:
    of_row = np.asarray(labels)
    clusters: NDArray[Any] | None = None if rated.clusters is None else np.asarray(rated.clusters)
    found: dict[str, dict[str, Estimate]] = {}
    for label in dict.fromkeys(labels):
        keep = of_row == label
        own = None if clusters is None else clusters[keep]
        found[label] = {
            name: agreement(
                values[keep], rated.ratings[keep], own, names=[headline], resampling=resampling
            ).estimates[headline]
            for name, values in rated.scores.items()
        }
    return found
