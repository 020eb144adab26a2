"""From a set and the arguments to a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from human_judgments.arguments import Arguments
from human_judgments.blocks import (
    RATERS,
    agreement_blocks,
    closing_blocks,
    introduction,
    pair_table,
    parts_by_label,
    published_blocks,
)
from human_judgments.plot import Chart
from human_judgments.preference_evidence import PairEvidence, pair_evidence
from human_judgments.preferences import PreferenceSet
from human_judgments.published import PUBLISHED
from human_judgments.rating_sets import KnownSet, verify
from human_judgments.report import Report, resampling_note
from human_judgments.scores import Scores, score_samples
from i0tscore.metrics.sample_sets import with_scores
from i0tscore.render.comparison_view import SYMBOLS
from i0tscore.results.correlation import CorrelationName
from i0tscore.results.correlation_report import CorrelationReport, correlation_report
from i0tscore.samples.ratings import RatingSet


def report_ratings(
    known: KnownSet,
    ratings: RatingSet,
    arguments: Arguments,
    *,
    path: Path,
    files: Mapping[str, Path] | None = None,
    headline: CorrelationName,
    remarks: Sequence[str] = (),
) -> Report:
    """Check a rating set, score it, and report how the scores agree with it.

    Args:
        known: What is known of the set.
        ratings: The set as read.
        arguments: Of the command line.
        path: What it was read from.
        files: Its files by name, for their hashes.
        headline: The correlation that the set's published figures are.
        remarks: How the set was taken, for the reader.
    """
    differing = verify(ratings.counts, known, path, files or {}, allow_other_counts=arguments.allow_other_counts)
    counts = dict(ratings.counts)
    ratings = ratings if arguments.limit is None else ratings.limited(arguments.limit)
    scores = score_samples(ratings.samples, arguments)
    found = measure(ratings, scores, arguments, headline)
    blocks = [
        "All correlations are × 100. Ties: share of pairs with different ratings whose scores are equal. "
        f"{resampling_note(arguments.resampling, 'images')} {RATERS if found.raters else ''}",
        *agreement_blocks(found, headline, arguments),
    ]
    estimates = {name: value.estimates[headline] for name, value in found.agreement.items()}
    chart = Chart(
        f"{known.title}: agreement with human ratings",
        f"{SYMBOLS[headline]} × 100",
        estimates,
        _published_by_metric(known, headline),
    )
    data = {"headline": headline, **evidence_data(found)}
    notes = [*remarks, *ratings.notes, *differing, *scores.notes]
    return _report(known, arguments, counts, scores, notes, blocks, data, chart)


def report_pairs(
    known: KnownSet,
    pairs: PreferenceSet,
    arguments: Arguments,
    *,
    path: Path,
    remarks: Sequence[str] = (),
) -> Report:
    """Check a preference set, score it, and report how often the preferred caption scores higher.

    Args:
        known: What is known of the set.
        pairs: The set as read.
        arguments: Of the command line.
        path: What it was read from.
        remarks: How the set was taken, for the reader.
    """
    differing = verify(pairs.counts, known, path, {}, allow_other_counts=arguments.allow_other_counts)
    counts = dict(pairs.counts)
    pairs = pairs if arguments.limit is None else pairs.limited(arguments.limit)
    scores = score_samples(pairs.samples, arguments)
    found = pair_evidence(pairs, scores.values, baseline=arguments.baseline, resampling=arguments.resampling)
    blocks = [
        "Share of pairs, × 100, in which the caption that people prefer scores higher; equal scores count "
        f"half. {resampling_note(arguments.resampling, 'images')}",
        pair_table(found, arguments.baseline),
    ]
    chart = Chart(
        f"{known.title}: agreement with human preferences",
        "accuracy × 100",
        {name: value.accuracy for name, value in found.items()},
        _published_by_metric(known, "accuracy"),
    )
    data = {
        "headline": "accuracy",
        "metrics": {name: _pair_data(value) for name, value in found.items()},
    }
    notes = [*remarks, *pairs.notes, *differing, *scores.notes]
    return _report(known, arguments, counts, scores, notes, blocks, data, chart)


def _report(
    known: KnownSet,
    arguments: Arguments,
    counts: Mapping[str, int],
    scores: Scores,
    notes: Sequence[str],
    blocks: Sequence[str],
    data: Mapping[str, Any],
    chart: Chart,
) -> Report:
    """Put what was measured between what the set is, and what others published and under which conditions."""
    published = PUBLISHED.get(known.name, ())
    whole = [
        introduction(known, arguments, counts),
        *blocks,
        *published_blocks(published),
        *closing_blocks(known, notes, scores, arguments),
    ]
    content = {
        **heading(known, arguments, counts),
        **data,
        "published": [asdict(row) for row in published],
        "unavailable": scores.unavailable,
        "notes": list(notes),
        "signatures": scores.signatures,
    }
    return Report(stem_of(known.name, arguments), title_of(known, arguments), whole, content, chart)


def _published_by_metric(known: KnownSet, figure: str) -> dict[str, float]:
    return {row.metric: row.value / 100 for row in PUBLISHED.get(known.name, ()) if row.figure == figure}


def measure(ratings: RatingSet, scores: Scores, arguments: Arguments, headline: CorrelationName) -> CorrelationReport:
    """Measure how scores agree with ratings of the captions scored, or of some of them."""
    return correlation_report(
        with_scores(ratings, scores.of(ratings.samples), scores.signatures),
        headline=headline,
        baseline=arguments.baseline,
        resampling=arguments.resampling,
    )


def heading(known: KnownSet, arguments: Arguments, counts: Mapping[str, int]) -> dict[str, Any]:
    """What the set is and how the report was made, as data."""
    return {
        "set": known.name,
        "title": known.title,
        "origin": known.origin,
        "counts": dict(counts),
        "command": arguments.command,
        "model": arguments.label,
        "resampling": asdict(arguments.resampling),
    }


def evidence_data(found: CorrelationReport) -> dict[str, Any]:
    """Agreement as plain data."""
    data = found.to_dict()
    for name, value in found.averaged.items():
        data["metrics"][name]["averaged_ratings"] = value
    parts = {
        label: {name: estimate.to_dict() for name, estimate in by_metric.items()}
        for label, by_metric in parts_by_label(found).items()
    }
    return {"metrics": data["metrics"], "raters": data["raters"], "parts": parts}


def stem_of(name: str, arguments: Arguments) -> str:
    """File name of a report, without its suffix."""
    stem = f"{name}-{arguments.label.replace('/', '--')}"
    return stem if arguments.limit is None else f"{stem}-first-{arguments.limit}"


def title_of(known: KnownSet, arguments: Arguments) -> str:
    """First line of a report."""
    without_model = {"scores": "scores of a file", "classic": "classic metrics"}
    source = f"model {arguments.label}" if arguments.model else without_model[arguments.label]
    return f"{known.title}: agreement with human judgement, {source}"


def _pair_data(value: PairEvidence) -> dict[str, Any]:
    return {
        "n": value.n,
        "accuracy": value.accuracy.to_dict(),
        "ties": value.ties,
        "parts": {part: estimate.to_dict() for part, estimate in value.parts.items()},
        "difference": None if value.difference is None else value.difference.to_dict(),
    }
