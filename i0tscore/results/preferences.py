"""Agreement of scores with preferences between two captions of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean, format_estimate
from i0tscore.results.report import Part, Report, plain
from i0tscore.samples.preferences import PreferenceSet
from i0tscore.samples.rating_sets import Published

_Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accuracy(Part):
    """Agreement of one metric with preferences.

    Attributes:
        n: Number of pairs with two defined scores.
        accuracy: Share of pairs whose preferred caption scores higher; equal scores count half.
        ties: Share of pairs with equal scores.
        parts: Accuracy by category.
        difference: Difference in accuracy from the baseline on the same pairs; None for the baseline.
    """

    n: int
    accuracy: Estimate
    ties: float
    parts: dict[str, Estimate]
    difference: Estimate | None


@dataclass(frozen=True, slots=True, repr=False)
class PreferenceReport(Report):
    """Agreement of scores with preferences.

    Attributes:
        metrics: Accuracy by metric.
        baseline: Metric that the others are compared with.
        signatures: Signatures by metric, where known.
        published: Published figures of the set.
    """

    SCHEMA = "i0tscore.agreement/1"

    metrics: dict[str, Accuracy]
    baseline: str
    resampling: Resampling
    notes: tuple[str, ...]
    signatures: dict[str, str]
    published: tuple[Published, ...] = ()

    def figures(self) -> dict[str, str]:
        """Return the accuracy by metric."""
        return {name: format_estimate(found.accuracy) for name, found in self.metrics.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/agreement.schema.json``; undefined values are None."""
        return {
            "schema": self.SCHEMA,
            "headline": "accuracy",
            "baseline": self.baseline,
            "resampling": {"over": "image", **self.resampling.to_dict()},
            "metrics": plain(self.metrics),
            "notes": list(self.notes),
            "signatures": dict(self.signatures),
            **({"published": plain(self.published)} if self.published else {}),
        }


def preference_report(
    pairs: PreferenceSet,
    *,
    baseline: str | None = None,
    resampling: Resampling | None = None,
    published: tuple[Published, ...] = (),
) -> PreferenceReport:
    """Measure how often each metric prefers the caption that people prefer.

    Args:
        pairs: Pairs with scores.
        baseline: Metric to compare the others with; the first if None. There are no differences if it has no scores.
        resampling: Settings of the intervals, over images; 1,000 resamples at 95% if None.
        published: Published figures to show beside.

    Examples:
        >>> from pathlib import Path
        >>> from i0tscore.samples.sample import Sample
        >>> dog, cat = (Sample("dog", Path("dog.jpg"), text) for text in ("A dog.", "A cat."))
        >>> pairs = PreferenceSet((dog,), (cat,), np.array([0]), ("dog.jpg",), scores={"mine": np.array([0.8, 0.1])})
        >>> preference_report(pairs)
        PreferenceReport(mine=1.000)
    """
    settings, baseline = resampling or Resampling(), baseline or next(iter(pairs.scores))
    clusters, categories = np.asarray(pairs.clusters), np.asarray(pairs.categories or ())

    def share(values: _Column, keep: NDArray[np.bool_] | bool = True) -> Estimate:
        mask = keep & ~np.isnan(values)
        if not mask.any():
            return Estimate(None, None)
        return Estimate(float(values[mask].mean()), bootstrap_mean(values[mask], clusters[mask], settings))

    direction = np.where(pairs.label == 0, 1, -1)
    correct: dict[str, _Column] = {
        name: (1 + np.sign(direction * (values[: pairs.n] - values[pairs.n :]))) / 2
        for name, values in pairs.scores.items()
    }
    metrics = {
        name: Accuracy(
            int((~np.isnan(values)).sum()),
            share(values),
            float((values == 0.5).mean()),
            {str(category): share(values, categories == category) for category in np.unique(categories)},
            share(values - correct[baseline]) if name != baseline and baseline in correct else None,
        )
        for name, values in correct.items()
    }
    return PreferenceReport(metrics, baseline, settings, pairs.notes, dict(pairs.signatures), published)
