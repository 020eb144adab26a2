"""Retrieval as tables and flat rows."""

from __future__ import annotations

from typing import Any

from i0tscore.inversion.retrieval import NATIVE, RetrievalReport
from i0tscore.render.document import Document, csv_text, figure, interval_cells, intervals_said
from i0tscore.render.strings import number
from i0tscore.render.tables import Table, skipped_table
from i0tscore.results.intervals import Estimate
from i0tscore.results.retrieval import LABEL_MEASURES

LEGEND = (
    "mAP: mean average precision; mAP@R: the same within the first R places, of R relevant items (Musgrave "
    "et al. 2020); R-precision: share of relevant items there; R@k: whether any is among the first k"
)


def retrieval_document(report: RetrievalReport) -> Document:
    """Tables of the measures and of what inversion changes; then remarks."""
    heading = f"{report.task} retrieval, {report.queries:,} queries, {report.gallery:,} items in the gallery"
    tables = [(heading, _table({name: way.measures for name, way in report.ways.items()}, signed=False))]
    changed = {name: way.differences for name, way in report.ways.items() if name != NATIVE}
    if changed:
        tables.append((f"differences from {NATIVE}, query by query", _table(changed, signed=True)))
    if report.skipped:
        tables.append(("", skipped_table(report.skipped)))
    return Document(tables, [LEGEND, *_remarks(report)], [str(report.signature)])


def retrieval_csv(report: RetrievalReport) -> str:
    """CSV, one row a way: each measure, and its difference, with ``_low`` and ``_high``."""
    rows = []
    for name, way in report.ways.items():
        row: dict[str, Any] = {"way": name, "queries": report.queries, "gallery": report.gallery}
        for measure in LABEL_MEASURES:
            row |= interval_cells(measure, way.measures[measure])
        for measure in LABEL_MEASURES:
            row |= interval_cells(f"{measure} difference", way.differences.get(measure))
        rows.append(row)
    return csv_text(list(rows[0]), rows)


def _table(ways: dict[str, dict[str, Estimate]], *, signed: bool) -> Table:
    rows = [
        [name, *(figure(measures[measure], signed=signed) for measure in LABEL_MEASURES)]
        for name, measures in ways.items()
    ]
    return Table(["way", *LABEL_MEASURES], rows, ["left"] + ["right"] * len(LABEL_MEASURES))


def _remarks(report: RetrievalReport) -> list[str]:
    lines = []
    if report.inverted is not None:
        side = "queries are" if report.inverted == "query" else "gallery is"
        lines.append(f"the {side} inverted, the other side is as it was; cosine reached: {number(report.cosine)}")
    if report.left_out:
        lines.append(f"queries without anything relevant, in no mean: {report.left_out:,}")
    if report.resampling.resamples:
        said = intervals_said(report.resampling, report.over)
        lines.append(f"in parentheses: {said}; the gallery stays whole")
    return [*lines, *report.notes]
