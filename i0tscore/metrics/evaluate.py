"""From an encoded run to a result: every metric from one set of embeddings. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encoded import EncodedReferences, EncodedRun, Index, Vectors
from i0tscore.errors import StatisticsError
from i0tscore.gap import NONE, POST, GapStatistics, ReferenceDistribution, Standardizer, Statistics
from i0tscore.gap.measures import centroid_distance
from i0tscore.gap.standardizers import shortest
from i0tscore.gap.vectors import dot
from i0tscore.metrics.functional import breakdown, max_similarity
from i0tscore.metrics.metric import Metric
from i0tscore.metrics.ranks import rank_captions, rank_with_references
from i0tscore.results import MetricResult, ReferenceQuartiles, Result, Signature, bootstrap_mean
from i0tscore.results.signature import SignatureFields as SignatureFields
from i0tscore.results.signature import sign

RANKED_PAIRS = 4_000_000_000
"""Above this many image–caption pairs, ranks are left out."""

_CHUNK = 8192

NO_DIRECTION = (
    "no score: an embedding equals its reference mean, so nothing of it is left to compare "
    "(the same caption for every image does this under batch statistics)"
)
NO_REFERENCE = "percentiles and p_match are null: {reason}"


@dataclass(frozen=True, slots=True, eq=False)
class _Standardized:
    """The run's distinct vectors under one standardizer, with each sample's similarities."""

    x: Vectors
    y: Vectors
    references: EncodedReferences | None
    similarity: NDArray[np.float64]


def evaluate(
    run: EncodedRun,
    metrics: Sequence[Metric],
    statistics: Statistics | None,
    settings: SignatureFields,
    *,
    notes: Sequence[str] = (),
) -> Result:
    """Compute every metric of an encoded run.

    Args:
        run: The embeddings and samples.
        metrics: What to compute; those that need statistics or references must have them.
        statistics: Reference means, or None.
        settings: For the signatures and intervals.
        notes: What to tell the reader besides.
    """
    views = {m.standardizer: _standardized(run, m.standardizer, statistics) for m in metrics}
    too_many = len(run.images) * len(run.texts) > RANKED_PAIRS
    ranked = settings.ranks and not too_many
    results = {str(m): _metric_result(run, m, views[m.standardizer], statistics, settings, ranked) for m in metrics}
    undefined = np.isnan([r.values for r in results.values()]).any(axis=0)
    return Result(
        ids=run.ids,
        captions=run.captions,
        metrics=results,
        skipped=run.skipped,
        gap=_gap(run, statistics),
        breakdown=_breakdown(run, statistics),
        tokens=run.tokens,
        tokens_cut=run.tokens_cut,
        notes=(*notes, *_notes(metrics, statistics, too_many)),
        sample_notes={int(i): (NO_DIRECTION,) for i in np.flatnonzero(undefined)},
    )


def _standardized(run: EncodedRun, standardizer: Standardizer, statistics: Statistics | None) -> _Standardized:
    if standardizer.spec.need is not None and statistics is None:
        raise StatisticsError(f"{standardizer} needs reference statistics; fit some with `i0tscore fit`")
    known = GapStatistics() if statistics is None else statistics.gap_statistics
    x, y = standardizer.apply(run.images, known, "image"), standardizer.apply(run.texts, known, "caption")
    references = run.references
    if references is not None:
        references = EncodedReferences(standardizer.apply(references.vectors, known, "caption"), references.index)
    similarity = np.empty(run.n)
    for start in range(0, run.n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        similarity[rows] = dot(x[run.image_index[rows]], y[run.text_index[rows]])
    return _Standardized(x, y, references, similarity)


def _metric_result(
    run: EncodedRun,
    metric: Metric,
    view: _Standardized,
    statistics: Statistics | None,
    settings: SignatureFields,
    ranked: bool,
) -> MetricResult:
    references = view.references if metric.needs_references else None
    nearest = None if references is None else _nearest(run, view.y, references)
    values = metric.value(view.similarity, nearest)
    defined = values[~np.isnan(values)]
    distribution = None
    if statistics is not None and references is None:
        distribution = statistics.reference.get(str(metric.standardizer))
    return MetricResult(
        name=str(metric),
        values=values,
        mean=float(defined.mean()) if len(defined) else None,
        interval=bootstrap_mean(values, run.image_index, settings.resampling),
        confidence=settings.resampling.confidence,
        signature=metric_signature(run, metric, statistics, settings),
        percentile_matched=None if distribution is None else distribution.percentiles(view.similarity)[0],
        percentile_mismatched=None if distribution is None else distribution.percentiles(view.similarity)[1],
        p_match=None if distribution is None else distribution.p_match(view.similarity),
        rank=_ranks(run, metric, view, references) if ranked else np.zeros(run.n, dtype=np.int64),
        rank_of=len(run.texts),
        zeros=float((defined == 0).mean()) if len(defined) else 0.0,
        scale=None if distribution is None else _scale(metric, distribution, statistics),
    )


def _scale(metric: Metric, distribution: ReferenceDistribution, statistics: Statistics | None) -> ReferenceQuartiles:
    """The reference quartiles in the metric's own units."""
    matched, mismatched = (metric.value(np.array(q)).tolist() for q in distribution.quartiles())
    source = "" if statistics is None else statistics.source or statistics.name
    return ReferenceQuartiles(tuple(matched), tuple(mismatched), source)


def _nearest(run: EncodedRun, y: Vectors, references: EncodedReferences) -> NDArray[np.float64]:
    nearest = np.empty(run.n)
    for start in range(0, run.n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        own = [references.vectors[index] for index in references.index[rows]]
        nearest[rows] = max_similarity(y[run.text_index[rows]], own)
    return nearest


def _ranks(run: EncodedRun, metric: Metric, view: _Standardized, references: EncodedReferences | None) -> Index:
    if references is None:
        return rank_captions(view.x, view.y, run.image_index, run.text_index)
    return rank_with_references(metric, view.x, view.y, references, run.image_index, run.text_index)


def _gap(run: EncodedRun, statistics: Statistics | None) -> dict[str, float | None]:
    if not run.n:
        return {}
    gap: dict[str, float | None] = {str(NONE): centroid_distance(run.images, run.texts), str(POST): None}
    if statistics is not None:
        try:
            gap[str(POST)] = centroid_distance(*statistics.standardize(POST, run.images, run.texts))
        except ValueError:  # nothing has a direction left
            gap[str(POST)] = None
    return gap


def _breakdown(run: EncodedRun, statistics: Statistics | None) -> dict[str, NDArray[np.float64]] | None:
    if statistics is None:
        return None
    parts = []
    for start in range(0, run.n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        x = run.images[run.image_index[rows]].astype(np.float64)
        y = run.texts[run.text_index[rows]].astype(np.float64)
        parts.append(breakdown(x, y, statistics.image.mean, statistics.caption.mean)._asdict())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _notes(metrics: Sequence[Metric], statistics: Statistics | None, too_many: bool) -> list[str]:
    notes = []
    if statistics is None:
        notes.append("the breakdown is null and percentiles are null: no reference statistics were used")
    elif not statistics.reference:
        reason = f"statistics {statistics.name!r} have no reference distribution"
        if statistics.name == "batch":
            reason = "the statistics come from the scored samples themselves, which would be circular"
        notes.append(NO_REFERENCE.format(reason=reason))
    else:
        if any(m.needs_references for m in metrics):
            notes.append("percentiles and p_match are given for metrics without references only")
        asked = dict.fromkeys(str(m.standardizer) for m in metrics if not m.needs_references)
        notes += [
            NO_REFERENCE.format(reason=f"statistics {statistics.name!r} have no distribution under {name}")
            for name in asked
            if name not in statistics.reference
        ]
    if too_many:
        notes.append(f"ranks are null: more than {RANKED_PAIRS:,} image–caption pairs")
    return notes


def metric_signature(
    run: EncodedRun, metric: Metric, statistics: Statistics | None, settings: SignatureFields
) -> Signature:
    """How a metric of a run is made."""
    own = [
        ("sim", metric.standardizer.spec.similarity),
        ("weight", shortest(metric.weight)),
        ("clip", "yes" if metric.clip else "no"),
        *([("ref", str(metric.reference_rule))] if metric.needs_references else []),
    ]
    return sign(metric.base, run, metric.standardizer, statistics, settings, *own)
