"""Rank and linear correlation of integer-weighted rows, fast enough to be resampled a thousand times.

A bootstrap over clusters draws some clusters twice and others not at all: rows with integer weights.
``WeightedRows`` sorts the rows once and then counts, for any weights, exactly what scipy would
compute on the rows written out that many times.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CorrelationName = Literal["tau_b", "tau_c", "spearman", "pearson", "auc"]
CORRELATIONS: tuple[CorrelationName, ...] = ("tau_b", "tau_c", "spearman", "pearson")

_CELLS = 2_000_000


def correlation(name: CorrelationName, scores: NDArray[Any], ratings: NDArray[Any]) -> float | None:
    """A correlation as scipy computes it; None where it is undefined (a constant column, under two rows).

    ``auc`` takes two rating levels and is the share of pairs of a high and a low rating whose scores
    are in that order, ties counting half (Mann–Whitney).

    Example:
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
    """Rows of scores and ratings, prepared for correlation under integer weights.

    Args:
        scores: Shape (n,).
        ratings: Shape (n,).
    """

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
        """The correlation of rows repeated ``weights`` (n,) times; NaN where undefined."""
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
        # Of each rating level and score: the weight with a lower rating, at and up to that score.
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
