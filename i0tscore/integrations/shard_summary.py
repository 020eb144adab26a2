"""Corpus figures from shards: sums that merge exactly, whose size does not grow with the corpus."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import POST, Statistics
from i0tscore.gap.measures import VectorSum
from i0tscore.results import ReferenceQuartiles, Resampling
from i0tscore.results.intervals import format_estimate, percentile_interval
from i0tscore.results.report import Report, plain
from i0tscore.results.result import MetricSummary, Result
from i0tscore.results.statistics_fit import StatisticsFit
from i0tscore.samples import Skipped

EXAMPLES = 20
"""Number of skipped samples that a summary lists; the output shards have all of them."""

Floats = NDArray[np.float64]

_POISSON = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(13)])
_THRESHOLDS = np.floor(_POISSON * 2.0**32).astype(np.uint64)


def poisson_weights(keys: Sequence[bytes], resampling: Resampling) -> Floats:
    """Compute how often each image is drawn in each resample: Poisson(1), by a hash of the image and the seed.

    The online bootstrap of Oza and Russell (2001), with independent Poisson weights instead of n draws out of n. The
    weights of an image depend on nothing else, so it has the same ones in every shard, and sums over shards equal sums
    over the corpus.

    Args:
        keys: Identity of each image, m of them.
        resampling: Number of resamples R, and the seed.

    Returns:
        Shape (m, R), whole numbers.

    Example:
        >>> weights = poisson_weights([b"one", b"two"], Resampling(resamples=10_000))
        >>> weights.shape, bool(abs(weights.mean() - 1) < 0.02), bool(abs(weights.var() - 1) < 0.05)
        ((2, 10000), True, True)
    """
    salt = str(resampling.seed).encode() + b"/"
    stream = b"".join(hashlib.shake_128(salt + key).digest(4 * resampling.resamples) for key in keys)
    uniform = np.frombuffer(stream, dtype="<u4").reshape(len(keys), resampling.resamples)
    return np.searchsorted(_THRESHOLDS, uniform.astype(np.uint64), side="right").astype(np.float64)


@dataclass
class MetricSums:
    """Sums from which a metric's mean and its interval are computed.

    Attributes:
        count: Number of defined scores.
        total: Sum of the scores.
        zeros: Number of scores that are exactly 0.
        resampled: Weighted sum of the scores in each resample (R,).
        resampled_count: Weighted number of scores in each resample (R,).
        scale: Quartiles of reference scores, or None.
    """

    count: int
    total: float
    zeros: int
    resampled: Floats
    resampled_count: Floats
    scale: ReferenceQuartiles | None = None

    @classmethod
    def of(
        cls, values: Floats, images: NDArray[np.int64], weights: Floats, scale: ReferenceQuartiles | None
    ) -> MetricSums:
        """Sum scores (n,), NaN where undefined, of images (n,) with weights (m, R)."""
        defined = ~np.isnan(values)
        known, rows = values[defined], images[defined]
        sums = np.bincount(rows, weights=known, minlength=len(weights))
        counts = np.bincount(rows, minlength=len(weights)).astype(np.float64)
        zeros = int(np.count_nonzero(known == 0))
        return cls(len(known), float(known.sum()), zeros, sums @ weights, counts @ weights, scale)

    def merge(self, other: MetricSums) -> MetricSums:
        """Add the sums of other scores."""
        return MetricSums(
            self.count + other.count,
            self.total + other.total,
            self.zeros + other.zeros,
            self.resampled + other.resampled,
            self.resampled_count + other.resampled_count,
            self.scale,
        )

    def interval(self, confidence: float, images: int) -> tuple[float, float] | None:
        """Compute the expanded percentile interval of the mean; None with fewer than two images or no resamples."""
        if images < 2:
            return None
        means = np.full(len(self.resampled), np.nan)
        np.divide(self.resampled, self.resampled_count, out=means, where=self.resampled_count > 0)
        return percentile_interval(means, confidence, images)


@dataclass
class ShardSummary:
    """All that the corpus figures need of one shard, or of several merged ones.

    Attributes:
        n: Number of scored samples.
        skipped: Number of skipped samples.
        images: Number of distinct images; an image in several shards counts in each.
        cut: Number of captions over the context length.
        metrics: Sums by metric name.
        gap: Sums of distinct images and of distinct captions by standardizer name.
        examples: Id and reason of the first skipped samples.
    """

    n: int = 0
    skipped: int = 0
    images: int = 0
    cut: int = 0
    metrics: dict[str, MetricSums] = field(default_factory=dict)
    gap: dict[str, tuple[VectorSum, VectorSum]] = field(default_factory=dict)
    examples: list[tuple[str, str]] = field(default_factory=list)

    def merge(self, other: ShardSummary) -> ShardSummary:
        """Add another summary; an empty one changes nothing."""
        metrics, gap = dict(self.metrics), dict(self.gap)
        for name, sums in other.metrics.items():
            metrics[name] = metrics[name].merge(sums) if name in metrics else sums
        for name, (images, captions) in other.gap.items():
            gap[name] = (
                (gap[name][0].merge(images), gap[name][1].merge(captions)) if name in gap else (images, captions)
            )
        return ShardSummary(
            self.n + other.n,
            self.skipped + other.skipped,
            self.images + other.images,
            self.cut + other.cut,
            metrics,
            gap,
            [*self.examples, *other.examples][:EXAMPLES],
        )

    def statistics_fit(self, statistics: Statistics) -> StatisticsFit | None:
        """Judge how well statistics fit the corpus; None with fewer than two images or captions."""
        images, captions = self.gap[str(POST)]
        means = images.total / max(images.count, 1), captions.total / max(captions.count, 1)
        return StatisticsFit.of_means(statistics, *means, images.count, captions.count)

    def centroid_distance(self, standardizer: str) -> float | None:
        """Compute the distance of the two mean vectors; None if either has no vectors."""
        if standardizer not in self.gap:
            return None
        images, captions = self.gap[standardizer]
        return images.distance(captions)

    def to_data(self) -> dict[str, Any]:
        """Return plain data, as stored in an output shard."""
        return {
            "n": self.n,
            "skipped": self.skipped,
            "images": self.images,
            "cut": self.cut,
            "metrics": {
                name: [s.count, s.total, s.zeros, s.resampled.tolist(), s.resampled_count.tolist(), s.scale]
                for name, s in self.metrics.items()
            },
            "gap": {name: [[s.count, s.total.tolist()] for s in sums] for name, sums in self.gap.items()},
            "examples": self.examples,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> ShardSummary:
        """Restore a summary from ``to_data``; raises KeyError, TypeError, or ValueError for anything else."""
        metrics = {
            name: MetricSums(
                int(count),
                float(total),
                int(zeros),
                np.array(resampled, dtype=np.float64),
                np.array(resampled_count, dtype=np.float64),
                None if scale is None else ReferenceQuartiles(tuple(scale[0]), tuple(scale[1]), str(scale[2])),
            )
            for name, (count, total, zeros, resampled, resampled_count, scale) in data["metrics"].items()
        }
        gap = {}
        for name, sums in data["gap"].items():
            images, captions = (VectorSum(int(n), np.array(total, dtype=np.float64)) for n, total in sums)
            gap[name] = images, captions
        counts = {key: int(data[key]) for key in ("n", "skipped", "images", "cut")}
        examples = [(str(name), str(reason)) for name, reason in data["examples"]]
        return cls(**counts, metrics=metrics, gap=gap, examples=examples)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusMetric(MetricSummary):
    """One metric over all shards, with an interval by Poisson bootstrap over images.

    Attributes:
        n: Number of defined scores.
    """

    n: int


@dataclass(frozen=True, repr=False)
class CorpusSummary(Report):
    """Figures of a corpus; the scores of its samples are in the output shards.

    Attributes:
        n: Number of scored samples.
        n_skipped: Number of skipped samples.
        metrics: Figures by metric name.
        gap: Centroid distance by standardizer name.
        statistics_fit: How well fixed statistics fit the corpus; None without fixed statistics.
        skipped: The first skipped samples.
        notes: Notes for the reader.
    """

    SCHEMA = Result.SCHEMA

    n: int
    n_skipped: int
    metrics: dict[str, CorpusMetric]
    gap: dict[str, float | None]
    statistics_fit: StatisticsFit | None
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def figures(self) -> dict[str, str]:
        """Return the number of samples, and the mean of each metric."""
        means = {name: format_estimate(metric.estimate) for name, metric in self.metrics.items()}
        return {"n": str(self.n), **means, "skipped": str(self.n_skipped)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, schema ``i0tscore.result/1`` without samples."""
        return {
            "schema": self.SCHEMA,
            "n": self.n,
            "skipped": [skipped._asdict() for skipped in self.skipped],
            "scores": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "gap": {"measure": "centroid_distance", **self.gap},
            "statistics_fit": plain(self.statistics_fit),
            "notes": list(self.notes),
        }
