"""Bootstrap intervals and paired differences, resampling images rather than rows."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from i0tscore.errors import UsageError
from i0tscore.render.document import format_number
from i0tscore.results.report import Part


@dataclass(frozen=True, slots=True)
class Resampling(Part):
    """Settings of bootstrap intervals.

    Attributes:
        confidence: Coverage, in (0, 1).
        resamples: Number of bootstrap resamples, at least 2 / (1 − confidence); 0 for no intervals.
        seed: Seed of the random generator.

    Raises:
        UsageError: The coverage is out of range, or there are too few resamples for its tails.
    """

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 12345

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.confidence < 1:
            raise UsageError(f"Expected a confidence between 0 and 1, got {self.confidence:g}.")
        least = math.ceil(round(2 / (1 - self.confidence), 6))
        if self.resamples < 0 or 0 < self.resamples < least:
            raise UsageError(
                f"Expected at least {least} resamples for a confidence of {self.confidence:g}, got {self.resamples}. "
                f"Use {least} or more, or 0 for no intervals."
            )


@dataclass(frozen=True, slots=True)
class Estimate(Part):
    """A value with its interval; None where undefined."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between two metrics on the same ratings, or two systems on the same samples.

    Attributes:
        first: Name of the metric or system.
        second: Name of the baseline.
        estimate: first − second, with the interval of the paired bootstrap.
        p_value: Two-sided p-value for no difference.
        p_holm: p-value with Holm's correction for all comparisons of the same call.
    """

    first: str
    second: str
    estimate: Estimate
    p_value: float | None
    p_holm: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"from": self.second, **self.estimate.to_dict(), "p": self.p_value, "p_holm": self.p_holm}


def format_estimate(estimate: Estimate, *, signed: bool = False) -> str:
    """Format an estimate with its interval.

    Examples:
        >>> format_estimate(Estimate(0.5, (0.4, 0.61))), format_estimate(Estimate(0.5, None), signed=True)
        ('0.500 (0.400 to 0.610)', '+0.500')
    """
    values = [
        f"+{format_number(value)}" if signed and value is not None and round(value, 3) > 0 else format_number(value)
        for value in (estimate.value, *(estimate.interval or ()))
    ]
    return values[0] if estimate.interval is None else "{} ({} to {})".format(*values)


SMALLEST_SHOWN_P = 0.0005
"""Smaller p-values are shown as <0.001."""


def difference_row(difference: Difference) -> list[str]:
    """Return the cells of a difference: its estimate, p-value and Holm's p-value.

    Examples:
        >>> difference_row(Difference("b", "a", Estimate(0.2, None), 0.0421, 0.0001))
        ['+0.200', '0.042', '<0.001']
    """
    p_values = (difference.p_value, difference.p_holm)
    cells = ["<0.001" if p is not None and p < SMALLEST_SHOWN_P else format_number(p) for p in p_values]
    return [format_estimate(difference.estimate, signed=True), *cells]


def expanded_tail(confidence: float, groups: int) -> float:
    """Return the tail probability of the expanded percentile interval.

    Percentile intervals are too narrow for few clusters; taking the percentiles of a t-distribution
    scaled by √(g/(g − 1)) restores their coverage. With many clusters this is (1 − confidence) / 2.

    Source:
        Hesterberg 2015, The American Statistician 69.

    Examples:
        >>> round(expanded_tail(0.95, 18), 4), round(expanded_tail(0.95, 1000), 4)
        (0.015, 0.0248)
    """
    quantile = stdtrit(groups - 1, (1 - confidence) / 2) * np.sqrt(groups / (groups - 1))
    return float(ndtr(quantile))


def bootstrap_mean(
    values: NDArray[Any], clusters: Sequence[Hashable] | NDArray[Any], resampling: Resampling | None = None
) -> tuple[float, float] | None:
    """Return the interval of a mean; see ``bootstrap_means``.

    Examples:
        >>> low, high = bootstrap_mean(np.arange(10.0), range(10))
        >>> bool(low < 4.5 < high)
        True
    """
    return bootstrap_means([values], clusters, resampling)[0]


def bootstrap_means(
    columns: Sequence[NDArray[Any]],
    clusters: Sequence[Hashable] | NDArray[Any],
    resampling: Resampling | None = None,
) -> list[tuple[float, float] | None]:
    """Return the intervals of means by the expanded percentile bootstrap over whole clusters.

    Captions of one image share its difficulty, so rows are not independent, but images are.

    Args:
        columns: Scores (n,) each; NaN are left out. Columns with the same scores undefined share their resamples.
        clusters: Cluster of each score, such as its image, (n,).
        resampling: Coverage, resamples and seed; 1,000 resamples at 95% if None.

    Returns:
        For each column the lower and upper bound, or None with fewer than two clusters or no resamples.

    Examples:
        >>> bootstrap_means([np.arange(10.0), np.ones(10)], range(10))[1]
        (1.0, 1.0)
    """
    settings = resampling or Resampling()
    intervals: list[tuple[float, float] | None] = [None] * len(columns)
    alike: dict[bytes, list[int]] = {}
    for i, column in enumerate(columns):
        alike.setdefault(np.isnan(column).tobytes(), []).append(i)
    for members in alike.values():
        defined = ~np.isnan(columns[members[0]])
        labels, groups = cluster_labels(clusters, defined)
        sums = [np.bincount(labels, weights=columns[i][defined], minlength=groups) for i in members]
        found = bootstrap_sums(np.stack(sums, axis=1), np.bincount(labels, minlength=groups), settings)
        for i, interval in zip(members, found, strict=True):
            intervals[i] = interval
    return intervals


def bootstrap_sums(
    sums: NDArray[np.float64], counts: NDArray[Any], resampling: Resampling
) -> list[tuple[float, float] | None]:
    """Return the intervals of ``bootstrap_means`` from what each cluster adds to the means.

    Args:
        sums: Sum of the scores of each cluster and column (g, k).
        counts: Number of scores of each cluster (g,), at least 1.
        resampling: Coverage, resamples and seed.

    Examples:
        >>> bootstrap_sums(np.array([[3.0], [5.0]]), np.array([3, 5]), Resampling())
        [(1.0, 1.0)]
    """
    groups, totals = len(counts), np.column_stack([sums, counts])
    draws = np.array([weights @ totals for weights in cluster_weights(np.arange(groups), groups, resampling)])
    if not len(draws):
        return [None] * sums.shape[1]
    means = draws[:, :-1] / draws[:, -1:]
    return [percentile_interval(column, resampling.confidence, groups) for column in means.T]


def cluster_labels(
    clusters: Sequence[Any] | NDArray[Any] | None, keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], int]:
    """Return the cluster numbers of the kept rows and the number of clusters; without clusters, one per row."""
    kept = np.arange(keep.sum()) if clusters is None else np.asarray(clusters)[keep]
    labels: NDArray[np.int64] = np.unique(kept, return_inverse=True)[1]
    return labels, int(labels.max()) + 1 if len(labels) else 0


def cluster_weights(labels: NDArray[np.int64], groups: int, resampling: Resampling) -> Iterator[NDArray[np.int64]]:
    """Yield for each resample of whole clusters how often it contains each row (n,)."""
    generator = np.random.default_rng(resampling.seed)
    for _ in range(resampling.resamples if groups > 1 else 0):
        drawn = np.bincount(generator.integers(0, groups, groups), minlength=groups)
        yield drawn[labels]


def percentile_interval(draws: NDArray[np.float64], confidence: float, groups: int) -> tuple[float, float] | None:
    """Return the expanded percentile interval of bootstrap draws; undefined draws are left out."""
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2:
        return None
    tail = expanded_tail(confidence, groups)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def paired_differences(
    draws: Mapping[str, tuple[float | None, NDArray[np.float64]]], baseline: str, confidence: float, groups: int
) -> list[Difference]:
    """Return differences from a baseline with intervals and p-values.

    ``draws`` has by name the observed difference and those of the resamples, NaN where undefined.
    """
    p_values = [_p_value(resampled, groups) for _, resampled in draws.values()]
    return [
        Difference(name, baseline, Estimate(value, percentile_interval(resampled, confidence, groups)), p, holm)
        for (name, (value, resampled)), p, holm in zip(draws.items(), p_values, holm_correction(p_values), strict=True)
    ]


def holm_correction(p_values: Sequence[float | None]) -> list[float | None]:
    """Apply Holm's step-down correction; undefined p-values stay undefined and do not count.

    Examples:
        >>> holm_correction([0.01, 0.04, None])
        [0.02, 0.04, None]
    """
    defined = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for step, (p, i) in enumerate(defined):
        floor = max(floor, min(1.0, p * (len(defined) - step)))
        corrected[i] = floor
    return corrected


def smallest_p(resamples: int, groups: int) -> float:
    """Return the smallest p-value that a number of resamples of so many clusters can give.

    Examples:
        >>> round(smallest_p(1000, 1000), 4), round(smallest_p(1000, 10), 4)
        (0.0021, 0.0167)
    """
    return _two_sided(1 / (resamples + 1), groups)


def _two_sided(share: float, groups: int) -> float:
    return float(2 * stdtr(groups - 1, ndtri(min(0.5, share)) * np.sqrt((groups - 1) / groups)))


def _p_value(differences: NDArray[np.float64], groups: int) -> float | None:
    """Return twice the smaller share of resampled differences on either side of 0, counting the observed one.

    The share is widened like the interval (``expanded_tail``), so that both agree for few clusters.
    """
    defined = differences[~np.isnan(differences)]
    if len(defined) < 2:
        return None
    below, above = (defined <= 0).sum() + 1, (defined >= 0).sum() + 1
    return _two_sided(min(below, above) / (len(defined) + 1), groups)
