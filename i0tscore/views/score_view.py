"""Scores as a document, as CSV, and in CLIPScore's format for single scores; corpus summaries as a document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from i0tscore.render.document import UNDEFINED, Document, Notes, Signatures, Table, format_number
from i0tscore.results import Result
from i0tscore.views.cells import csv_text, skipped_table

if TYPE_CHECKING:
    from i0tscore.integrations.shard_summary import CorpusSummary

_BREAKDOWN = ("semantic", "image_bias", "caption_bias")
"""Parts of the breakdown that differ between samples, in the order shown."""

_LONGEST_ID = 24
_QUOTED_IDS = 3


def score_document(result: Result, *, per_sample: bool = True) -> Document:
    """Return a document with a summary of each metric, the samples, notes, skipped samples and signatures.

    Args:
        result: Scores of a run.
        per_sample: Whether to include the table of samples.
    """
    return Document(
        [
            _summary_table(result),
            _sample_table(result) if per_sample and result.n else None,
            Notes(_notes(result)),
            skipped_table(result.skipped),
            Signatures(str(metric.signature) for metric in result.metrics.values()),
        ]
    )


def corpus_document(summary: CorpusSummary) -> Document:
    """Return a document of the summary of a corpus whose scores are in shards."""
    confidence = next(iter(summary.metrics.values())).confidence
    rows = [
        [
            name,
            format_number(m.mean),
            " to ".join(map(format_number, m.interval or ())) or UNDEFINED,
            str(m.n),
            f"{m.zeros:.0%}",
        ]
        for name, m in summary.metrics.items()
    ]
    skipped = Table(["id", "reason"], summary.skipped, f"skipped: {summary.n_skipped}", left=2)
    return Document(
        [
            Table(["metric", "mean", f"{100 * confidence:g}% interval", "n", "clipped to 0"], rows),
            skipped if summary.skipped else None,
            Notes([_gap_note(summary.gap), *summary.notes]),
            Signatures(str(metric.signature) for metric in summary.metrics.values()),
        ]
    )


def score_csv(result: Result) -> str:
    """Return CSV with one row per sample; undefined values are empty cells.

    Columns: ``id``, ``caption``, ``tokens``, ``tokens_cut``; for each metric its name and
    ``<metric>.percentile_matched``, ``.percentile_mismatched``, ``.p_match``, ``.rank``, ``.rank_of``;
    the parts of the breakdown; ``notes``. Numbers are written in full.
    """
    fields = ("", ".percentile_matched", ".percentile_mismatched", ".p_match", ".rank", ".rank_of")
    scores = [name + field for name in result for field in fields]
    rows = []
    for sample in result.samples:
        cells = [cell for score in sample.scores.values() for cell in (*score[:-1], *(score.rank or (None, None)))]
        rows.append(
            {
                "id": sample.id,
                "caption": sample.caption,
                "tokens": sample.tokens,
                "tokens_cut": sample.tokens_cut,
                **dict(zip(scores, cells, strict=True)),
                **(sample.breakdown or {}),
                "notes": "; ".join(sample.notes),
            }
        )
    return csv_text(rows, ["id", "caption", "tokens", "tokens_cut", *scores, *(result.breakdown or {}), "notes"])


def per_instance_json(result: Result) -> str:
    """Return CLIPScore's file of single scores: JSON with every metric's value by sample id.

    An id that several samples share has a list, in their order.
    """
    by_id: dict[str, list[dict[str, float | None]]] = {}
    for sample in result.samples:
        values = {name: score.value for name, score in sample.scores.items()}
        by_id.setdefault(sample.id, []).append(values)
    data = {name: values[0] if len(values) == 1 else values for name, values in by_id.items()}
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _summary_table(result: Result) -> Table:
    """One row per metric: mean, interval, number of scores, and where known the reference quartiles."""
    metrics = result.metrics.values()
    clipped, scaled = any(m.zeros for m in metrics), any(m.scale is not None for m in metrics)
    header = ["metric", "mean", f"{100 * next(iter(metrics)).confidence:g}% interval", "n"]
    header += ["clipped to 0"] * clipped + ["matched pairs", "mismatched pairs"] * scaled
    rows = []
    for name, metric in result.metrics.items():
        count = np.count_nonzero(~np.isnan(metric.values))
        quartiles = (None, None) if metric.scale is None else metric.scale[:2]
        interval = " to ".join(map(format_number, metric.interval or ())) or UNDEFINED
        row = [name, format_number(metric.mean), interval, str(count)]
        row += [f"{metric.zeros:.0%}"] * clipped
        if scaled:
            row += [UNDEFINED if qs is None else " ".join(format_number(q, 2) for q in qs) for qs in quartiles]
        rows.append(row)
    return Table(header, rows, wrap=False)


def _sample_table(result: Result) -> Table:
    """One row per sample: id, caption, every metric, and for the first calibrated one p(match) and rank.

    Columns that would be empty are left out.
    """
    metrics = list(result.metrics.values())
    leading = next((m for m in metrics if m.p_match is not None), metrics[0])
    parts = {} if result.breakdown is None else {part: result.breakdown[part] for part in _BREAKDOWN}
    captioned = bool(result.captions)
    header = ["id", *["caption"] * captioned, *result.metrics]
    header += ["p(match)"] * (leading.p_match is not None) + ["rank", *(part.replace("_", " ") for part in parts)]
    rows = []
    for i, name in enumerate(result.ids):
        row = [name, *result.captions[i : i + 1], *(format_number(metric.values[i]) for metric in metrics)]
        if leading.p_match is not None:
            row.append(format_number(leading.p_match[i], 2))
        row.append(f"{leading.rank[i]}/{leading.rank_of}" if leading.rank[i] else UNDEFINED)
        rows.append([*row, *(format_number(column[i]) for column in parts.values())])
    widths = {"id": _LONGEST_ID, **({"caption": None} if captioned else {})}
    return Table(header, rows, left=1 + captioned, details=True, shorten=widths)


def _notes(result: Result) -> Iterator[str]:
    scales = [metric.scale for metric in result.metrics.values() if metric.scale is not None]
    if scales:
        sources = "; ".join(dict.fromkeys(scale.source for scale in scales))
        yield (
            "Matched and mismatched pairs: quartiles of reference images with their own captions and with captions "
            f"of other images ({sources})."
        )
    if result.gap:
        yield _gap_note(result.gap)
    yield from result.notes
    samples: dict[str, list[str]] = {}
    for position, notes in sorted(result.sample_notes.items()):
        for note in notes:
            samples.setdefault(note, []).append(result.ids[position])
    for note, ids in samples.items():
        more = f" and {len(ids) - _QUOTED_IDS} more" if len(ids) > _QUOTED_IDS else ""
        yield f"{', '.join(ids[:_QUOTED_IDS])}{more}: {note}"


def _gap_note(gap: dict[str, float | None]) -> str:
    distances = ", ".join(f"{format_number(value)} under {name}" for name, value in gap.items())
    return f"Modality gap of this run (centroid distance): {distances}."
