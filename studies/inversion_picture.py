"""The figure of the report on inversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from human_judgments.plot import svg
from i0tscore.results.intervals import Estimate
from studies.inversion_references import MEAN, References, Score
from studies.inversion_tasks import GALLERY, QUERIES, Task

_NATIVE, _COLORS = "#777777", {QUERIES: "#1b6ca8", GALLERY: "#d1622b"}


@dataclass(frozen=True, slots=True)
class InversionPicture:
    """mAP within each modality and agreement with people, over the updates of the inversion.

    Attributes:
        title: What it shows.
        tasks: Tasks within a modality.
        references: Agreement by rule.
    """

    title: str
    tasks: Sequence[Task]
    references: References

    def draw(self) -> bytes | None:
        """The SVG; None, with a warning, without matplotlib."""
        return svg((11.0, 3.4), self._paint)

    def _paint(self, figure: Any) -> None:
        *panels, last = figure.subplots(1, len(self.tasks) + 1)
        for axes, task in zip(panels, self.tasks, strict=True):
            measure = task.measures[0]
            _level(axes, "as they are", task.native.values[measure])
            for what, color in _COLORS.items():
                lines = task.inverted(what)
                _curve(axes, what, [(line.updates or 0, line.values[measure]) for line in lines], color)
            axes.set_title(f"{task.name} {measure} × 100", fontsize=9)
        scores = self.references.scores
        _level(last, "references as captions", scores[Score("post", MEAN, None)].tau_c)
        points = [
            (score.updates, found.tau_c)
            for score, found in scores.items()
            if (score.condition, score.rule) == ("post", MEAN) and score.updates
        ]
        _curve(last, "references inverted", points, _COLORS[QUERIES])
        last.set_title("Expert τ-c × 100, RefI0TScore (mean)", fontsize=9)
        for axes in (*panels, last):
            axes.set_xscale("log")
            # A level's own line reaches from 0 to 1.
            steps = sorted({step for line in axes.lines for step in line.get_xdata() if step > 1})
            axes.set_xticks(steps, [f"{step:,}" for step in steps])
            axes.minorticks_off()
            axes.set_xlabel("updates")
            axes.legend(frameon=False, fontsize=7)


def _level(axes: Any, name: str, estimate: Estimate) -> None:
    axes.axhline(100 * (estimate.value or 0.0), color=_NATIVE, linestyle="--", label=name)
    if estimate.interval is not None:
        low, high = estimate.interval
        axes.axhspan(100 * low, 100 * high, color=_NATIVE, alpha=0.12, linewidth=0)


def _curve(axes: Any, name: str, points: Sequence[tuple[int, Estimate]], color: str) -> None:
    steps = [step for step, _ in points]
    axes.plot(steps, [100 * (estimate.value or 0.0) for _, estimate in points], ".-", color=color, label=name)
    for step, estimate in points:
        if estimate.interval is not None:
            low, high = estimate.interval
            axes.vlines(step, 100 * low, 100 * high, color=color, alpha=0.5, linewidth=1)
