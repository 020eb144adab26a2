"""Where a score stands among matched and among mismatched pairs of a reference corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

QUANTILES = 1001

Quartiles = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceDistribution:
    """Scores of matched and of mismatched pairs, kept as quantiles, and a calibration to even odds.

    Attributes:
        matched: Quantiles 0, 0.1, …, 100 % of matched pairs' scores, shape (1001,), float64.
        mismatched: The same for pairs of an image and another image's caption.
        slope: a in p(match) = sigmoid(a · score + b).
        intercept: b in the same.
    """

    matched: NDArray[np.float64]
    mismatched: NDArray[np.float64]
    slope: float
    intercept: float

    @classmethod
    def fit(cls, matched: NDArray[Any], mismatched: NDArray[Any]) -> ReferenceDistribution:
        """Fit to scores of matched (n,) and mismatched (m,) pairs, both kinds weighing the same.

        Example:
            >>> import numpy as np
            >>> r = ReferenceDistribution.fit(np.linspace(0.2, 0.6, 50), np.linspace(-0.2, 0.3, 80))
            >>> bool(r.p_match(np.array([0.5]))[0] > 0.9)
            True
        """
        matched = matched[~np.isnan(matched)].astype(np.float64)
        mismatched = mismatched[~np.isnan(mismatched)].astype(np.float64)
        if not len(matched) or not len(mismatched):
            raise ValueError("a reference distribution needs matched and mismatched scores")
        grid = np.linspace(0.0, 1.0, QUANTILES)
        slope, intercept = _logistic(matched, mismatched)
        return cls(np.quantile(matched, grid), np.quantile(mismatched, grid), slope, intercept)

    def percentile_matched(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Share of matched reference pairs that score lower, in percent; NaN stays NaN."""
        return _percentile(self.matched, scores)

    def percentile_mismatched(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Share of mismatched reference pairs that score lower, in percent; NaN stays NaN."""
        return _percentile(self.mismatched, scores)

    def p_match(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Probability that a pair of this score is a matched one when both kinds are equally likely."""
        probability: NDArray[np.float64] = expit(self.slope * scores + self.intercept)
        return probability

    def quartiles(self) -> tuple[Quartiles, Quartiles]:
        """The 25th, 50th and 75th percentile of matched and of mismatched scores."""
        return _quartiles(self.matched), _quartiles(self.mismatched)


def _quartiles(quantiles: NDArray[np.float64]) -> Quartiles:
    low, middle, high = (float(quantiles[QUANTILES * quarter // 4]) for quarter in (1, 2, 3))
    return low, middle, high


def _percentile(quantiles: NDArray[np.float64], scores: NDArray[Any]) -> NDArray[np.float64]:
    percent: NDArray[np.float64] = np.interp(scores, quantiles, np.linspace(0.0, 100.0, len(quantiles)))
    return percent


def _logistic(matched: NDArray[np.float64], mismatched: NDArray[np.float64]) -> tuple[float, float]:
    """Maximum-likelihood slope and intercept, with a light ridge so that separable scores stay finite."""
    scores = np.concatenate([matched, mismatched])
    center, scale = float(scores.mean()), float(scores.std()) or 1.0
    z_matched, z_mismatched = (matched - center) / scale, (mismatched - center) / scale

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        a, b = parameters
        up, down = a * z_matched + b, a * z_mismatched + b
        value = np.logaddexp(0, -up).mean() + np.logaddexp(0, down).mean() + 1e-4 * a * a
        d_up, d_down = expit(up) - 1.0, expit(down)
        slope = (d_up * z_matched).mean() + (d_down * z_mismatched).mean() + 2e-4 * a
        return float(value), np.array([slope, d_up.mean() + d_down.mean()])

    a, b = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    return float(a / scale), float(b - a * center / scale)
