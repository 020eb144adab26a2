"""A result as GitHub Markdown."""

from __future__ import annotations

import html
import re

from tabulate import tabulate

from i0tscore.render.tables import Table, remarks, sample_table, skipped_table, summary_table
from i0tscore.results import Result

_SPECIAL = re.compile(r"([\\`*_\[\]~|#])")


def render_markdown(result: Result, *, per_sample: bool) -> str:
    """Tables, notes and signatures of a result.

    Captions are data, not markup: pipes, HTML and Markdown in them are escaped.

    Args:
        result: What to show.
        per_sample: Whether to show the table of samples.

    Returns:
        Markdown that ends in a newline.
    """
    blocks = [draw_markdown_table(summary_table(result))]
    if per_sample and result.n:
        blocks.append(draw_markdown_table(sample_table(result)))
    if said := [f"* {escape(line)}" for line in remarks(result)]:
        blocks.append("\n".join(said))
    if result.skipped:
        blocks.append(draw_markdown_table(skipped_table(result.skipped)))
    signatures = [str(metric.signature) for metric in result.metrics.values()]
    blocks.append("\n".join(["```", *signatures, "```"]))
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, in a table cell too.

    Example:
        >>> escape("a|b <i>*c*</i>")
        'a\\|b &lt;i&gt;\\*c\\*&lt;/i&gt;'
    """
    return _SPECIAL.sub(r"\\\1", html.escape(text, quote=False))


def draw_markdown_table(table: Table) -> str:
    """Draw a table in Markdown, its cells escaped."""
    header = [escape(cell) for cell in table.header]
    rows = [[escape(cell) for cell in row] for row in table.rows]
    return tabulate(rows, header, tablefmt="pipe", colalign=table.align, disable_numparse=True)
