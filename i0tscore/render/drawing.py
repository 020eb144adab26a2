"""Tables drawn for a terminal."""

from __future__ import annotations

from tabulate import tabulate

from i0tscore.render.strings import display_width
from i0tscore.render.tables import Table

GAP = 2
"""Columns between two columns of a table."""

BOLD, DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def draw_table(table: Table, color: bool) -> str:
    """Draw a table; the header is given as a row, since tabulate pads headings beyond their width."""
    header = [typed(cell, BOLD, color) for cell in table.header]
    rule = ["-" * width for width in column_widths(table.header, table.rows)]
    return tabulate([header, rule, *table.rows], tablefmt="plain", colalign=table.align, disable_numparse=True)


def column_widths(header: list[str], rows: list[list[str]]) -> list[int]:
    """Columns of the terminal that each column of a table takes."""
    return [
        max(display_width(line) for cell in column for line in cell.split("\n"))
        for column in zip(header, *rows, strict=True)
    ]


def break_heading(name: str) -> str:
    """A heading on two lines where it can be broken, so that columns of numbers stay narrow."""
    if name.startswith("Ref"):
        name = f"Ref\n{name.removeprefix('Ref')}"
    return name.replace("(", "\n(").replace(" ", "\n")


def typed(text: str, code: str, color: bool) -> str:
    """Text in bold or dim type where colour is wanted."""
    return "\n".join(f"{code}{line}{_PLAIN}" for line in text.split("\n")) if color else text
