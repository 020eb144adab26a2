"""Results as plain data and JSON: floats are numbers, what is undefined is null, nothing is NaN."""

from __future__ import annotations

import json
from typing import Any, Protocol

from i0tscore.results.result import ReferenceQuartiles, Result, SampleResult
from i0tscore.results.signature import Signature

RESULT_SCHEMA = "i0tscore.result/1"


class CorpusFigures(Protocol):
    """What is written of a metric besides its scores; ``MetricResult`` has it."""

    @property
    def mean(self) -> float | None:
        """Mean of the defined scores."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the mean."""

    @property
    def confidence(self) -> float:
        """Coverage of the interval."""

    @property
    def zeros(self) -> float:
        """Share of scores that are exactly 0."""

    @property
    def scale(self) -> ReferenceQuartiles | None:
        """Usual scores."""

    @property
    def signature(self) -> Signature:
        """How the number was made."""


def result_to_dict(result: Result, *, per_sample: bool = True) -> dict[str, Any]:
    """Plain data of a result; see ``docs/result.schema.json``."""
    data: dict[str, Any] = {
        "schema": RESULT_SCHEMA,
        "n": result.n,
        "skipped": [{"id": s.id, "reason": s.reason} for s in result.skipped],
        "scores": {name: metric_to_dict(metric) for name, metric in result.metrics.items()},
        "gap": {"measure": "centroid_distance", **result.gap} if result.gap else None,
        "notes": list(result.notes),
    }
    if per_sample:
        data["samples"] = [sample_to_dict(sample) for sample in result.samples]
    return data


def metric_to_dict(metric: CorpusFigures) -> dict[str, Any]:
    """Plain data of one metric's corpus figures."""
    return {
        "mean": metric.mean,
        "interval": None if metric.interval is None else list(metric.interval),
        "confidence": metric.confidence,
        "zeros": metric.zeros,
        "scale": None if metric.scale is None else metric.scale._asdict(),
        "signature": str(metric.signature),
    }


def sample_to_dict(sample: SampleResult) -> dict[str, Any]:
    """Plain data of one sample."""
    scores = {
        name: {**score._asdict(), "rank": None if score.rank is None else list(score.rank)}
        for name, score in sample.scores.items()
    }
    data: dict[str, Any] = {
        "id": sample.id,
        "caption": sample.caption,
        "tokens": sample.tokens,
        "tokens_cut": sample.tokens_cut,
        "breakdown": sample.breakdown,
        "scores": scores,
    }
    if sample.notes:
        data["notes"] = list(sample.notes)
    return data


def dumps(data: object, indent: int | None = None) -> str:
    """Strict JSON text."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)
