"""Reports: Markdown for people, JSON for programs, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from human_judgments.plot import Picture
from i0tscore.errors import I0TScoreError
from i0tscore.files import replace_file
from i0tscore.render.cells import describe_intervals
from i0tscore.render.document import Table, escape_markdown, markdown_table
from i0tscore.results import Resampling
from i0tscore.results.intervals import Estimate
from i0tscore.results.report import dumps

SCHEMA = "i0tscore.agreement/1"
UNDEFINED = "–"


@dataclass(frozen=True, slots=True)
class Report:
    """What a script found.

    Attributes:
        stem: File name without its suffix.
        title: First line.
        blocks: Paragraphs, headings, lists and tables, in Markdown.
        data: The same as plain data.
        chart: The figure, if there is one.
    """

    stem: str
    title: str
    blocks: Sequence[str]
    data: Mapping[str, Any]
    chart: Picture | None = field(default=None)


def write_report(report: Report, folder: Path, *, plot: bool) -> list[Path]:
    """Write ``<stem>.md``, ``<stem>.json`` and, where it can be drawn, ``<stem>.svg``; return their paths.

    Raises:
        I0TScoreError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        blocks, written = list(report.blocks), []
        if plot and report.chart is not None and (picture := report.chart.draw()) is not None:
            written.append(folder / f"{report.stem}.svg")
            replace_file(written[-1], picture)
            blocks.insert(1, f"![{escape_markdown(report.chart.title)}]({written[-1].name})")
        text = "\n\n".join([f"# {report.title}", *blocks]) + "\n"
        for suffix, content in ((".md", text), (".json", dumps({"schema": SCHEMA, **report.data}, 1) + "\n")):
            written.append(folder / (report.stem + suffix))
            replace_file(written[-1], content.encode())
    except OSError as error:
        raise I0TScoreError(f"{folder}: cannot be written to ({error.strerror}): choose another") from error
    return written


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    r"""A Markdown table whose first ``left`` columns are aligned left.

    Example:
        >>> print(table(["metric", "n"], [["a|b", "3"]]))
        | metric   |   n |
        |:---------|----:|
        | a\|b     |   3 |
    """
    return markdown_table(Table(header, rows, left=left))


def percent(estimate: Estimate | None, *, signed: bool = False) -> str:
    """A correlation or share × 100 with one decimal, and its interval.

    Example:
        >>> percent(Estimate(0.5123, (0.4, 0.6)))
        '51.2 (40.0 to 60.0)'
    """
    if estimate is None or estimate.value is None:
        return UNDEFINED
    form = "{:+.1f}" if signed else "{:.1f}"
    text = form.format(_hundred(estimate.value))
    if estimate.interval is None:
        return text
    low, high = (form.format(_hundred(bound)) for bound in estimate.interval)
    return f"{text} ({low} to {high})"


def p_value(value: float | None, resamples: int) -> str:
    """A p-value; below what the number of resamples can tell, as a bound."""
    if value is None:
        return UNDEFINED
    least = 2 / (resamples + 1)
    return f"≤ {least:.3f}" if value <= least else f"{value:.3f}"


def bullets(lines: Sequence[str]) -> str:
    """A list of lines."""
    return "\n".join(f"* {escape_markdown(line)}" for line in lines)


def resampling_note(resampling: Resampling, what: str) -> str:
    """How the intervals were made."""
    if not resampling.resamples:
        return "No intervals were asked for."
    return f"In parentheses: {describe_intervals(resampling, what)}."


def _hundred(value: float) -> float:
    return round(100 * value, 1) + 0.0
