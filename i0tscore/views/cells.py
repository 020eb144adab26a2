"""Parts of documents and of CSV that several reports share."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from i0tscore.render.document import Table
from i0tscore.results.intervals import Difference, Estimate, Resampling
from i0tscore.samples import Skipped


def describe_intervals(resampling: Resampling, over: str, method: str = "bootstrap") -> str:
    """Describe how intervals were computed.

    Examples:
        >>> describe_intervals(Resampling(), "images")
        '95% bootstrap intervals over images (1,000 resamples, seed 12345)'
    """
    return (
        f"{100 * resampling.confidence:g}% {method} intervals over {over} "
        f"({resampling.resamples:,} resamples, seed {resampling.seed})"
    )


def skipped_table(skipped: Sequence[Skipped]) -> Table | None:
    """Return a table with one row per skipped sample; None if there are none."""
    return Table(["skipped", "reason"], skipped, left=2) if skipped else None


def difference_cells(difference: Difference | None) -> dict[str, Any]:
    """Return the CSV cells of a difference: its estimate and p-values."""
    found = difference or Difference("", "", Estimate(None, None), None, None)
    return {"difference": found.estimate, "p": found.p_value, "p_holm": found.p_holm}


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return CSV with a header, numbers in full; undefined values are empty cells.

    Args:
        rows: Cells by column; an ``Estimate`` fills its column, ``<column>_low`` and ``<column>_high``.
        columns: Columns in order; those of the first row if None.
    """
    flat = []
    for row in rows:
        cells: dict[str, Any] = {}
        for name, cell in row.items():
            if isinstance(cell, Estimate):
                low, high = cell.interval or (None, None)
                cells |= {name: cell.value, f"{name}_low": low, f"{name}_high": high}
            else:
                cells[name] = cell
        flat.append(cells)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()
