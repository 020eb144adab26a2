"""Reports that verbs and functions return, their signatures, and intervals."""

from i0tscore.results.intervals import Resampling, bootstrap_mean
from i0tscore.results.result import MetricResult, ReferenceQuartiles, Result, SampleResult, SampleScore
from i0tscore.results.signature import Signature

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
