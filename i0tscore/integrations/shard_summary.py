"""Corpus figures out of shards: sums that merge exactly, of a size that does not grow with the corpus."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.results import ReferenceQuartiles, Resampling
from i0tscore.results.intervals import percentile_interval

EXAMPLES = 20
"""So many skipped samples are named in a summary; all of them are in the output shards."""

Floats = NDArray[np.float64]

_POISSON = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(13)])
_THRESHOLDS = np.floor(_POISSON * 2.0**32).astype(np.uint64)


def poisson_weights(keys: Sequence[bytes], resampling: Resampling) -> Floats:
    """How often each image is drawn in each resample: Poisson(1), by hash of the image and the seed.

    The online bootstrap of Oza and Russell (2001): independent Poisson weights take the place of drawing
    n of n. As they depend on nothing but the image, an image weighs the same in whatever shard it stands,
    and sums over shards are those over the corpus.

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
    """What the mean of a metric and its interval are made of.

    Attributes:
        count: Defined scores.
        total: Their sum.
        zeros: How many are exactly 0.
        drawn: For each resample the weighted sum of scores (R,).
        drawn_count: For each resample the weighted number of scores (R,).
        scale: Usual scores, or None.
    """

    count: int
    total: float
    zeros: int
    drawn: Floats
    drawn_count: Floats
    scale: ReferenceQuartiles | None = None

    @classmethod
    def of(
        cls, values: Floats, images: NDArray[np.int64], weights: Floats, scale: ReferenceQuartiles | None
    ) -> MetricSums:
        """Sums of scores (n,), NaN where undefined, of images (n,) that have the weights (m, R)."""
        defined = ~np.isnan(values)
        known, rows = values[defined], images[defined]
        sums = np.bincount(rows, weights=known, minlength=len(weights))
        counts = np.bincount(rows, minlength=len(weights)).astype(np.float64)
        zeros = int(np.count_nonzero(known == 0))
        return cls(len(known), float(known.sum()), zeros, sums @ weights, counts @ weights, scale)

    def merge(self, other: MetricSums) -> MetricSums:
        """Sums of both together."""
        return MetricSums(
            self.count + other.count,
            self.total + other.total,
            self.zeros + other.zeros,
            self.drawn + other.drawn,
            self.drawn_count + other.drawn_count,
            self.scale,
        )

    def interval(self, confidence: float, images: int) -> tuple[float, float] | None:
        """Expanded percentile interval of the mean; None with fewer than two images or no resamples."""
        if images < 2:
            return None
        means = np.full(len(self.drawn), np.nan)
        np.divide(self.drawn, self.drawn_count, out=means, where=self.drawn_count > 0)
        return percentile_interval(means, confidence, images)


@dataclass
class VectorSum:
    """Number and sum of vectors with a defined direction."""

    count: int
    total: Floats

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> VectorSum:
        """Of the rows of ``vectors`` (n, d); those that are NaN are left out."""
        defined = vectors[~np.isnan(vectors).any(axis=1)]
        return cls(len(defined), defined.sum(axis=0, dtype=np.float64))

    def merge(self, other: VectorSum) -> VectorSum:
        """Of both together."""
        return VectorSum(self.count + other.count, self.total + other.total)


@dataclass
class ShardSummary:
    """Everything that the corpus figures need of one shard, or of several merged.

    Attributes:
        n: Scored samples.
        skipped: Samples left out.
        images: Distinct images; one that stands in several shards counts in each.
        cut: Captions that did not fit the context length.
        metrics: By metric name.
        gap: By standardizer the sums of distinct images and of distinct captions.
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
        """The summary of both; one of nothing leaves the other as it is."""
        metrics = {**self.metrics, **other.metrics}
        for name in self.metrics.keys() & other.metrics.keys():
            metrics[name] = self.metrics[name].merge(other.metrics[name])
        gap = {**self.gap, **other.gap}
        for name in self.gap.keys() & other.gap.keys():
            mine, theirs = self.gap[name], other.gap[name]
            gap[name] = mine[0].merge(theirs[0]), mine[1].merge(theirs[1])
        return ShardSummary(
            self.n + other.n,
            self.skipped + other.skipped,
            self.images + other.images,
            self.cut + other.cut,
            metrics,
            gap,
            [*self.examples, *other.examples][:EXAMPLES],
        )

    def centroid_distance(self, standardizer: str) -> float | None:
        """Distance of the two mean vectors; None where either is of nothing or was not computed."""
        images, captions = self.gap.get(standardizer, (None, None))
        if images is None or captions is None or not images.count or not captions.count:
            return None
        difference = images.total / images.count - captions.total / captions.count
        return float(np.sqrt((difference * difference).sum()))

    def to_data(self) -> dict[str, Any]:
        """Plain data, as an output shard keeps it."""
        return {
            "n": self.n,
            "skipped": self.skipped,
            "images": self.images,
            "cut": self.cut,
            "metrics": {
                name: [s.count, s.total, s.zeros, s.drawn.tolist(), s.drawn_count.tolist(), s.scale]
                for name, s in self.metrics.items()
            },
            "gap": {name: [[s.count, s.total.tolist()] for s in sums] for name, sums in self.gap.items()},
            "examples": self.examples,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> ShardSummary:
        """What ``to_data`` wrote; raises KeyError, TypeError or ValueError for anything else."""
        metrics = {
            name: MetricSums(
                int(count),
                float(total),
                int(zeros),
                np.array(drawn, dtype=np.float64),
                np.array(drawn_count, dtype=np.float64),
                None if scale is None else ReferenceQuartiles(tuple(scale[0]), tuple(scale[1]), str(scale[2])),
            )
            for name, (count, total, zeros, drawn, drawn_count, scale) in data["metrics"].items()
        }
        gap = {}
        for name, sums in data["gap"].items():
            images, captions = (VectorSum(int(n), np.array(total, dtype=np.float64)) for n, total in sums)
            gap[name] = images, captions
        counts = {key: int(data[key]) for key in ("n", "skipped", "images", "cut")}
        examples = [(str(name), str(reason)) for name, reason in data["examples"]]
        return cls(**counts, metrics=metrics, gap=gap, examples=examples)
