"""The figure of a report: one dot with its interval for each metric, published figures as hollow dots."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from importlib.util import find_spec

from i0tscore.results.intervals import Estimate

_OURS, _THEIRS = "#1b6ca8", "#777777"


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn.

    Attributes:
        title: Above the figure.
        axis: Name of the horizontal axis.
        ours: Measured figures by name, as shares of 1.
        theirs: Published figures by name, as shares of 1; drawn below ours.
    """

    title: str
    axis: str
    ours: dict[str, Estimate]
    theirs: dict[str, float]


def draw(chart: Chart) -> bytes | None:
    """Draw as SVG, the same bytes for the same figures; None, with a warning, without matplotlib."""
    if find_spec("matplotlib") is None:
        warnings.warn(
            'no figure: it needs matplotlib: pip install "i0tscore[plot]"', UserWarning, stacklevel=2
        )
        return None
    import matplotlib
    from matplotlib.figure import Figure

    ours = [(name, estimate) for name, estimate in chart.ours.items() if estimate.value is not None]
    names = [name for name, _ in ours] + [f"{name} (published)" for name in chart.theirs]
    with matplotlib.rc_context({"svg.hashsalt": "i0tscore", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.5, 1.2 + 0.27 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for row, (_, estimate) in enumerate(ours):
            if estimate.interval is not None:
                low, high = estimate.interval
                axes.hlines(row, 100 * low, 100 * high, color=_OURS, linewidth=2)
            axes.plot(100 * (estimate.value or 0.0), row, "o", color=_OURS)
        for row, value in enumerate(chart.theirs.values(), start=len(ours)):
            axes.plot(100 * value, row, "o", color=_THEIRS, markerfacecolor="none")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(chart.axis)
        axes.set_title(chart.title)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
