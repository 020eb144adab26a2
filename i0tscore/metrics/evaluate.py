"""Computation of every metric of an encoded run, from one set of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encode import EncodedContexts, EncodedReferences, EncodedRun, Index, Vectors
from i0tscore.gap import NONE, POST, GapStatistics, Standardizer, Statistics, dot
from i0tscore.gap.measures import VectorSum
from i0tscore.gap.standardizers import Modality, shortest
from i0tscore.gap.vectors import CELLS, Rows, View, chunks
from i0tscore.metrics.functional import (
    Breakdown,
    ContextRule,
    ReferenceRule,
    breakdown,
    reference_side,
    reference_similarity,
)
from i0tscore.metrics.metric import Metric
from i0tscore.results import MetricResult, ReferenceQuartiles, Result, Signature
from i0tscore.results.gap import warn_few_images
from i0tscore.results.intervals import bootstrap_means
from i0tscore.results.signature import SignatureFields, embeddings_fields, sign
from i0tscore.results.statistics_fit import measure_fit

RANKED_PAIRS = 4_000_000_000
"""Maximum number of image–caption pairs for which ranks are computed by default."""

TIE = 1e-6
"""Scores that differ by less share a rank, since the difference is rounding error."""

NO_CONTEXT = "no score by context: the sample has no context"

NO_DIRECTION = (
    "no score: an embedding equals its reference mean, so it has no direction left to compare. Identical captions "
    "for all images have this effect with per-run statistics."
)

_RANKED_CAPTIONS = 65_536  # held in memory at once

_Kind: TypeAlias = tuple[Standardizer, ContextRule | None]


def evaluate(
    run: EncodedRun,
    metrics: Sequence[Metric],
    statistics: Statistics | None,
    settings: SignatureFields,
    *,
    notes: Sequence[str] = (),
) -> Result:
    """Compute every metric of an encoded run, with samples, and with references and contexts if a metric needs them.

    ``settings`` are those of signatures, intervals and ranks; ``notes`` are added to those of the result.

    Raises:
        StatisticsError: The statistics lack what a metric needs.
    """
    if not settings.encoder:
        settings = replace(settings, encoder=embeddings_fields(run.images, run.texts))
    views, read, results = compute_metrics(run, metrics, statistics, settings)
    intervals = bootstrap_means([one.values for one in results.values()], run.image_index, settings.resampling)
    results = {
        name: replace(one, interval=interval) for (name, one), interval in zip(results.items(), intervals, strict=True)
    }
    notes, fit = list(notes), None
    if statistics is not None:
        if not statistics.per_run:
            fit = measure_fit(views.get((POST, None)) or _view(run, POST, None, statistics), statistics)
        elif any(metric.needs_statistics for metric in metrics):
            notes += warn_few_images(run, statistics)
    ranked = settings.ranks is not None or all(_can_rank(view) for view in views.values())
    return Result(
        ids=run.ids,
        captions=run.captions,
        metrics=results,
        skipped=run.skipped,
        gap={name: images.distance(captions) for name, (images, captions) in read.gap.items()},
        statistics_fit=fit,
        breakdown=read.breakdown,
        tokens=run.tokens,
        tokens_cut=run.tokens_cut,
        notes=(
            *notes,
            *run.notes,
            *(fit.notes if fit is not None else ()),
            *_notes(metrics, statistics, ranked),
        ),
        contexts=() if run.contexts is None else run.contexts.texts,
        sample_notes=_sample_notes(run, metrics, results),
    )


def compute_metrics(
    run: EncodedRun, metrics: Sequence[Metric], statistics: Statistics | None, settings: SignatureFields
) -> tuple[dict[_Kind, EncodedRun], Pass, dict[str, MetricResult]]:
    """Return the standardized runs, what one pass over the embeddings finds, and the results without intervals.

    Arguments and errors are those of ``evaluate``, which adds what describes the run as a whole.
    """
    kinds = dict.fromkeys((metric.standardizer, metric.context_rule) for metric in metrics)
    views = {kind: _view(run, *kind, statistics) for kind in kinds}
    read = _read_once(run, views, statistics)
    results = {}
    for metric in metrics:
        kind = metric.standardizer, metric.context_rule
        ranked = _can_rank(views[kind]) if settings.ranks is None else settings.ranks
        results[str(metric)] = _metric_result(
            run, metric, views[kind], read.similarity[kind], statistics, settings, ranked
        )
    return views, read, results


def _can_rank(view: EncodedRun) -> bool:
    return len(view.images) * len(view.texts) <= RANKED_PAIRS


def _view(
    run: EncodedRun, standardizer: Standardizer, rule: ContextRule | None, statistics: Statistics | None
) -> EncodedRun:
    """Return the run with embeddings that are standardized when they are read.

    Under a rule for contexts, what captions are compared with takes the place of the images.

    Raises:
        StatisticsError: The statistics lack what the standardizer needs.
    """
    known = GapStatistics() if statistics is None else statistics.gap_statistics

    def standardized(rows: Rows, modality: Modality) -> View:
        standardizer.apply(rows[:0], known, modality)  # what is missing is found before any work
        return View(rows, transform=lambda block: standardizer.apply(block, known, modality))

    references = run.references
    if references is not None:
        vectors = standardizer.apply(references.vectors, known, "caption")
        references = EncodedReferences(vectors, references.index)
    view = replace(
        run, images=standardized(run.images, "image"), texts=standardized(run.texts, "caption"), references=references
    )
    if rule is not None and run.contexts is not None:
        places = standardizer.apply(run.contexts.vectors, known, "caption")
        view = _with_targets(view, places, run.contexts, rule)
    return view


class Pass(NamedTuple):
    """What one pass over the embeddings of a run finds.

    Attributes:
        similarity: By standardizer and rule for contexts the similarity of each sample, (n,).
        gap: Sums of the distinct images and of the distinct captions by standardizer.
        breakdown: Parts of the CLIP cosine, (n,) each, or None without statistics.
    """

    similarity: dict[_Kind, NDArray[np.float64]]
    gap: dict[str, tuple[VectorSum, VectorSum]]
    breakdown: dict[str, NDArray[np.float64]] | None


def _read_once(run: EncodedRun, views: Mapping[_Kind, EncodedRun], statistics: Statistics | None) -> Pass:
    """Read the embeddings once for all metrics, block by block; equal ones in a block are standardized once."""
    known = GapStatistics() if statistics is None else statistics.gap_statistics
    similarity = {kind: np.empty(run.n) for kind in views}
    sums = {standardizer: [VectorSum(0, np.zeros(1))] * 2 for standardizer in (NONE, POST)}
    seen = [np.zeros(len(side), dtype=np.bool_) for side in (run.images, run.texts)]
    parts: list[Breakdown] = []
    for rows in chunks(run.n):
        (images, x), (texts, y) = (
            np.unique(index[rows], return_inverse=True) for index in (run.image_index, run.text_index)
        )
        raw = run.images[images], run.texts[texts]
        new = [~mask[own] for mask, own in zip(seen, (images, texts), strict=True)]
        for mask, own in zip(seen, (images, texts), strict=True):
            mask[own] = True
        for standardizer in {NONE, POST, *(kind[0] for kind in views)}:
            if standardizer == POST and statistics is None:
                continue
            both = standardizer.apply(raw[0], known, "image"), standardizer.apply(raw[1], known, "caption")
            for kind, view in views.items():
                if kind[0] == standardizer:
                    targets = both[0][x] if kind[1] is None else view.images[view.image_index[rows]]
                    similarity[kind][rows] = dot(targets, both[1][y])
            if standardizer in sums:
                own_sums = (VectorSum.of(side[first]) for side, first in zip(both, new, strict=True))
                sums[standardizer] = [a.merge(b) for a, b in zip(sums[standardizer], own_sums, strict=True)]
        if statistics is not None:
            means = statistics.image.mean, statistics.caption.mean
            parts.append(breakdown(raw[0].astype(np.float64)[x], raw[1].astype(np.float64)[y], *means))
    gap = {str(standardizer): (first, second) for standardizer, (first, second) in sums.items()}
    columns = {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(Breakdown._fields) if parts}
    return Pass(similarity, gap, columns or None)


def _with_targets(view: EncodedRun, places: Vectors, contexts: EncodedContexts, rule: ContextRule) -> EncodedRun:
    """Return the run with contexts in place of the images, or with the means of image and context.

    The dot product with a mean of two vectors is the mean of both dot products. Samples without a context get NaN.
    """
    places = np.concatenate([places, np.full_like(view.images[:1], np.nan)])  # the last row is that of index -1
    if rule == "alone":
        return replace(view, images=places, image_index=contexts.index % len(places))
    pairs = np.stack([view.image_index, contexts.index], axis=1)
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    targets = (view.images[distinct[:, 0]] + places[distinct[:, 1]]) * np.float32(0.5)
    return replace(view, images=targets, image_index=index.reshape(-1))


def _metric_result(
    run: EncodedRun,
    metric: Metric,
    view: EncodedRun,
    similarity: NDArray[np.float64],
    statistics: Statistics | None,
    settings: SignatureFields,
    ranked: bool,
) -> MetricResult:
    references = view.references if metric.needs_references else None
    nearest = None
    if references is not None and metric.reference_rule is not None:
        similarities = [
            reference_similarity(
                view.texts[run.text_index[rows]],
                [references.vectors[i] for i in references.index[rows]],
                metric.reference_rule,
            )
            for rows in chunks(run.n)
        ]
        nearest = np.concatenate(similarities, dtype=np.float64)
    values = metric.value(similarity, nearest)
    defined = values[~np.isnan(values)]
    percentile_matched = percentile_mismatched = p_match = quantiles = None
    distribution = metric.distribution(statistics)
    if distribution is not None:
        percentile_matched, percentile_mismatched = distribution.percentiles(similarity)
        p_match = distribution.p_match(similarity)
        quantiles = metric.value(distribution.matched), metric.value(distribution.mismatched)
    return MetricResult(
        name=str(metric),
        values=values,
        mean=float(defined.mean()) if len(defined) else None,
        interval=None,  # those of all metrics are computed together
        confidence=settings.resampling.confidence,
        signature=metric_signature(run, metric, statistics, settings),
        percentile_matched=percentile_matched,
        percentile_mismatched=percentile_mismatched,
        p_match=p_match,
        rank=_ranks(metric, view, references, similarity) if ranked else np.zeros(run.n, dtype=np.int64),
        rank_of=len(run.texts),
        zeros=float((defined == 0).mean()) if len(defined) else 0.0,
        scale=reference_quartiles(metric, statistics),
        reference=quantiles,
    )


def reference_quartiles(metric: Metric, statistics: Statistics | None) -> ReferenceQuartiles | None:
    """Return quartiles of a metric's reference scores; None if the statistics have no reference distribution for it."""
    distribution = metric.distribution(statistics)
    if statistics is None or distribution is None:
        return None
    matched, mismatched = (tuple(metric.value(np.array(q)).tolist()) for q in distribution.quartiles())
    return ReferenceQuartiles(matched, mismatched, statistics.source or statistics.name)


def _ranks(
    metric: Metric, run: EncodedRun, references: EncodedReferences | None, similarity: NDArray[np.float64]
) -> Index:
    """Rank each caption among the run's distinct captions for its image or context: 1 for the best, 0 if undefined.

    For metrics with references, each image keeps the sample's own references.
    """
    if references is not None and metric.reference_rule is not None:
        return _reference_ranks(metric, run, references, metric.reference_rule)
    better = np.zeros(run.n, dtype=np.int64)
    order = np.argsort(run.image_index, kind="stable")
    for columns in chunks(len(run.texts), _RANKED_CAPTIONS):
        captions = run.texts[columns].T
        for part in chunks(run.n, max(1, CELLS // captions.shape[1])):
            rows = order[part]
            images, local = np.unique(run.image_index[rows], return_inverse=True)
            scores = run.images[images] @ captions
            better[rows] += (scores[local] > similarity[rows, None] + TIE).sum(axis=1)
    return np.where(np.isnan(similarity), 0, better + 1)


def _reference_ranks(metric: Metric, run: EncodedRun, references: EncodedReferences, rule: ReferenceRule) -> Index:
    ranks = np.zeros(run.n, dtype=np.int64)
    groups: dict[tuple[int, bytes], list[int]] = {}
    for i, image in enumerate(run.image_index):
        groups.setdefault((int(image), references.index[i].tobytes()), []).append(i)
    captions = run.texts[:]
    for members in groups.values():  # one image with one set of references each
        rows = np.array(members)
        products = captions @ references.vectors[references.index[rows[0]]].T
        scores = metric.value(run.images[run.image_index[rows[:1]]] @ captions.T, reference_side(products, rule))[0]
        own = scores[run.text_index[rows]]
        ranks[rows] = np.where(np.isnan(own), 0, (scores > own[:, None] + TIE).sum(axis=1) + 1)
    return ranks


def _notes(metrics: Sequence[Metric], statistics: Statistics | None, ranked: bool) -> list[str]:
    """Explain what is null in the result."""
    missing = "Percentiles and p_match are null: {}."
    notes = []
    if statistics is None:
        notes.append("The breakdown and the percentiles are null: no reference statistics were used.")
    elif statistics.per_run:
        notes.append(missing.format("statistics computed from the scored samples would make them circular"))
    elif not statistics.reference:
        notes.append(missing.format(f"statistics {statistics.name!r} have no reference distribution"))
    else:
        if any(metric.needs_references for metric in metrics):
            notes.append("Percentiles and p_match are only computed for metrics without references.")
        lacking = [m for m in metrics if not m.needs_references and m.distribution(statistics) is None]
        names = dict.fromkeys(str(metric.standardizer) for metric in lacking if not metric.needs_context)
        notes += [
            missing.format(f"statistics {statistics.name!r} have no reference distribution for {name}")
            for name in names
        ]
        notes += [
            f"Percentiles and p_match of {metric} are null: statistics {statistics.name!r} have no reference "
            "distribution of contexts. Fit statistics to samples with contexts (i0tscore fit)."
            for metric in lacking
            if metric.needs_context
        ]
    if not ranked:
        notes.append(
            f"Ranks are null: there are more than {RANKED_PAIRS:,} image–caption pairs. To compute them, use --ranks "
            "(ranks=True)."
        )
    return notes


def _sample_notes(
    run: EncodedRun, metrics: Sequence[Metric], results: Mapping[str, MetricResult]
) -> dict[int, tuple[str, ...]]:
    """Explain undefined scores, by position of the sample."""
    notes: dict[int, tuple[str, ...]] = {}
    missing = np.zeros(run.n, dtype=np.bool_) if run.contexts is None else run.contexts.index < 0
    undefined = np.zeros(run.n, dtype=np.bool_)
    for metric in metrics:
        undefined |= np.isnan(results[str(metric)].values) & ~(missing & metric.needs_context)
    needed = missing & any(metric.needs_context for metric in metrics)
    for note, rows in ((NO_DIRECTION, undefined), (NO_CONTEXT, needed)):
        notes |= {i: (*notes.get(i, ()), note) for i in np.flatnonzero(rows).tolist()}
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
        *([("context", str(metric.context_rule))] if metric.needs_context else []),
    ]
    return sign(metric.base, run, metric.standardizer, statistics, settings, *own)
