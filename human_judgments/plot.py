"""The figures of reports: SVG, the same bytes for the same numbers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from i0tscore.results.intervals import Estimate

_OURS, _THEIRS = "#1b6ca8", "#777777"
_COLORS = ("#1b6ca8", "#d1622b", "#2a7f3f")


class Picture(Protocol):
    """What a report can show."""

    @property
    def title(self) -> str:
        """What it shows."""

    def draw(self) -> bytes | None:
        """The SVG; None, with a warning, without matplotlib."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One dot with its interval for each metric, published figures as hollow dots.

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

    def draw(self) -> bytes | None:
        """The SVG; None, with a warning, without matplotlib."""
        return svg((7.5, 1.2 + 0.27 * (len(self._defined) + len(self.theirs))), self._paint)

    @property
    def _defined(self) -> list[tuple[str, Estimate]]:
        return [(name, estimate) for name, estimate in self.ours.items() if estimate.value is not None]

    def _paint(self, figure: Any) -> None:
        ours = self._defined
        names = [name for name, _ in ours] + [f"{name} (published)" for name in self.theirs]
        axes = figure.add_subplot()
        for row, (_, estimate) in enumerate(ours):
            if estimate.interval is not None:
                low, high = estimate.interval
                axes.hlines(row, 100 * low, 100 * high, color=_OURS, linewidth=2)
            axes.plot(100 * (estimate.value or 0.0), row, "o", color=_OURS)
        for row, value in enumerate(self.theirs.values(), start=len(ours)):
            axes.plot(100 * value, row, "o", color=_THEIRS, markerfacecolor="none")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(self.axis)
        axes.set_title(self.title)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)


@dataclass(frozen=True, slots=True)
class DynamicsPicture:
    """Inverted images over the steps: cosines with other images, loss, and mAP.

    Attributes:
        title: What it shows.
        rows: As ``studies.dynamics.inversion_dynamics`` gives them.
        texts: Quantiles of the cosines of captions with images of others.
    """

    title: str
    rows: Sequence[Mapping[str, Any]]
    texts: Mapping[str, float]

    def draw(self) -> bytes | None:
        """The SVG; None, with a warning, without matplotlib."""
        return svg((11.0, 3.6), self._paint)

    def _paint(self, figure: Any) -> None:
        cosines, loss, precision = figure.subplots(1, 3)
        still = self.rows[0]
        for name, levels, color in (
            ("image–image", still["other"], _THEIRS),
            ("text–image", self.texts, "#b58900"),
        ):
            cosines.axhspan(levels["5"], levels["95"], color=color, alpha=0.15, linewidth=0)
            cosines.axhline(levels["50"], color=color, linestyle="--", label=name)
        precision.axhline(100 * still["mAP"]["value"], color=_THEIRS, linestyle="--", label="images themselves")
        moving = [row for row in self.rows if row["tokens"]]
        for count, color in zip(sorted({row["tokens"] for row in moving}), _COLORS, strict=False):
            own = [row for row in moving if row["tokens"] == count]
            steps, name = [row["step"] for row in own], f"R = {count}"
            low, middle, high = ([row["other"][q] for row in own] for q in ("5", "50", "95"))
            cosines.fill_between(steps, low, high, color=color, alpha=0.1, linewidth=0)
            cosines.plot(steps, middle, ".-", color=color, label=f"OTI–image, {name}")
            loss.plot(steps, [row["loss"] for row in own], ".-", color=color, label=name)
            precision.plot(steps, [100 * row["mAP"]["value"] for row in own], ".-", color=color, label=name)
        for axes, what in (
            (cosines, "cosine with other images (median, 5–95 %)"),
            (loss, "loss: 1 − cosine with the own image"),
            (precision, "image-to-image mAP × 100"),
        ):
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlabel("updates")
            axes.set_title(what, fontsize=9)
            axes.legend(frameon=False, fontsize=7)


def svg(size: tuple[float, float], paint: Callable[[Any], None]) -> bytes | None:
    """Paint a figure of some inches and return it; None, with a warning, without matplotlib."""
    if find_spec("matplotlib") is None:
        warnings.warn('no figure: it needs matplotlib: pip install "i0tscore[plot]"', UserWarning, stacklevel=3)
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "i0tscore", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
