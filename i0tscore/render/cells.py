"""Cells of tables and CSV: numbers, estimates with intervals, differences, p-values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from i0tscore.render.document import UNDEFINED, Table
from i0tscore.results.intervals import Difference, Estimate, Resampling
from i0tscore.samples import Skipped


def format_number(value: float | None, digits: int = 3) -> str:
    """Format a number with fixed digits; a dash where it is undefined.

    Example:
        >>> format_number(0.12345), format_number(None), format_number(-0.0001)
        ('0.123', '–', '0.000')
    """
    if value is None or value != value:
        return UNDEFINED
    return f"{round(value, digits) + 0.0:.{digits}f}"


def format_estimate(estimate: Estimate, *, signed: bool = False) -> str:
    """Format an estimate with its interval.

    Example:
        >>> format_estimate(Estimate(0.5, (0.4, 0.61))), format_estimate(Estimate(0.5, None), signed=True)
        ('0.500 (0.400 to 0.610)', '+0.500')
    """
    values = [
        f"+{format_number(value)}" if signed and value is not None and round(value, 3) > 0 else format_number(value)
        for value in (estimate.value, *(estimate.interval or ()))
    ]
    return values[0] if estimate.interval is None else "{} ({} to {})".format(*values)


def format_p_value(value: float | None) -> str:
    """Format a p-value with three digits.

    Example:
        >>> format_p_value(0.0421), format_p_value(0.0001), format_p_value(None)
        ('0.042', '<0.001', '–')
    """
    return "<0.001" if value is not None and value < 0.0005 else format_number(value)


def describe_intervals(resampling: Resampling, over: str, method: str = "bootstrap") -> str:
    """Describe how intervals were computed.

    Example:
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


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return CSV with a header, numbers in full; undefined values are empty cells.

    Args:
        rows: Cells by column.
        columns: Columns in order; those of the first row if None.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def estimate_cells(prefix: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Return the CSV cells of an estimate: its value, ``<prefix>_low`` and ``<prefix>_high``."""
    value = None if estimate is None else estimate.value
    low, high = (None, None) if estimate is None or estimate.interval is None else estimate.interval
    return {prefix: value, f"{prefix}_low": low, f"{prefix}_high": high}


def difference_cells(difference: Difference | None) -> dict[str, float | None]:
    """Return the CSV cells of a difference: its value, interval and p-values."""
    if difference is None:
        return {**estimate_cells("difference", None), "p": None, "p_holm": None}
    p_values = {"p": difference.p_value, "p_holm": difference.p_holm}
    return {**estimate_cells("difference", difference.estimate), **p_values}
