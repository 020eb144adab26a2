"""Agreement of scores with preferences between pairs of captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from human_judgments.preferences import PreferenceSet
from i0tscore.results import Resampling, bootstrap_mean
from i0tscore.results.intervals import Estimate

Column = NDArray[np.float64]


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
        parts = {} if categories is None else {str(c): share(values, categories == c) for c in np.unique(categories)}
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
