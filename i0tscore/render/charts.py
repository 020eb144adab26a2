"""Geometry of the charts of HTML pages, which templates draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, BASE = 560, 232, 202
_BINS = 40
_MOST_TICKS = 7
_TAILS = (0.005, 0.995)
"""Quantiles of reference pairs between which an axis extends; values of the run are always within it."""


class Axis(NamedTuple):
    """A horizontal axis; ``low`` < ``high``."""

    low: float
    high: float

    @classmethod
    def around(cls, values: NDArray[Any], reference: Iterable[NDArray[Any]] = ()) -> Axis:
        """Return an axis for all values, and the middle of the reference values."""
        ends = [*values, *(end for one in reference for end in np.quantile(one, _TAILS))] or [0.0]
        low, high = float(min(ends)), float(max(ends))
        margin = 0.03 * (high - low) or 0.5
        return cls(low - margin, high + margin)

    def at(self, value: float, width: float = WIDTH) -> float:
        """Return the position of a value on an axis of this width."""
        return round(width * (value - self.low) / (self.high - self.low), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Return positions and labels of up to seven round values."""
        rough = (self.high - self.low) / _MOST_TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        digits = max(0, -math.floor(math.log10(step)))
        values = [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [(self.at(value), f"{value:.{digits}f}") for value in values]


class Histogram(NamedTuple):
    """A histogram with curves of reference values.

    Attributes:
        bars: Left, top, width, and height of each bar.
        curves: Name, path, and the position of the label of each curve.
        ticks: Positions and labels of the axis.
        mean: Position of the mean, or None.
        width: Width of the drawing.
        height: Height of the drawing.
        base: Position of the axis from the top.
    """

    bars: list[tuple[float, float, float, float]]
    curves: list[tuple[str, str, float, float]]
    ticks: list[tuple[float, str]]
    mean: float | None
    width: int = WIDTH
    height: int = HEIGHT
    base: int = BASE


def distribution(
    values: NDArray[np.float64], reference: Mapping[str, NDArray[np.float64]]
) -> tuple[Axis, NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return an axis, and the shares of values and of reference values in equal bins along it, (bins,) each.

    Args:
        values: Defined values (n,), n ≥ 0.
        reference: Reference values, or quantiles at equal steps, by name; their shares are slightly smoothed.
    """
    axis = Axis.around(values, reference.values())
    edges = np.linspace(axis.low, axis.high, _BINS + 1)
    others = {}
    for name, one in reference.items():
        shares = np.pad(np.histogram(one, edges)[0] / len(one), 1, mode="edge")
        others[name] = np.convolve(shares, (0.25, 0.5, 0.25), mode="valid")  # as smooth as the bars
    return axis, np.histogram(values, edges)[0] / max(len(values), 1), others


def histogram(
    values: NDArray[np.float64], mean: float | None, reference: Mapping[str, NDArray[np.float64]] | None = None
) -> Histogram:
    """Lay out a histogram of shares of values, over the shares of reference values in the same bins.

    Args:
        values: Defined values (n,), n ≥ 0.
        mean: Their mean.
        reference: Reference values, or quantiles at equal steps, by name.
    """
    axis, own, others = distribution(values, reference or {})
    top = max(float(shares.max()) for shares in (own, *others.values())) or 1.0
    step, room = WIDTH / _BINS, BASE - 34
    bars = [
        (round(i * step + 0.75, 1), round(BASE - height, 1), round(step - 1.5, 1), round(height, 1))
        for i, height in enumerate(room * own / top)
        if height
    ]
    curves = []
    for name, heights in others.items():
        points = [f"{(i + 0.5) * step:.1f} {BASE - room * height / top:.1f}" for i, height in enumerate(heights)]
        peak = int(heights.argmax())
        label = (round((peak + 0.5) * step, 1), round(BASE - room * heights[peak] / top - 8, 1))
        curves.append((name, "M" + "L".join(points), *label))
    return Histogram(bars, curves, axis.ticks(), None if mean is None else axis.at(mean))
