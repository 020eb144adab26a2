"""Figures of a corpus, computed in one pass over the scores that were written for its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import POST, Statistics
from i0tscore.gap.measures import VectorSum
from i0tscore.integrations.shard_io import open_scores
from i0tscore.results import Resampling
from i0tscore.results.intervals import bootstrap_sums, format_estimate
from i0tscore.results.report import Report, plain
from i0tscore.results.result import MetricSummary, Result
from i0tscore.results.statistics_fit import StatisticsFit
from i0tscore.samples import Skipped

EXAMPLES = 20
"""Number of skipped samples that a summary lists; the output shards have all of them."""

GROUPS = 16_384
"""Number of groups of images that are resampled, so that memory use does not grow with the corpus."""

GapSums = dict[str, NDArray[np.float64]]
"""Number and sum of the distinct images, and of the distinct captions, by standardizer (2, 1 + d)."""

_ROWS = 1 << 16  # read at once


def add_gap(total: GapSums, other: dict[str, Any]) -> None:
    """Add other sums to ``total``."""
    for name, sums in other.items():
        total[name] = total.get(name, 0.0) + np.array(sums, dtype=np.float64)


class CorpusSums:
    """Sums over the rows of shards, whose size does not grow with the corpus.

    Attributes:
        n: Number of scored rows.
        n_skipped: Number of skipped rows.
        skipped: The first skipped rows.
        cut: Number of captions over the context length.
        totals: Sum of the scores by metric and group of images (k, ``GROUPS``).
        counts: Number of defined scores by metric and group of images (k, ``GROUPS``).
        zeros: Number of scores that are exactly 0 by metric (k,).
        gap: Sums of vectors. An image in several parts of shards counts in each.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self.n = self.n_skipped = self.cut = 0
        self.skipped: list[Skipped] = []
        self.totals, self.counts = np.zeros((2, len(metrics), GROUPS))
        self.zeros = np.zeros(len(metrics), dtype=np.int64)
        self.gap: GapSums = {}
        self._metrics = metrics

    def read(self, folder: Any, name: str) -> None:
        """Add the rows of a file of scores in a folder."""
        scores, header = open_scores(folder, name)
        with scores:
            for rows in scores.iter_batches(_ROWS):
                self._add(rows)
        add_gap(self.gap, header["gap"])

    def _add(self, rows: Any) -> None:
        reasons = rows["skipped"]
        self.n += reasons.null_count
        self.n_skipped += len(reasons) - reasons.null_count
        left_out = rows.filter(reasons.is_valid()).slice(0, EXAMPLES - len(self.skipped))
        self.skipped += map(Skipped, left_out["id"].to_pylist(), left_out["skipped"].to_pylist())
        self.cut += int(np.count_nonzero(rows["tokens_cut"].fill_null(0)))
        groups = (rows["image_key"].fill_null(0).to_numpy() % GROUPS).astype(np.int64)
        for i, name in enumerate(self._metrics):
            values = rows[name].to_numpy(zero_copy_only=False)
            defined = ~np.isnan(values)
            self.totals[i] += np.bincount(groups[defined], values[defined], GROUPS)
            self.counts[i] += np.bincount(groups[defined], minlength=GROUPS)
            self.zeros[i] += np.count_nonzero(values == 0)

    def figures(self, i: int, resampling: Resampling) -> dict[str, Any]:
        """Return n, mean, interval, and share of zeros of the i-th metric.

        The interval is from a bootstrap over groups of images; None with fewer than two.
        """
        used = self.counts[i] > 0
        count, total = int(self.counts[i].sum()), float(self.totals[i].sum())
        return {
            "n": count,
            "mean": total / count if count else None,
            "interval": bootstrap_sums(self.totals[i][used, None], self.counts[i][used], resampling)[0],
            "zeros": float(self.zeros[i] / count) if count else 0.0,
        }

    def distance(self, standardizer: str) -> float | None:
        """Return the centroid distance of the corpus; None where undefined."""
        images, captions = (VectorSum(int(sums[0]), sums[1:]) for sums in self.gap[standardizer])
        return images.distance(captions)

    def statistics_fit(self, statistics: Statistics) -> StatisticsFit | None:
        """Judge how well statistics fit the corpus; None with fewer than two images or captions."""
        (m, *images), (k, *captions) = self.gap[str(POST)]
        return StatisticsFit.of_means(
            statistics, np.array(images) / max(m, 1), np.array(captions) / max(k, 1), int(m), int(k)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusMetric(MetricSummary):
    """One metric over all shards, with an interval by a bootstrap over groups of images.

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
