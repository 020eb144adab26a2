"""Result objects, signatures and intervals."""

from i0tscore.results.intervals import Resampling, bootstrap_mean
from i0tscore.results.result import MetricResult, Result, SampleResult, SampleScore, Scale, SkippedSample
from i0tscore.results.signature import Signature

__all__ = [
    "MetricResult",
    "Resampling",
    "Result",
    "SampleResult",
    "SampleScore",
    "Scale",
    "Signature",
    "SkippedSample",
    "bootstrap_mean",
]
