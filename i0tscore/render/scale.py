"""What a score usually is: the quartiles of matched and of mismatched pairs, in each metric's own units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from i0tscore.gap import Statistics
from i0tscore.metrics.metric import Metric
from i0tscore.results import Result

Quartiles = tuple[float, float, float]


class Scale(NamedTuple):
    """Quartiles of the scores of a metric's reference pairs.

    Attributes:
        matched: Of images with their own captions.
        mismatched: Of images with other images' captions.
        source: What the pairs are.
    """

    matched: Quartiles
    mismatched: Quartiles
    source: str


def reference_scales(result: Result, statistics: Statistics | None) -> dict[str, Scale]:
    """Scale of each metric that the statistics have a reference distribution for, by metric name.

    Args:
        result: A result.
        statistics: The fixed statistics it was made with; None where each run has its own.
    """
    scales: dict[str, Scale] = {}
    if statistics is None:
        return scales
    for name in result:
        metric = Metric.parse(name)
        reference = statistics.reference.get(str(metric.standardizer))
        if reference is not None and not metric.needs_references:
            matched, mismatched = (_values(metric, quartiles) for quartiles in reference.quartiles())
            scales[name] = Scale(matched, mismatched, statistics.source or statistics.name)
    return scales


def _values(metric: Metric, quartiles: Quartiles) -> Quartiles:
    low, middle, high = metric.value(np.array(quartiles)).tolist()
    return low, middle, high
