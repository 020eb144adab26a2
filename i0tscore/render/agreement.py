"""Agreement with ratings as text, Markdown and flat rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from i0tscore.render.document import (
    Document,
    csv_text,
    difference_cells,
    figure,
    interval_cells,
    intervals_said,
    p_value,
)
from i0tscore.render.strings import one_line
from i0tscore.render.tables import Table
from i0tscore.results.agreement import Agreement
from i0tscore.results.evidence import CorrelationReport
from i0tscore.results.intervals import Estimate

SYMBOLS: dict[str, str] = {
    "tau_b": "τ-b",
    "tau_c": "τ-c",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "auc": "AUC",
}
"""Names of correlations as people write them."""

RATERS = "the raters themselves"


def agreement_document(evidence: CorrelationReport) -> Document:
    """Tables of agreement, of differences from the baseline, and by part; then remarks."""
    symbol = SYMBOLS[evidence.headline]
    tables = [("", agreement_table(evidence))]
    if evidence.differences:
        heading = f"difference in {symbol} from {one_line(evidence.baseline)}, on the same rows"
        tables.append((heading, _difference_table(evidence)))
    if evidence.parts:
        tables.append((f"{symbol} by part", part_table(evidence, evidence.labelled_parts)))
    return Document(tables, [*_remarks(evidence), *evidence.notes], list(evidence.signatures.values()))


def agreement_csv(evidence: CorrelationReport) -> str:
    """CSV, one row a metric and correlation; rows of parts have the headline correlation only.

    Columns: ``metric``, ``part``, ``correlation``, ``n``, ``groups``, ``value``, ``value_low``,
    ``value_high``, ``ties``, ``baseline``, ``difference``, ``difference_low``, ``difference_high``, ``p``,
    ``p_holm``. The raters' own agreement has the metric ``raters``.
    """
    rows = [row for name, value in evidence.agreement.items() for row in _rows(evidence, name, value)]
    if evidence.raters is not None:
        rows += _rows(evidence, "raters", evidence.raters)
    columns = list(rows[0])
    for part, by_metric in evidence.labelled_parts.items():
        for name, estimate in by_metric.items():
            row = {"metric": name, "part": part, "correlation": evidence.headline}
            rows.append({**row, **interval_cells("value", estimate)})
    return csv_text(columns, rows)


def agreement_table(
    evidence: CorrelationReport,
    *,
    shown: Callable[[Estimate], str] = figure,
    of: str = "score",
    groups: str = "groups",
) -> Table:
    """Score × correlation, with ties and numbers; the raters' own agreement in the last row.

    Args:
        evidence: What was measured.
        shown: How a figure is written.
        of: Heading of the names.
        groups: Heading of the number of clusters.
    """
    names = list(next(iter(evidence.agreement.values())).estimates)
    header = [of, *(SYMBOLS[name] for name in names), "ties", "n", groups]
    last = {} if evidence.raters is None else {RATERS: evidence.raters}
    rows = [
        [
            one_line(name),
            *(shown(value.estimates[correlation]) for correlation in names),
            f"{value.ties:.1%}",
            f"{value.n:,}",
            f"{value.groups:,}",
        ]
        for name, value in {**evidence.agreement, **last}.items()
    ]
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def part_table(
    evidence: CorrelationReport,
    parts: Mapping[str, Mapping[str, Estimate]],
    *,
    shown: Callable[[Estimate], str] = figure,
) -> Table:
    """Part × score: the headline correlation."""
    names = list(evidence.agreement)
    rows = [[one_line(part), *(shown(own[name]) for name in names)] for part, own in parts.items()]
    return Table(["part", *map(one_line, names)], rows, ["left"] + ["right"] * len(names))


def _difference_table(evidence: CorrelationReport) -> Table:
    rows = [
        [one_line(name), figure(d.estimate, signed=True), p_value(d.p_value), p_value(d.p_holm)]
        for name, d in evidence.differences.items()
    ]
    return Table(["score", "difference", "p", "Holm's p"], rows, ["left", "right", "right", "right"])


def _remarks(evidence: CorrelationReport) -> list[str]:
    settings, lines = evidence.resampling, []
    if settings.resamples:
        lines.append(
            f"in parentheses: {intervals_said(settings, evidence.over)}"
            + ("; p two-sided, then with Holm's correction" if evidence.differences else "")
        )
    lines.append("ties: share of pairs with different ratings whose scores are equal")
    if evidence.raters is not None:
        lines.append(
            f"{RATERS}: each rating against the mean of the item's other ratings, which is about what a "
            "score could reach"
        )
    return lines


def _rows(evidence: CorrelationReport, name: str, value: Agreement) -> list[dict[str, Any]]:
    rows = []
    for correlation, estimate in value.estimates.items():
        difference = evidence.differences.get(name) if correlation == evidence.headline else None
        rows.append(
            {
                "metric": name,
                "part": "",
                "correlation": correlation,
                "n": value.n,
                "groups": value.groups,
                **interval_cells("value", estimate),
                "ties": value.ties,
                "baseline": None if difference is None else difference.second,
                **difference_cells(difference),
            }
        )
    return rows
