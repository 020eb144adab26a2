"""Comparisons of systems and agreement of scores with ratings, as documents and CSV."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from i0tscore.render.cells import (
    csv_text,
    describe_intervals,
    difference_cells,
    difference_row,
    format_estimate,
    skipped_table,
)
from i0tscore.render.document import UNDEFINED, Document, Notes, Signatures, Table
from i0tscore.results.comparison import Comparison, MetricComparison
from i0tscore.results.correlation import Agreement, CorrelationReport
from i0tscore.results.intervals import Estimate

SYMBOLS: dict[str, str] = {"tau_b": "τ-b", "tau_c": "τ-c", "spearman": "Spearman", "pearson": "Pearson", "auc": "AUC"}
"""Display names of correlations."""

RATERS = "the raters themselves"


def comparison_document(comparison: Comparison) -> Document:
    """Return a document with one table per metric: means, differences from the baseline, wins and losses."""
    base, settings = comparison.baseline, comparison.resampling
    notes = [
        f"Difference: from {base}, on the same ids.",
        f"Higher, equal, lower: number of ids on which a system scores higher than, equal to or lower than {base}.",
    ]
    if settings.resamples:
        notes.append(f"In parentheses: {describe_intervals(settings, 'images', 'paired bootstrap')}.")
        notes.append("p is two-sided; Holm's p is corrected for all systems in a table.")
    return Document(
        [
            *(_comparison_table(name, metric) for name, metric in comparison.metrics.items()),
            skipped_table(comparison.skipped),
            Notes([*notes, *comparison.notes]),
            Signatures(str(m.signature) for m in comparison.metrics.values() if m.signature is not None),
        ]
    )


def comparison_csv(comparison: Comparison) -> str:
    """Return CSV with one row per metric and system.

    Columns: ``metric``, ``system``, ``n``, ``groups`` (number of images), ``mean``, ``mean_low``, ``mean_high``,
    ``baseline``, ``difference``, ``difference_low``, ``difference_high``, ``p``, ``p_holm``, ``wins``, ``ties``,
    ``losses``.
    """
    rows = []
    for name, metric in comparison.metrics.items():
        for system, compared in metric.systems.items():
            rows.append(
                {
                    "metric": name,
                    "system": system,
                    "n": metric.n,
                    "groups": metric.groups,
                    "mean": compared.mean,
                    "baseline": comparison.baseline,
                    **difference_cells(compared.difference),
                    "wins": compared.wins,
                    "ties": compared.ties,
                    "losses": compared.losses,
                }
            )
    return csv_text(rows)


def correlation_document(report: CorrelationReport) -> Document:
    """Return a document with tables of agreement, of differences from the baseline, and of parts."""
    symbol = SYMBOLS[report.headline]
    differences = parts = None
    if report.differences:
        rows = [[name, *difference_row(difference)] for name, difference in report.differences.items()]
        title = f"Difference in {symbol} from {report.baseline}, on the same rows"
        differences = Table(["score", "difference", "p", "Holm's p"], rows, title)
    if report.parts:
        rows = [
            [part, *(format_estimate(by_metric[name]) for name in report.agreement)]
            for part, by_metric in report.labeled_parts.items()
        ]
        parts = Table(["part", *report.agreement], rows, f"{symbol} by part")
    return Document(
        [
            agreement_table(report),
            differences,
            parts,
            _correlation_notes(report),
            Signatures(report.signatures.values()),
        ]
    )


def correlation_csv(report: CorrelationReport) -> str:
    """Return CSV with one row per metric and correlation; rows of parts have the headline correlation only.

    Columns: ``metric``, ``part``, ``correlation``, ``n``, ``groups`` (number of clusters), ``value``,
    ``value_low``, ``value_high``, ``ties``, ``baseline``, ``difference``, ``difference_low``,
    ``difference_high``, ``p``, ``p_holm``. The raters' own agreement has the metric ``raters``.
    """
    rows: list[dict[str, Any]] = []
    raters = {} if report.raters is None else {"raters": report.raters}
    for name, agreement in {**report.agreement, **raters}.items():
        for correlation, estimate in agreement.estimates.items():
            difference = report.differences.get(name) if correlation == report.headline else None
            rows.append(
                {
                    "metric": name,
                    "part": "",
                    "correlation": correlation,
                    "n": agreement.n,
                    "groups": agreement.groups,
                    "value": estimate,
                    "ties": agreement.ties,
                    "baseline": None if difference is None else difference.second,
                    **difference_cells(difference),
                }
            )
    for part, by_metric in report.labeled_parts.items():
        for name, estimate in by_metric.items():
            rows.append({"metric": name, "part": part, "correlation": report.headline, "value": estimate})
    return csv_text(rows)


def agreement_table(
    report: CorrelationReport,
    *,
    format_cell: Callable[[Estimate], str] = format_estimate,
    name_heading: str = "score",
    cluster_heading: str = "clusters",
) -> Table:
    """Return a table of scores by correlation, with ties and counts; the raters' own agreement comes last.

    Args:
        report: Agreement of scores with ratings.
        format_cell: Formats an estimate.
        name_heading: Heading of the first column.
        cluster_heading: Heading of the number of clusters.
    """
    names = list(next(iter(report.agreement.values())).estimates)
    raters: dict[str, Agreement] = {} if report.raters is None else {RATERS: report.raters}
    rows = [
        [
            name,
            *(format_cell(agreement.estimates[correlation]) for correlation in names),
            f"{agreement.ties:.1%}",
            f"{agreement.n:,}",
            f"{agreement.groups:,}",
        ]
        for name, agreement in {**report.agreement, **raters}.items()
    ]
    return Table([name_heading, *(SYMBOLS[name] for name in names), "ties", "n", cluster_heading], rows)


def _comparison_table(name: str, metric: MetricComparison) -> Table:
    rows = []
    for system, compared in metric.systems.items():
        cells = ["baseline", *[UNDEFINED] * 5]
        if compared.difference is not None:
            cells = [*difference_row(compared.difference), *map(str, (compared.wins, compared.ties, compared.losses))]
        rows.append([system, format_estimate(compared.mean), *cells])
    header = ["system", "mean", "difference", "p", "Holm's p", "higher", "equal", "lower"]
    return Table(header, rows, f"{name}, {metric.n} ids, {metric.groups} images")


def _correlation_notes(report: CorrelationReport) -> Notes:
    notes = []
    if report.resampling.resamples:
        over = "rows" if report.over == "rows" else f"clusters by {report.over}"
        notes.append(f"In parentheses: {describe_intervals(report.resampling, over)}.")
        if report.differences:
            notes.append("p is two-sided; Holm's p is corrected for all scores in the table.")
    notes.append("Ties: share of pairs with different ratings whose scores are equal.")
    if report.raters is not None:
        notes.append(
            f"{RATERS.capitalize()}: each rating against the mean of its item's other ratings, about the highest value "
            "that a score can reach."
        )
    return Notes([*notes, *report.notes])
