"""Retrieval as a document and as CSV."""

from __future__ import annotations

from collections.abc import Mapping

from i0tscore.render.cells import csv_text, describe_intervals, format_estimate, format_number, skipped_table
from i0tscore.render.document import Document, Notes, Signatures, Table
from i0tscore.results.intervals import Estimate
from i0tscore.results.retrieval import LABEL_MEASURES, RetrievalReport

LEGEND = (
    "mAP: mean average precision. mAP@R: mean average precision within the first R ranks, for R relevant items "
    "(Musgrave et al. 2020). R-precision: share of relevant items within those ranks. R@k: whether a relevant item "
    "is within the first k."
)


def retrieval_document(report: RetrievalReport) -> Document:
    """Return a document with tables of the measures and of the differences from the baseline."""
    title = f"{report.task} retrieval, {report.queries:,} queries, {report.gallery:,} items in the gallery"
    measures = {"baseline": report.baseline.measures}
    measures |= {name: method.measures for name, method in report.methods.items()}
    differences = {name: method.differences for name, method in report.methods.items()}
    notes = [LEGEND]
    if report.inverted is not None:
        side = "queries are" if report.inverted == "query" else "gallery is"
        notes.append(f"Only the {side} inverted; cosine reached: {format_number(report.cosine)}.")
    if report.left_out:
        notes.append(f"Queries without a relevant item, excluded from every mean: {report.left_out:,}.")
    if report.resampling.resamples:
        described = describe_intervals(report.resampling, report.over)
        notes.append(f"In parentheses: {described}; the gallery is not resampled.")
    return Document(
        [
            _table(title, measures, signed=False),
            _table("Difference from the baseline, query by query", differences, signed=True) if differences else None,
            skipped_table(report.skipped),
            Notes([*notes, *report.notes]),
            Signatures([str(report.signature)]),
        ]
    )


def retrieval_csv(report: RetrievalReport) -> str:
    """Return CSV with one row per method: each measure and its difference, with ``_low`` and ``_high``."""
    none = Estimate(None, None)
    rows = [
        {
            "way": name,
            "queries": report.queries,
            "gallery": report.gallery,
            **{measure: method.measures[measure] for measure in LABEL_MEASURES},
            **{f"{measure} difference": method.differences.get(measure, none) for measure in LABEL_MEASURES},
        }
        for name, method in {"native": report.baseline, **report.methods}.items()
    ]
    return csv_text(rows)


def _table(title: str, methods: Mapping[str, Mapping[str, Estimate]], *, signed: bool) -> Table:
    rows = [
        [name, *(format_estimate(measures[measure], signed=signed) for measure in LABEL_MEASURES)]
        for name, measures in methods.items()
    ]
    return Table(["method", *LABEL_MEASURES], rows, title)
