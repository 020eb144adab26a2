"""What a run over shards comes to: the corpus figures, in the form that results have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from i0tscore.errors import InputError
from i0tscore.gap import NONE, POST
from i0tscore.integrations.shard_settings import Job
from i0tscore.integrations.shard_summary import EXAMPLES, ShardSummary
from i0tscore.results.report import Report
from i0tscore.results.result import MetricSummary, Result
from i0tscore.samples import Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusMetric(MetricSummary):
    """One metric over all shards, with an interval by Poisson bootstrap over images.

    Attributes:
        n: Number of defined scores.
    """

    n: int


@dataclass(frozen=True)
class CorpusSummary(Report):
    """Figures of a corpus whose single scores are in the output shards.

    Attributes:
        n: Scored samples.
        n_skipped: Samples left out.
        metrics: By metric name.
        gap: Centroid distance by standardizer name.
        skipped: The first of those left out.
        notes: What a reader should know.
    """

    SCHEMA = Result.SCHEMA

    n: int
    n_skipped: int
    metrics: dict[str, CorpusMetric]
    gap: dict[str, float | None]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, schema ``i0tscore.result/1`` without samples."""
        return {
            "schema": self.SCHEMA,
            "n": self.n,
            "skipped": [skipped._asdict() for skipped in self.skipped],
            "scores": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "gap": {"measure": "centroid_distance", **self.gap},
            "notes": list(self.notes),
        }


def corpus_summary(job: Job, total: ShardSummary, shards: int) -> CorpusSummary:
    """The figures of a corpus out of the merged sums of its shards.

    Raises:
        InputError: Nothing was scored.
    """
    if not total.n:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in total.examples[:3])
        raise InputError(f"nothing to score: every sample was left out ({reasons})")
    metrics = {}
    for metric in job.metrics:
        sums = total.metrics[str(metric)]
        metrics[str(metric)] = CorpusMetric(
            n=sums.count,
            mean=sums.total / sums.count if sums.count else None,
            interval=sums.interval(job.settings.confidence, total.images),
            confidence=job.settings.confidence,
            zeros=sums.zeros / sums.count if sums.count else 0.0,
            scale=sums.scale,
            signature=job.signature(metric, total.n, total.skipped),
        )
    gap = {name: total.centroid_distance(name) for name in (str(NONE), str(POST))}
    skipped = tuple(Skipped(*example) for example in total.examples)
    return CorpusSummary(total.n, total.skipped, metrics, gap, skipped, _notes(job, total, shards))


def _notes(job: Job, total: ShardSummary, shards: int) -> tuple[str, ...]:
    notes = [f"the scores of single samples are in {job.output}: {shards} shards"]
    if total.skipped > EXAMPLES:
        notes.append(f"{EXAMPLES} of {total.skipped} skipped samples are listed; the column skipped has all")
    if total.cut:
        notes.append(f"{total.cut} captions were longer than the model's context")
    undefined = sum(total.n - sums.count for sums in total.metrics.values())
    if undefined:
        notes.append(f"{undefined} scores are undefined and null: an embedding equals its reference mean")
    return tuple(notes)
