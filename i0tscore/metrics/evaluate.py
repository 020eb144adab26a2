"""Computation of every metric of an encoded run, from one set of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encoded import EncodedReferences, EncodedRun, Index, Vectors
from i0tscore.gap import NONE, POST, GapStatistics, Standardizer, Statistics, centroid_distance, dot
from i0tscore.gap.standardizers import shortest
from i0tscore.metrics.functional import breakdown, max_similarity
from i0tscore.metrics.metric import Metric
from i0tscore.results import MetricResult, ReferenceQuartiles, Result, Signature, bootstrap_mean
from i0tscore.results.gap import warn_few_images
from i0tscore.results.signature import SignatureFields, sign

RANKED_PAIRS = 4_000_000_000
"""Maximum number of image–caption pairs for which ranks are computed."""

TIE = 1e-6
"""Scores that differ by less share a rank, since the difference is rounding error."""

NO_DIRECTION = (
    "no score: an embedding equals its reference mean, so it has no direction left to compare. Identical captions "
    "for all images have this effect with per-run statistics."
)

_CELLS = 4_000_000
_CHUNK = 8192


class _Standardized(NamedTuple):
    """The run's distinct vectors under one standardizer, and each sample's similarity, float64 (n,)."""

    images: Vectors
    texts: Vectors
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
        run: At least one sample, with references if a metric needs them.
        metrics: Metrics to compute.
        statistics: Reference statistics, or None.
        settings: Settings of signatures, intervals and ranks.
        notes: Notes to add to the result.

    Raises:
        StatisticsError: The statistics lack what a metric needs.
    """
    views = {s: _standardize(run, s, statistics) for s in dict.fromkeys(metric.standardizer for metric in metrics)}
    gap: dict[str, float | None] = {str(NONE): centroid_distance(run.images, run.texts), str(POST): None}
    notes = list(notes)
    if statistics is not None:
        post = views.get(POST)
        x, y = statistics.standardize(POST, run.images, run.texts) if post is None else (post.images, post.texts)
        with suppress(ValueError):  # no vector has a direction
            gap[str(POST)] = centroid_distance(x, y)
        if any(metric.needs_statistics for metric in metrics):
            notes += warn_few_images(run, statistics, x, y)
    ranked = len(run.images) * len(run.texts) <= RANKED_PAIRS
    results = {
        str(m): _metric_result(run, m, views[m.standardizer], statistics, settings, ranked and settings.ranks)
        for m in metrics
    }
    undefined = np.isnan([result.values for result in results.values()]).any(axis=0)
    return Result(
        ids=run.ids,
        captions=run.captions,
        metrics=results,
        skipped=run.skipped,
        gap=gap,
        breakdown=None if statistics is None else _breakdown(run, statistics),
        tokens=run.tokens,
        tokens_cut=run.tokens_cut,
        notes=(*notes, *_notes(metrics, statistics, ranked)),
        sample_notes={int(i): (NO_DIRECTION,) for i in np.flatnonzero(undefined)},
    )


def _standardize(run: EncodedRun, standardizer: Standardizer, statistics: Statistics | None) -> _Standardized:
    known = GapStatistics() if statistics is None else statistics.gap_statistics
    x, y = standardizer.apply(run.images, known, "image"), standardizer.apply(run.texts, known, "caption")
    references = run.references
    if references is not None:
        vectors = standardizer.apply(references.vectors, known, "caption")
        references = EncodedReferences(vectors, references.index)
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
    nearest = None if references is None else np.empty(run.n)
    if references is not None and nearest is not None:
        for start in range(0, run.n, _CHUNK):
            rows = slice(start, start + _CHUNK)
            own = [references.vectors[index] for index in references.index[rows]]
            nearest[rows] = max_similarity(view.texts[run.text_index[rows]], own)
    values = metric.value(view.similarity, nearest)
    defined = values[~np.isnan(values)]
    percentile_matched = percentile_mismatched = p_match = scale = None
    if statistics is not None and references is None and str(metric.standardizer) in statistics.reference:
        distribution = statistics.reference[str(metric.standardizer)]
        percentile_matched, percentile_mismatched = distribution.percentiles(view.similarity)
        p_match = distribution.p_match(view.similarity)
        matched, mismatched = (tuple(metric.value(np.array(q)).tolist()) for q in distribution.quartiles())
        scale = ReferenceQuartiles(matched, mismatched, statistics.source or statistics.name)
    return MetricResult(
        name=str(metric),
        values=values,
        mean=float(defined.mean()) if len(defined) else None,
        interval=bootstrap_mean(values, run.image_index, settings.resampling),
        confidence=settings.resampling.confidence,
        signature=metric_signature(run, metric, statistics, settings),
        percentile_matched=percentile_matched,
        percentile_mismatched=percentile_mismatched,
        p_match=p_match,
        rank=_ranks(run, metric, view, references) if ranked else np.zeros(run.n, dtype=np.int64),
        rank_of=len(run.texts),
        zeros=float((defined == 0).mean()) if len(defined) else 0.0,
        scale=scale,
    )


def _ranks(run: EncodedRun, metric: Metric, view: _Standardized, references: EncodedReferences | None) -> Index:
    """Rank each caption among the run's distinct captions for its image: 1 for the best, 0 if undefined.

    For metrics with references, each image keeps the sample's own references.
    """
    ranks = np.zeros(run.n, dtype=np.int64)
    if references is None:
        order = np.argsort(run.image_index, kind="stable")
        step = max(1, _CELLS // max(len(view.texts), 1))
        batches = [order[start : start + step] for start in range(0, run.n, step)]
    else:
        groups: dict[tuple[int, bytes], list[int]] = {}
        for i, image in enumerate(run.image_index):
            groups.setdefault((int(image), references.index[i].tobytes()), []).append(i)
        batches = [np.array(members) for members in groups.values()]
    for rows in batches:
        images, local = np.unique(run.image_index[rows], return_inverse=True)
        scores = view.images[images] @ view.texts.T
        if references is not None:  # one image with one set of references
            nearest = (view.texts @ references.vectors[references.index[rows[0]]].T).max(axis=1)
            scores = metric.value(scores, nearest)
        own = scores[local, run.text_index[rows]]
        better = (scores[local] > own[:, None] + TIE).sum(axis=1)
        ranks[rows] = np.where(np.isnan(own), 0, better + 1)
    return ranks


def _breakdown(run: EncodedRun, statistics: Statistics) -> dict[str, NDArray[np.float64]]:
    parts = []
    for start in range(0, run.n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        x = run.images[run.image_index[rows]].astype(np.float64)
        y = run.texts[run.text_index[rows]].astype(np.float64)
        parts.append(breakdown(x, y, statistics.image.mean, statistics.caption.mean)._asdict())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _notes(metrics: Sequence[Metric], statistics: Statistics | None, ranked: bool) -> list[str]:
    """Explain what is null in the result."""
    missing = "Percentiles and p_match are null: {}."
    notes = []
    if statistics is None:
        notes.append("The breakdown and the percentiles are null: no reference statistics were used.")
    elif statistics.per_run:
        notes.append(missing.format("statistics of the scored samples themselves would make them circular"))
    elif not statistics.reference:
        notes.append(missing.format(f"statistics {statistics.name!r} have no reference distribution"))
    else:
        if any(metric.needs_references for metric in metrics):
            notes.append("Percentiles and p_match are only computed for metrics without references.")
        names = dict.fromkeys(str(metric.standardizer) for metric in metrics if not metric.needs_references)
        notes += [
            missing.format(f"statistics {statistics.name!r} have no reference distribution for {name}")
            for name in names
            if name not in statistics.reference
        ]
    if not ranked:
        notes.append(f"Ranks are null: there are more than {RANKED_PAIRS:,} image–caption pairs.")
    return notes


def metric_signature(
    run: EncodedRun, metric: Metric, statistics: Statistics | None, settings: SignatureFields
) -> Signature:
    """Return the signature of a metric of a run."""
    own = [
        ("sim", metric.standardizer.spec.similarity),
        ("weight", shortest(metric.weight)),
        ("clip", "yes" if metric.clip else "no"),
        *([("ref", str(metric.reference_rule))] if metric.needs_references else []),
    ]
    return sign(metric.base, run, metric.standardizer, statistics, settings, *own)
