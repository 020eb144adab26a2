"""Reference statistics as text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from i0tscore.gap import POST, Quartiles, Statistics, centroid_distance, expected_residual_gap
from i0tscore.render.strings import number


class StatisticsFacts(NamedTuple):
    """What a reader should know of reference statistics.

    Attributes:
        n: Number of pairs behind the means.
        gap: Distance of the two means.
        gap_expected: What ``post`` is expected to leave of it on new data; None without a distribution.
        quartiles: Of matched and of mismatched pairs' similarities, by standardizer.
    """

    n: int
    gap: float
    gap_expected: float | None
    quartiles: dict[str, tuple[Quartiles, Quartiles]]


def describe_statistics(statistics: Statistics) -> StatisticsFacts:
    """Sum up reference statistics."""
    n = statistics.image.count
    post = statistics.reference.get(str(POST))
    return StatisticsFacts(
        n=n,
        gap=centroid_distance(statistics.image.mean[None], statistics.caption.mean[None]),
        gap_expected=None if post is None else expected_residual_gap(float(np.mean(post.matched)), n),
        quartiles={name: reference.quartiles() for name, reference in statistics.reference.items()},
    )


def render_statistics(statistics: Statistics) -> str:
    """Reference statistics as lines and a table of quartiles; ends in a newline."""
    facts = describe_statistics(statistics)
    source = f" ({statistics.source})" if statistics.source else ""
    gap = f"modality gap (centroid distance): {facts.gap:.3f} between the means"
    if facts.gap_expected is not None:
        gap += f"; after post about {facts.gap_expected:.3f} is expected on new data"
    lines = [f"{statistics.name}-{statistics.digest}: {facts.n} pairs{source}, {statistics.encoder}", gap]
    rows = [
        [name, *(" ".join(number(q) for q in quartiles) for quartiles in pair)]
        for name, pair in facts.quartiles.items()
    ]
    if rows:
        header = ["similarity under", "matched pairs", "mismatched pairs"]
        align = ["left", "right", "right"]
        lines += [
            "",
            tabulate(rows, header, tablefmt="simple", colalign=align, disable_numparse=True),
            "",
            "quartiles: a quarter, half and three quarters of the pairs lie below",
        ]
    return "\n".join(lines) + "\n"
