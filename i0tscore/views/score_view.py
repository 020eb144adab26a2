"""Scores as a document, as CSV, and in CLIPScore's format for single scores; corpus summaries as a document."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from i0tscore.explanation.explanation import Explanation
from i0tscore.gap.vectors import chunks
from i0tscore.render.document import (
    UNDEFINED,
    Block,
    Document,
    Marked,
    Notes,
    Paragraph,
    Signatures,
    Table,
    format_number,
)
from i0tscore.results import Result
from i0tscore.views.cells import skipped_table

if TYPE_CHECKING:
    from i0tscore.integrations.shard_summary import CorpusSummary

_QUOTED_IDS = 3
_CSV_ROWS = 10_000  # written at once


def score_document(result: Result, *, per_sample: bool = True) -> Document:
    """Return a document with a summary of each metric, the samples, notes, skipped samples and signatures.

    Args:
        result: Scores of a run.
        per_sample: Whether to include the table of samples.
    """
    return Document(
        [
            result.summary_table(),
            result.sample_table() if per_sample and result.n else None,
            *_explained(result),
            Notes(_notes(result)),
            skipped_table(result.skipped),
            Signatures(str(metric.signature) for metric in result.metrics.values()),
        ]
    )


def _explained(result: Result) -> Iterator[Block]:
    """Yield a line for each explained sample, with the words that support and oppose its score."""
    found = [one for one in result.explanations.values() if isinstance(one, Explanation)]
    if found:
        yield Paragraph([f"Lowest {found[0].metric}, with the effects of words:"])
    for one in found:
        head = f"{one.sample.id}, {format_number(one.sample.scores[one.metric].value)}: "
        yield Marked([(head, 0.0), *one.marked.parts])


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


def score_csv(result: Result) -> Iterator[str]:
    """Yield CSV, some rows at a time, with one row per sample; undefined values are empty cells.

    The columns are those of ``Result.columns``. Numbers are written in full.
    """
    for rows in chunks(result.n, _CSV_ROWS):
        columns, text = result.columns(rows), io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not rows.start:
            writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        yield text.getvalue()


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


def _notes(result: Result) -> Iterator[str]:
    scales = [metric.scale for metric in result.metrics.values() if metric.scale is not None]
    if scales:
        sources = "; ".join(dict.fromkeys(scale.source for scale in scales))
        misfit = ". They and p(match) are not valid, because the statistics do not fit this run" * result.misfit
        yield (
            f"{'* ' * result.misfit}Matched and mismatched pairs: quartiles of reference images with their own "
            f"captions and with captions of other images ({sources}){misfit}."
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
