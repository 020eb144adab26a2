"""Reports that commands and functions return, their signatures, and intervals."""

from i0tscore.results.intervals import Resampling, bootstrap_mean
from i0tscore.results.report import Signature
from i0tscore.results.result import MetricResult, ReferenceQuartiles, Result, SampleResult, SampleScore

__all__ = [
    "MetricResult",
    "ReferenceQuartiles",
    "Resampling",
    "Result",
    "SampleResult",
    "SampleScore",
    "Signature",
    "bootstrap_mean",
]
