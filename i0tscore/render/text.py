"""A result as text for a terminal."""

from __future__ import annotations

from tabulate import tabulate

from i0tscore.render.strings import display_width, shorten
from i0tscore.render.tables import Table, remarks, sample_table, skipped_table, summary_table
from i0tscore.results import Result

WIDTH = 120
"""Columns of the tables where there is no terminal to ask."""

_GAP = 2
_SMALLEST_CAPTION = 16
_LONGEST_ID = 24
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


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
        blocks.append(_draw(_fit(sample_table(result), width), color))
    blocks.append(_draw(summary_table(result), color))
    if said := [*remarks(result)]:
        blocks.append("\n".join(said))
    if result.skipped:
        blocks.append(_draw(skipped_table(result), color))
    signatures = "\n".join(str(metric.signature) for metric in result.metrics.values())
    blocks.append(_typed(signatures, _DIM, color))
    return "\n\n".join(blocks) + "\n"


def _fit(table: Table, width: int) -> Table:
    """Break long headings and shorten ids and captions until the table fits, as far as it can."""
    header = [_broken(name) for name in table.header]
    rows = [[shorten(row[0], _LONGEST_ID), *row[1:]] for row in table.rows]
    if "caption" in header:
        column = header.index("caption")
        widths = _widths(header, rows)
        room = max(width - sum(widths) + widths[column] - _GAP * (len(widths) - 1), _SMALLEST_CAPTION)
        rows = [[*row[:column], shorten(row[column], room), *row[column + 1 :]] for row in rows]
    return Table(header, rows, table.align)


def _widths(header: list[str], rows: list[list[str]]) -> list[int]:
    return [
        max(display_width(line) for cell in column for line in cell.split("\n"))
        for column in zip(header, *rows, strict=True)
    ]


def _broken(name: str) -> str:
    """A heading on two lines where it can be broken, so that columns of numbers stay narrow."""
    if name.startswith("Ref"):
        name = f"Ref\n{name.removeprefix('Ref')}"
    return name.replace("(", "\n(").replace(" ", "\n")


def _draw(table: Table, color: bool) -> str:
    """Draw a table; the header is given as a row, since tabulate pads headings beyond their width."""
    header = [_typed(cell, _BOLD, color) for cell in table.header]
    rule = ["-" * width for width in _widths(table.header, table.rows)]
    return tabulate(
        [header, rule, *table.rows], tablefmt="plain", colalign=table.align, disable_numparse=True
    )


def _typed(text: str, code: str, color: bool) -> str:
    return "\n".join(f"{code}{line}{_PLAIN}" for line in text.split("\n")) if color else text
