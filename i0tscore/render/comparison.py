"""A comparison of systems as text, Markdown and flat rows."""

from __future__ import annotations

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
from i0tscore.render.strings import UNDEFINED, one_line
from i0tscore.render.tables import Table, skipped_table
from i0tscore.results.systems import Comparison, MetricComparison, Outcomes


def comparison_document(comparison: Comparison) -> Document:
    """One table a metric: means, differences from the baseline, wins and losses; then remarks."""
    tables = [
        (one_line(f"{name}, {metric.n} ids, {metric.groups} images"), _table(comparison, metric))
        for name, metric in comparison.metrics.items()
    ]
    if comparison.skipped:
        tables.append(("", skipped_table(comparison.skipped)))
    signatures = [str(m.signature) for m in comparison.metrics.values() if m.signature is not None]
    return Document(tables, [*_remarks(comparison), *comparison.notes], signatures)


def comparison_csv(comparison: Comparison) -> str:
    """CSV, one row a metric and system.

    Columns: ``metric``, ``system``, ``n``, ``groups``, ``mean``, ``mean_low``, ``mean_high``, ``baseline``,
    ``difference``, ``difference_low``, ``difference_high``, ``p``, ``p_holm``, ``wins``, ``ties``,
    ``losses``.
    """
    rows = [
        _row(comparison, name, metric, system)
        for name, metric in comparison.metrics.items()
        for system in comparison.systems
    ]
    return csv_text(list(rows[0]), rows)


def _table(comparison: Comparison, metric: MetricComparison) -> Table:
    header = ["system", "mean", "difference", "p", "Holm's p", "higher", "equal", "lower"]
    rows = []
    for name, mean in metric.means.items():
        difference, outcomes = metric.differences.get(name), metric.outcomes.get(name)
        row = [one_line(name), figure(mean)]
        if difference is None or outcomes is None:
            row += ["baseline", *[UNDEFINED] * 5]
        else:
            row += [figure(difference.estimate, signed=True)]
            row += [p_value(difference.p_value), p_value(difference.p_holm), *map(str, outcomes)]
        rows.append(row)
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def _remarks(comparison: Comparison) -> list[str]:
    settings = comparison.resampling
    lines = [f"difference: from {comparison.baseline}, on the same ids; higher, equal, lower: ids on which"]
    lines[0] += f" a system scores so against {comparison.baseline}"
    if settings.resamples:
        lines.append(
            f"in parentheses: {intervals_said(settings, 'images', 'paired bootstrap')}; p two-sided, then "
            "with Holm's correction for the systems of a table"
        )
    return lines


def _row(comparison: Comparison, name: str, metric: MetricComparison, system: str) -> dict[str, Any]:
    difference, outcomes = metric.differences.get(system), metric.outcomes.get(system)
    return {
        "metric": name,
        "system": system,
        "n": metric.n,
        "groups": metric.groups,
        **interval_cells("mean", metric.means[system]),
        "baseline": comparison.baseline,
        **difference_cells(difference),
        **(dict.fromkeys(Outcomes._fields) if outcomes is None else outcomes._asdict()),
    }
