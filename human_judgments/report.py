"""Reports: a Markdown page for people, the same figures as JSON, and a plot.

A page is rendered from the JSON alone, so that its text can change without measuring again.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from i0tscore.errors import I0TScoreError
from i0tscore.files import replace_file
from i0tscore.render.document import UNDEFINED, Table, escape_markdown, markdown_table
from i0tscore.results import Resampling
from i0tscore.results.intervals import Estimate
from i0tscore.results.report import dumps
from i0tscore.views.cells import describe_intervals

OURS, OTHERS = "#1b6ca8", "#777777"
"""Colors of measured and of published figures."""

Data = Mapping[str, Any]
"""Plain data, as in the JSON of a report."""


class Figure(NamedTuple):
    """A plot.

    Attributes:
        title: Title, also the alternative text of the image.
        size: Width and height in inches.
        draw: Draws on an empty matplotlib figure.
    """

    title: str
    size: tuple[float, float]
    draw: Callable[[Any], None]


class Page(NamedTuple):
    """Content of a Markdown report.

    Attributes:
        title: Heading of the page.
        blocks: Markdown paragraphs and tables; the figure goes after the first.
        figure: Plot, or None.
    """

    title: str
    blocks: Sequence[str | Table]
    figure: Figure | None = None


def render_page(page: Page, figure_file: str | None = None) -> str:
    """Return a page as Markdown, with a link to its figure if the file's name is given."""
    blocks = [markdown_table(block) if isinstance(block, Table) else block for block in page.blocks]
    if page.figure is not None and figure_file is not None:
        blocks.insert(1, f"![{escape_markdown(page.figure.title)}]({figure_file})")
    return "\n\n".join([f"# {page.title}", *blocks]) + "\n"


def render_figure(figure: Figure) -> bytes | None:
    """Return a figure as SVG, the same bytes for the same numbers; None, with a warning, without matplotlib."""
    if find_spec("matplotlib") is None:
        warnings.warn('No figure: matplotlib is missing. Try: pip install "i0tscore[plot]"', UserWarning, stacklevel=2)
        return None
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context({"svg.hashsalt": "i0tscore", "svg.fonttype": "none", "font.size": 9}):
        canvas = Canvas(figsize=figure.size, layout="constrained")
        figure.draw(canvas)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def write_report(stem: str, data: Data, page: Page, folder: Path, *, plot: bool) -> list[Path]:
    """Write ``<stem>.json``, ``<stem>.md`` and, if there is a figure, ``<stem>.svg``; return their paths.

    Raises:
        I0TScoreError: The folder cannot be written to.
    """
    files: dict[str, bytes] = {}
    if plot and page.figure is not None and (figure := render_figure(page.figure)) is not None:
        files[f"{stem}.svg"] = figure
    files[f"{stem}.md"] = render_page(page, next(iter(files), None)).encode()
    files[f"{stem}.json"] = f"{dumps(data, 1)}\n".encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            replace_file(folder / name, content)
    except OSError as error:
        raise I0TScoreError(f"Cannot write to {folder} ({error.strerror}). Try another --output.") from error
    return [folder / name for name in files]


def estimate(stored: Data) -> Estimate:
    """Return the estimate that plain data hold."""
    interval = stored["interval"]
    return Estimate(stored["value"], None if interval is None else (interval[0], interval[1]))


def percent(stored: Data | None, *, signed: bool = False, digits: int = 1) -> str:
    """Format a correlation or share × 100 with its interval.

    Example:
        >>> percent({"value": 0.5123, "interval": [0.4, 0.6]})
        '51.2 (40.0 to 60.0)'
    """
    if stored is None or stored["value"] is None:
        return UNDEFINED
    values = [stored["value"], *(stored["interval"] or ())]
    cells = [f"{round(100 * value, digits) + 0.0:{'+' if signed else ''}.{digits}f}" for value in values]
    return cells[0] if len(cells) == 1 else "{} ({} to {})".format(*cells)


def p_value(value: float | None, resamples: int) -> str:
    """Format a p-value; as a bound if it is the smallest that the number of resamples allows."""
    if value is None:
        return UNDEFINED
    smallest = 2 / (resamples + 1)
    return f"≤ {smallest:.3f}" if value <= smallest else f"{value:.3f}"


def difference(stored: Data | None, resamples: int, *, digits: int = 1) -> str:
    """Format a difference × 100 with its interval and Holm's p-value."""
    if stored is None:
        return UNDEFINED
    return f"{percent(stored, signed=True, digits=digits)}, p {p_value(stored['p_holm'], resamples)}"


def bullets(lines: Sequence[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"* {escape_markdown(line)}" for line in lines)


def command_block(data: Data) -> str:
    """Return the command that computes a report."""
    return f"Computed with\n\n```console\n$ {data['command']}\n```"


def intervals_note(data: Data, over: str) -> str:
    """Describe the intervals of a report."""
    resampling = Resampling(**data["resampling"])
    if not resampling.resamples:
        return "No intervals were requested."
    return f"In parentheses: {describe_intervals(resampling, over)}."


def dot_plot(title: str, axis: str, ours: Mapping[str, Data], published: Mapping[str, float] | None = None) -> Figure:
    """Return a plot with one dot and its interval per metric, and hollow dots for published figures below.

    Args:
        title: Title of the plot.
        axis: Label of the horizontal axis.
        ours: Estimates by name, as shares of 1; undefined ones are left out.
        published: Published figures by name, as shares of 1.
    """
    measured = {name: stored for name, stored in ours.items() if stored["value"] is not None}
    others = published or {}

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for row, stored in enumerate(measured.values()):
            if stored["interval"] is not None:
                low, high = stored["interval"]
                axes.hlines(row, 100 * low, 100 * high, color=OURS, linewidth=2)
            axes.plot(100 * stored["value"], row, "o", color=OURS)
        for row, value in enumerate(others.values(), start=len(measured)):
            axes.plot(100 * value, row, "o", color=OTHERS, markerfacecolor="none")
        names = [*measured, *(f"{name} (published)" for name in others)]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.set_title(title)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)

    return Figure(title, (7.5, 1.2 + 0.27 * (len(measured) + len(others))), draw)
