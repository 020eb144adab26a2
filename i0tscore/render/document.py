"""Views made of several tables with remarks, as text or Markdown, and flat rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from i0tscore.render.drawing import DIM, GAP, break_heading, column_widths, draw_table, typed
from i0tscore.render.markdown import draw_markdown_table, escape
from i0tscore.render.strings import UNDEFINED, number, one_line
from i0tscore.render.tables import Table
from i0tscore.results.comparison import Difference
from i0tscore.results.intervals import Estimate, Resampling


class Document(NamedTuple):
    """What a view shows; how it is drawn is decided by ``draw_text`` and ``draw_markdown``.

    Attributes:
        tables: Each with the line above it, which may be empty.
        remarks: What is to be said below the tables, one line each.
        signatures: One line each.
    """

    tables: Sequence[tuple[str, Table]]
    remarks: Sequence[str]
    signatures: Sequence[str]


def draw_text(document: Document, *, width: int, color: bool = False) -> str:
    """A document for a terminal; ends in a newline.

    Args:
        document: What to show.
        width: Columns to use; in tables that are wider, intervals go below their figures.
        color: Whether to use bold and dim type (ANSI).
    """
    blocks = []
    for heading, table in document.tables:
        drawn = draw_table(_fit(table, width), color)
        blocks.append(f"{heading}\n\n{drawn}" if heading else drawn)
    if document.remarks:
        blocks.append("\n".join(one_line(line) for line in document.remarks))
    if document.signatures:
        blocks.append(typed("\n".join(map(one_line, document.signatures)), DIM, color))
    return "\n\n".join(blocks) + "\n"


def draw_markdown(document: Document) -> str:
    """A document as GitHub Markdown; ends in a newline."""
    blocks = []
    for heading, table in document.tables:
        drawn = draw_markdown_table(table)
        blocks.append(f"{escape(heading)}\n\n{drawn}" if heading else drawn)
    if document.remarks:
        blocks.append("\n".join(f"* {escape(one_line(line))}" for line in document.remarks))
    if document.signatures:
        blocks.append("\n".join(["```", *map(one_line, document.signatures), "```"]))
    return "\n\n".join(blocks) + "\n"


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a header, numbers in full; what is undefined is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def interval_cells(prefix: str, estimate: Estimate | None) -> dict[str, float | None]:
    """CSV cells of a figure: its value, ``<prefix>_low`` and ``<prefix>_high``."""
    value = None if estimate is None else estimate.value
    low, high = (None, None) if estimate is None or estimate.interval is None else estimate.interval
    return {prefix: value, f"{prefix}_low": low, f"{prefix}_high": high}


def difference_cells(difference: Difference | None) -> dict[str, float | None]:
    """CSV cells of a difference: its value, interval and p-values."""
    return {
        **interval_cells("difference", None if difference is None else difference.estimate),
        "p": None if difference is None else difference.p_value,
        "p_holm": None if difference is None else difference.p_holm,
    }


def intervals_said(resampling: Resampling, over: str, how: str = "bootstrap") -> str:
    """How intervals were made.

    Example:
        >>> intervals_said(Resampling(), "images")
        '95 % intervals by bootstrap over images, 1,000 resamples, seed 12345'
    """
    return (
        f"{100 * resampling.confidence:g} % intervals by {how} over {over}, "
        f"{resampling.resamples:,} resamples, seed {resampling.seed}"
    )


def figure(estimate: Estimate, *, signed: bool = False) -> str:
    """A figure with its interval.

    Example:
        >>> figure(Estimate(0.5, (0.4, 0.61))), figure(Estimate(0.5, None), signed=True)
        ('0.500 (0.400 to 0.610)', '+0.500')
    """

    def shown(value: float | None) -> str:
        text = number(value)
        return f"+{text}" if signed and value is not None and round(value, 3) > 0 else text

    if estimate.interval is None:
        return shown(estimate.value)
    low, high = estimate.interval
    return f"{shown(estimate.value)} ({shown(low)} to {shown(high)})"


def p_value(value: float | None) -> str:
    """A p-value with three digits.

    Example:
        >>> p_value(0.0421), p_value(0.0001), p_value(None)
        ('0.042', '<0.001', '–')
    """
    if value is None:
        return UNDEFINED
    return "<0.001" if value < 0.0005 else number(value)


def _fit(table: Table, width: int) -> Table:
    header = [break_heading(name) for name in table.header]
    taken = column_widths(header, table.rows)
    if sum(taken) + GAP * (len(taken) - 1) <= width:
        return Table(header, table.rows, table.align)
    return Table(header, [[cell.replace(" (", "\n(") for cell in row] for row in table.rows], table.align)
