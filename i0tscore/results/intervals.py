"""Confidence intervals by bootstrap over images, not over rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import UsageError


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made.

    Attributes:
        confidence: Coverage, in (0, 1).
        resamples: Bootstrap resamples, at least 2 / (1 − confidence); 0 for no intervals.
        seed: Of the resampling.

    Raises:
        UsageError: The coverage is none, or the resamples are too few to have such tails.
    """

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 12345

    def __post_init__(self) -> None:
        """Refuse what gives no interval of that coverage."""
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence {self.confidence:g} must lie between 0 and 1")
        least = math.ceil(round(2 / (1 - self.confidence), 6))
        if self.resamples < 0 or 0 < self.resamples < least:
            raise UsageError(
                f"{self.resamples} resamples do not show the tails of {100 * self.confidence:g} %: "
                f"take {least} or more, or 0 for no intervals"
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; None where undefined."""

    value: float | None
    interval: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


def expanded_tail(confidence: float, groups: int) -> float:
    """Tail probability of the expanded percentile interval (Hesterberg 2015, The American Statistician 69).

    Percentile intervals are too narrow for few clusters; taking the percentiles of a t-distribution
    scaled by √(g/(g − 1)) restores their coverage. With many clusters this is (1 − confidence) / 2.

    Example:
        >>> round(expanded_tail(0.95, 18), 4), round(expanded_tail(0.95, 1000), 4)
        (0.015, 0.0248)
    """
    from scipy.stats import norm, t

    quantile = t.ppf((1 - confidence) / 2, groups - 1) * np.sqrt(groups / (groups - 1))
    return float(norm.cdf(quantile))


def bootstrap_mean(
    values: NDArray[Any],
    clusters: Sequence[Hashable] | NDArray[Any],
    resampling: Resampling | None = None,
) -> tuple[float, float] | None:
    """Interval of the mean by the expanded percentile bootstrap, resampling whole clusters.

    Captions of one image share its difficulty, so rows are not independent; images are.

    Args:
        values: Scores (n,); NaN are left out.
        clusters: Cluster of each value, e.g. its image, (n,).
        resampling: Coverage, resamples and seed; the default is 1,000 resamples at 95 %.

    Returns:
        Lower and upper bound, or None with fewer than two clusters or no resamples.

    Example:
        >>> low, high = bootstrap_mean(np.arange(10.0), range(10))
        >>> bool(low < 4.5 < high)
        True
    """
    from scipy.stats import bootstrap

    settings = resampling or Resampling()
    defined = ~np.isnan(values)
    labels = np.unique(np.asarray(clusters)[defined], return_inverse=True)[1]
    counts = np.bincount(labels) if len(labels) else np.zeros(0)
    if len(counts) < 2 or not settings.resamples:
        return None
    sums = np.bincount(labels, weights=values[defined])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of a degenerate distribution; its bounds are right
        result = bootstrap(
            (sums, counts),
            lambda s, c, axis=-1: s.sum(axis=axis) / c.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=settings.resamples,
            confidence_level=1 - 2 * expanded_tail(settings.confidence, len(counts)),
            method="percentile",
            batch=max(1, 4_000_000 // len(counts)),
            rng=np.random.default_rng(settings.seed),
        )
    low, high = result.confidence_interval
    return float(low), float(high)


def cluster_labels(
    clusters: Sequence[Any] | NDArray[Any] | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """Number the clusters of the kept rows; without clusters each row is its own."""
    kept = np.arange(keep.sum()) if clusters is None else np.asarray(clusters)[keep]
    labels: NDArray[np.int64] = np.unique(kept, return_inverse=True)[1]
    return labels, int(labels.max()) + 1 if len(labels) else 0


def cluster_weights(labels: NDArray[np.int64], groups: int, resampling: Resampling) -> Iterator[NDArray[np.int64]]:
    """For each resample how often each row is drawn, whole clusters at a time."""
    generator = np.random.default_rng(resampling.seed)
    for _ in range(resampling.resamples if groups > 1 else 0):
        drawn = np.bincount(generator.integers(0, groups, groups), minlength=groups)
        yield drawn[labels]


def percentile_interval(draws: NDArray[np.float64], confidence: float, groups: int) -> tuple[float, float] | None:
    """Expanded percentile interval of bootstrap draws; undefined draws are left out."""
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return None
    tail = expanded_tail(confidence, groups)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
