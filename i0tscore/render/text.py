"""A result as text for a terminal."""

from __future__ import annotations

from i0tscore.render.drawing import DIM, GAP, break_heading, column_widths, draw_table, typed
from i0tscore.render.strings import shorten
from i0tscore.render.tables import Table, remarks, sample_table, skipped_table, summary_table
from i0tscore.results import Result

WIDTH = 120
"""Columns of the tables where there is no terminal to ask."""

_SMALLEST_CAPTION = 16
_LONGEST_ID = 24


def render_text(
    result: Result,
    *,
    per_sample: bool,
    width: int = WIDTH,
    color: bool = False,
) -> str:
    """Tables, gap, notes and signatures of a result.

    Args:
        result: What to show.
        per_sample: Whether to show the table of samples.
        width: Columns to use; captions are shortened to fit.
        color: Whether to use bold and dim type (ANSI).

    Returns:
        Text that ends in a newline.
    """
    blocks = []
    if per_sample and result.n:
        blocks.append(draw_table(_fit(sample_table(result), width), color))
    blocks.append(draw_table(summary_table(result), color))
    if said := [*remarks(result)]:
        blocks.append("\n".join(said))
    if result.skipped:
        blocks.append(draw_table(skipped_table(result.skipped), color))
    signatures = "\n".join(str(metric.signature) for metric in result.metrics.values())
    blocks.append(typed(signatures, DIM, color))
    return "\n\n".join(blocks) + "\n"


def _fit(table: Table, width: int) -> Table:
    """Break long headings and shorten ids and captions until the table fits, as far as it can."""
    header = [break_heading(name) for name in table.header]
    rows = [[shorten(row[0], _LONGEST_ID), *row[1:]] for row in table.rows]
    if "caption" in header:
        column = header.index("caption")
        widths = column_widths(header, rows)
        room = max(width - sum(widths) + widths[column] - GAP * (len(widths) - 1), _SMALLEST_CAPTION)
        rows = [[*row[:column], shorten(row[column], room), *row[column + 1 :]] for row in rows]
    return Table(header, rows, table.align)
