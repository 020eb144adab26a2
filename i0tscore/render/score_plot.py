"""Plots of scores and of paired differences on Matplotlib axes (extra ``plot``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.render.charts import distribution
from i0tscore.render.document import format_number, one_line, shorten
from i0tscore.render.gap_plot import require_matplotlib

Values = NDArray[np.float64]

_BARS, _INK = "#b6bec9", "#1c2128"
_CURVES = {"matched": ("#0a5ca8", "solid"), "mismatched": ("#b34700", "dashed")}
"""Colors and line styles of the curves; the styles distinguish them in black and white."""

_LONGEST_NAME = 20
_BINS = 41
"""An odd number, so that the middle bin is centered on zero."""


def plot_scores(
    name: str, values: Values, mean: float | None, reference: tuple[Values, Values] | None = None, ax: Any = None
) -> Any:
    """Plot the distribution of scores, over those of matched and of mismatched reference pairs.

    Args:
        name: The metric's name.
        values: Scores (n,); NaN values are ignored.
        mean: Mean of the defined scores, or None.
        reference: Quantiles at equal steps of the scores of matched and of mismatched pairs.
        ax: Axes to draw on; new ones if None.

    Returns:
        The axes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    defined = values[~np.isnan(values)]
    axis, shares, curves = distribution(defined, dict(zip(_CURVES, reference or (), strict=False)))
    edges = np.linspace(*axis, len(shares) + 1)
    ax = _axes(ax, edges, shares, f"{len(defined):,} scores")
    for kind, heights in curves.items():
        color, style = _CURVES[kind]
        ax.plot((edges[1:] + edges[:-1]) / 2, heights, color=color, linestyle=style, label=f"{kind} reference pairs")
    _mark_mean(ax, mean)
    ax.set_xlabel(name)
    ax.legend(frameon=False)
    return ax


def plot_differences(
    name: str,
    systems: tuple[str, str],
    differences: Values,
    interval: tuple[float, float] | None,
    ax: Any = None,
) -> Any:
    """Plot the distribution of paired differences, with their mean and its interval.

    Args:
        name: The metric's name.
        systems: Names of the system and of the baseline.
        differences: System − baseline (n,).
        interval: Interval of the mean, or None.
        ax: Axes to draw on; new ones if None.

    Returns:
        The axes.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    limit = float(np.abs(differences).max(initial=0.0)) or 1.0
    edges = np.linspace(-limit, limit, _BINS + 1)
    ax = _axes(ax, edges, np.histogram(differences, edges)[0] / max(len(differences), 1), f"{len(differences):,} ids")
    if interval is not None:
        ax.axvspan(
            *interval, color=_CURVES["matched"][0], alpha=0.25, linewidth=0, zorder=0, label="interval of the mean"
        )
    _mark_mean(ax, differences.mean() if len(differences) else None)
    ax.axvline(0.0, color=_INK, linewidth=0.8, linestyle="dotted")
    system, baseline = (shorten(one_line(one), _LONGEST_NAME) for one in systems)
    counts = [np.count_nonzero(signs) for signs in (differences < 0, differences == 0, differences > 0)]
    titles = (f"{baseline} higher: {counts[0]:,}", f"equal: {counts[1]:,}", f"{system} higher: {counts[2]:,}")
    for title, side in zip(titles, ("left", "center", "right"), strict=True):
        ax.set_title(title, loc=side, fontsize="small").set_parse_math(False)
    ax.set_xlabel(f"{name}: {system} − {baseline}").set_parse_math(False)
    ax.legend(frameon=False)
    return ax


def _axes(ax: Any, edges: Values, shares: Values, label: str) -> Any:
    """Return axes, new ones if None, with bars of shares in percent."""
    require_matplotlib("a plot of scores")
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    if ax is None:
        _, ax = pyplot.subplots(layout="constrained")
    ax.bar(edges[:-1], shares, width=0.9 * np.diff(edges), align="edge", color=_BARS, label=label)
    ax.set_xlim(edges[0], edges[-1])
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _mark_mean(ax: Any, mean: float | None) -> None:
    if mean is not None:
        ax.axvline(mean, color=_INK, linewidth=1.5, label=f"mean {format_number(mean)}")
