"""Computation of every metric of an encoded run, from one set of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encode import EncodedContexts, EncodedReferences, EncodedRun, Index, Vectors
from i0tscore.gap import NONE, POST, GapStatistics, Standardizer, Statistics, centroid_distance, dot
from i0tscore.gap.standardizers import shortest
from i0tscore.gap.vectors import CELLS, chunks
from i0tscore.metrics.functional import Breakdown, ContextRule, breakdown, reference_side, reference_similarity
from i0tscore.metrics.metric import Metric
from i0tscore.results import MetricResult, ReferenceQuartiles, Result, Signature, bootstrap_mean
from i0tscore.results.gap import warn_few_images
from i0tscore.results.signature import SignatureFields, sign
from i0tscore.results.statistics_fit import measure_fit

RANKED_PAIRS = 4_000_000_000
"""Maximum number of image–caption pairs for which ranks are computed."""

TIE = 1e-6
"""Scores that differ by less share a rank, since the difference is rounding error."""

NO_CONTEXT = "no score by context: the sample has no context"

NO_DIRECTION = (
    "no score: an embedding equals its reference mean, so it has no direction left to compare. Identical captions "
    "for all images have this effect with per-run statistics."
)

_CHUNK = 8192

_Kind: TypeAlias = tuple[Standardizer, ContextRule | None]
_View: TypeAlias = tuple[EncodedRun, NDArray[np.float64]]
"""A run with standardized embeddings, and the similarity of each sample (n,)."""


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
    views, results = compute_metrics(run, metrics, statistics, settings)
    gap: dict[str, float | None] = {str(NONE): centroid_distance(run.images, run.texts), str(POST): None}
    notes, fit = list(notes), None
    if statistics is not None:
        centered = (views.get((POST, None)) or _standardize(run, POST, None, statistics))[0]
        with suppress(ValueError):  # no vector has a direction
            gap[str(POST)] = centroid_distance(centered.images, centered.texts)
        if not statistics.per_run:
            fit = measure_fit(centered, statistics)
        elif any(metric.needs_statistics for metric in metrics):
            notes += warn_few_images(run, statistics)
    return Result(
        ids=run.ids,
        captions=run.captions,
        metrics=results,
        skipped=run.skipped,
        gap=gap,
        statistics_fit=fit,
        breakdown=None if statistics is None else breakdown_columns(run, statistics),
        tokens=run.tokens,
        tokens_cut=run.tokens_cut,
        notes=(
            *notes,
            *run.notes,
            *(fit.notes if fit is not None else ()),
            *_notes(metrics, statistics, all(_can_rank(view) for view, _ in views.values())),
        ),
        contexts=() if run.contexts is None else run.contexts.texts,
        sample_notes=_sample_notes(run, metrics, results),
    )


def compute_metrics(
    run: EncodedRun, metrics: Sequence[Metric], statistics: Statistics | None, settings: SignatureFields
) -> tuple[dict[_Kind, _View], dict[str, MetricResult]]:
    """Return the standardized run and its similarities by standardizer and rule for contexts, and results by metric.

    Arguments and errors are those of ``evaluate``, which adds what describes the run as a whole.
    """
    kinds = dict.fromkeys((metric.standardizer, metric.context_rule) for metric in metrics)
    views = {kind: _standardize(run, *kind, statistics) for kind in kinds}
    results = {}
    for metric in metrics:
        view, similarity = views[metric.standardizer, metric.context_rule]
        ranked = settings.ranks and _can_rank(view)
        results[str(metric)] = _metric_result(run, metric, view, similarity, statistics, settings, ranked)
    return views, results


def _can_rank(view: EncodedRun) -> bool:
    return len(view.images) * len(view.texts) <= RANKED_PAIRS


def _standardize(
    run: EncodedRun, standardizer: Standardizer, rule: ContextRule | None, statistics: Statistics | None
) -> _View:
    """Return the run with standardized embeddings, and the similarity of each sample, (n,).

    Under a rule for contexts, what captions are compared with takes the place of the images.
    """
    known = GapStatistics() if statistics is None else statistics.gap_statistics
    x, y = standardizer.apply(run.images, known, "image"), standardizer.apply(run.texts, known, "caption")
    references = run.references
    if references is not None:
        references = EncodedReferences(standardizer.apply(references.vectors, known, "caption"), references.index)
    view = replace(run, images=x, texts=y, references=references)
    if rule is not None and run.contexts is not None:
        places = standardizer.apply(run.contexts.vectors, known, "caption")
        view = _with_targets(view, places, run.contexts, rule)
    pairs = ((view.image_index[rows], run.text_index[rows]) for rows in chunks(run.n, _CHUNK))
    similarity = [dot(view.images[targets], y[texts]) for targets, texts in pairs]
    return view, np.concatenate(similarity, dtype=np.float64)


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
            for rows in chunks(run.n, _CHUNK)
        ]
        nearest = np.concatenate(similarities, dtype=np.float64)
    values = metric.value(similarity, nearest)
    defined = values[~np.isnan(values)]
    percentile_matched = percentile_mismatched = p_match = scale = quantiles = None
    distribution = metric.distribution(statistics)
    if statistics is not None and distribution is not None:
        percentile_matched, percentile_mismatched = distribution.percentiles(similarity)
        p_match = distribution.p_match(similarity)
        matched, mismatched = (tuple(metric.value(np.array(q)).tolist()) for q in distribution.quartiles())
        quantiles = metric.value(distribution.matched), metric.value(distribution.mismatched)
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
        rank=_ranks(metric, view, references) if ranked else np.zeros(run.n, dtype=np.int64),
        rank_of=len(run.texts),
        zeros=float((defined == 0).mean()) if len(defined) else 0.0,
        scale=scale,
        reference=quantiles,
    )


def _ranks(metric: Metric, run: EncodedRun, references: EncodedReferences | None) -> Index:
    """Rank each caption among the run's distinct captions for its image or context: 1 for the best, 0 if undefined.

    For metrics with references, each image keeps the sample's own references.
    """
    ranks = np.zeros(run.n, dtype=np.int64)
    if references is None:
        order = np.argsort(run.image_index, kind="stable")
        batches = [order[part] for part in chunks(run.n, max(1, CELLS // max(len(run.texts), 1)))]
    else:
        groups: dict[tuple[int, bytes], list[int]] = {}
        for i, image in enumerate(run.image_index):
            groups.setdefault((int(image), references.index[i].tobytes()), []).append(i)
        batches = [np.array(members) for members in groups.values()]
    for rows in batches:
        images, local = np.unique(run.image_index[rows], return_inverse=True)
        scores = run.images[images] @ run.texts.T
        if references is not None and metric.reference_rule is not None:  # one image with one set of references
            products = run.texts @ references.vectors[references.index[rows[0]]].T
            nearest = reference_side(products, metric.reference_rule)
            scores = metric.value(scores, nearest)
        own = scores[local, run.text_index[rows]]
        better = (scores[local] > own[:, None] + TIE).sum(axis=1)
        ranks[rows] = np.where(np.isnan(own), 0, better + 1)
    return ranks


def breakdown_columns(run: EncodedRun, statistics: Statistics) -> dict[str, NDArray[np.float64]]:
    """Return the parts of each sample's cosine (n,) by name."""
    means = statistics.image.mean, statistics.caption.mean
    pairs = ((run.images[run.image_index[rows]], run.texts[run.text_index[rows]]) for rows in chunks(run.n, _CHUNK))
    parts = [breakdown(x.astype(np.float64), y.astype(np.float64), *means) for x, y in pairs]
    return {name: np.concatenate(part) for name, part in zip(Breakdown._fields, zip(*parts, strict=True), strict=True)}


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
        notes.append(f"Ranks are null: there are more than {RANKED_PAIRS:,} image–caption pairs.")
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
