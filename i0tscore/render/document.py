"""Documents of tables, notes and signatures, and their renderers: text, Markdown and LaTeX.

Documents hold plain text; each renderer escapes what is markup in its format. To add an output format, write a
renderer and add it to ``RENDERERS`` of the package: every command then offers it.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image

UNDEFINED = "–"

TEXT_WIDTH = 120
"""Columns of text output that does not go to a terminal."""

_FRAGMENT_CELL = 80
"""Maximum width of shortened cells in notebooks."""

_GAP = 2
"""Spaces between two columns of a text table."""

_BOLD, _DIM, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_BLUES, _ORANGES, _BLACK = (153, 111, 69), (223, 215, 208), 16
"""Colors of positive and negative weights, from small to large, among the 256 of terminals."""
_RAMP = (17, 60, 66, 102, 144, 186, 227)
"""Colors of maps, from small to large numbers: dark to light, so that they can be told apart without hue."""
_LEVELS, _SMALLEST_WEIGHT = 3, 0.2
_MAP_LINES, _MAP_WIDTH = 10, 60
_SMALLEST_COLUMN = 16
_DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HEADING_BREAKS = re.compile(r"(?<=^Ref)(?=.)| ?(?=\()| ")
_MARKDOWN_MARKUP = re.compile(r"([\\`*_\[\]~|#])")
_BARS = re.compile("█+|░+")
_LATEX_MINUS = re.compile(r"(?<![\w-])-(?=\d)")
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "–": "--",
        "…": r"\dots{}",
        "−": "$-$",
        "×": r"$\times$",
        "²": "$^2$",
        "≤": r"$\le$",
        "τ": r"$\tau$",
    }
)


class Table(NamedTuple):
    """A table of strings.

    Attributes:
        header: Column names.
        rows: Cells, one list per row.
        title: Line above the table; empty for none.
        left: Number of leading columns that are aligned left; the others are aligned right.
        details: Whether this is a long table behind a summary. Text output shows it first, since the last lines
            of a terminal are what stays visible.
        wrap: Whether text output may break headings, and cells before an opening parenthesis, to save width.
        shorten: Columns whose cells text output shortens, with their largest width; None for what is left of the
            line.
        spare: Number of trailing columns that text output leaves out, and names, if a terminal is too narrow for them.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    left: int = 1
    details: bool = False
    wrap: bool = True
    shorten: Mapping[str, int | None] = {}
    spare: int = 0


class Paragraph(tuple[str, ...]):
    """Lines of running text."""

    __slots__ = ()


class Marked(NamedTuple):
    """A line of text with weighted parts; text output shows the weights in color, or else as signs.

    Attributes:
        parts: Texts, spaces included, each with its weight in [-1, 1].
    """

    parts: Sequence[tuple[str, float]]

    def levels(self) -> Iterator[tuple[str, int]]:
        """Yield texts without control characters, each with a level from -3 to 3."""
        for text, weight in self.parts:
            level = min(max(math.ceil(_LEVELS * abs(weight) - _SMALLEST_WEIGHT), 0), _LEVELS)
            yield re.sub(r"\s+", " ", _visible(text)), level if weight > 0 else -level


class Heatmap(NamedTuple):
    """A map of numbers over an image; text output draws it in color, or else as digits.

    Attributes:
        rows: The numbers, from the top left.
        title: Line above the map.
        aspect: Width of the map divided by its height.
        image: Image that pages show under the map, or None.
        box: The part of the image that the map covers: left, top, right, bottom, as fractions of its size.
    """

    rows: Sequence[Sequence[float]]
    title: str
    aspect: float = 1.0
    image: Image | None = None
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    @property
    def levels(self) -> list[list[float]]:
        """The numbers scaled so that the smallest is 0 and the largest is 1."""
        low, high = self.range
        return [[(value - low) / (high - low or 1.0) for value in row] for row in self.rows]

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number."""
        return min(map(min, self.rows)), max(map(max, self.rows))

    def digits(self) -> list[str]:
        """Return a line for each row, with the numbers scaled to 0–9, and a line with the scale."""
        low, high = self.range
        return [
            *(" ".join(str(min(int(10 * level), 9)) for level in row) for row in self.levels),
            f"0: {format_number(low)} … 9: {format_number(high)}",
        ]


class Notes(tuple[str, ...]):
    """Independent remarks, one per line."""

    __slots__ = ()


class Signatures(tuple[str, ...]):
    """Signatures, one per line."""

    __slots__ = ()


Block = Table | Paragraph | Marked | Heatmap | Notes | Signatures


class Document(NamedTuple):
    """What a view shows, independent of the output format.

    Attributes:
        blocks: Tables and lines in order; empty ones are not rendered.
        plot: A plot as SVG, shown below the blocks in HTML pages and omitted from other formats.
        title: Title of an HTML page.
    """

    blocks: Sequence[Block | None]
    plot: bytes = b""
    title: str = "i0tscore report"

    @property
    def filled(self) -> list[Block]:
        """The blocks that are not empty."""
        return [block for block in self.blocks if block]


def render_text(document: Document, *, width: int = TEXT_WIDTH, color: bool = False) -> str:
    """Render a document for a terminal.

    Args:
        document: What to show.
        width: Columns to fit the tables into, as far as possible.
        color: Whether to use bold and dim type (ANSI escapes).

    Returns:
        Text that ends in a newline.
    """
    parts = []
    for block in sorted(document.filled, key=lambda block: not (isinstance(block, Table) and block.details)):
        if isinstance(block, Table):
            table = _text_table(block, width, color)
            parts.append(f"{one_line(block.title)}\n\n{table}" if block.title else table)
        elif isinstance(block, Marked):
            parts.append(_marked(block, color))
        elif isinstance(block, Heatmap):
            parts.append("\n".join([one_line(block.title), "", *(_colored_map(block) if color else block.digits())]))
        else:
            dim = color and isinstance(block, Signatures)
            parts.append("\n".join(f"{_DIM}{one_line(line)}{_RESET}" if dim else one_line(line) for line in block))
    return "\n\n".join(parts) + "\n"


def render_markdown(document: Document, *, width: int = TEXT_WIDTH, color: bool = False) -> str:
    """Render a document as GitHub Markdown that ends in a newline; ``width`` and ``color`` have no effect."""
    parts = []
    for block in document.filled:
        if isinstance(block, Table):
            parts += [escape_markdown(block.title)] if block.title else []
            parts.append(markdown_table(block))
        elif isinstance(block, Signatures):
            parts.append("\n".join(["```", *map(one_line, block), "```"]))
        elif isinstance(block, Marked):
            parts.append(escape_markdown(_marked(block)))
        elif isinstance(block, Heatmap):
            parts += [escape_markdown(block.title), "\n".join(["```", *block.digits(), "```"])]
        else:
            bullet = "* " if isinstance(block, Notes) else ""
            parts.append("\n".join(f"{bullet}{escape_markdown(line)}" for line in block))
    return "\n\n".join(parts) + "\n"


def render_latex(document: Document, *, width: int = TEXT_WIDTH, color: bool = False) -> str:
    """Render a document as LaTeX for the package ``booktabs``; ``width`` and ``color`` have no effect.

    Signatures become comments, so that they stay with the tables without being typeset.
    """
    parts = [r"% Requires \usepackage{booktabs}."] if any(isinstance(block, Table) for block in document.filled) else []
    for block in document.filled:
        if isinstance(block, Table):
            parts.append(_latex_table(block))
        elif isinstance(block, Signatures):
            parts.append("\n".join(f"% {one_line(line)}" for line in block))
        elif isinstance(block, Notes):
            items = [f"\\item {escape_latex(line)}" for line in block]
            parts.append("\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]))
        elif isinstance(block, Marked):
            parts.append(escape_latex(_marked(block)))
        elif isinstance(block, Heatmap):
            lines = [r"\begin{verbatim}", *block.digits()[:-1], r"\end{verbatim}", escape_latex(block.digits()[-1])]
            parts.append("\n".join([escape_latex(block.title), *lines]))
        else:
            parts.append("\n".join(map(escape_latex, block)))
    return "\n\n".join(parts) + "\n"


def render_fragment(document: Document) -> str:
    """Render a document as HTML for a notebook cell, without a stylesheet or script."""
    parts = []
    for block in document.filled:
        if isinstance(block, Table):
            parts += [f"<p>{html.escape(one_line(block.title))}</p>"] if block.title else []
            rows = ["".join(_fragment_cells(block, "td", row)) for row in block.rows]
            lines = [f"<tr>{row}</tr>" for row in ("".join(_fragment_cells(block, "th", block.header)), *rows)]
            parts.append("\n".join(["<table>", *lines, "</table>"]))
        elif isinstance(block, Marked):
            parts.append(f"<p>{''.join(_fragment_words(block))}</p>")
        elif isinstance(block, Heatmap):
            parts.append(f"<p>{html.escape(one_line(block.title))}</p>")
        else:
            parts += [f"<p>{html.escape(one_line(line))}</p>" for line in block]
    return "\n".join(parts)


def format_number(value: float | None, digits: int = 3) -> str:
    """Format a number with fixed digits; a dash where it is undefined.

    Examples:
        >>> format_number(0.12345), format_number(None), format_number(-0.0001)
        ('0.123', '–', '0.000')
    """
    if value is None or value != value:
        return UNDEFINED
    return f"{round(value, digits) + 0.0:.{digits}f}"


def markdown_table(table: Table) -> str:
    """Return a table in Markdown, without its title and with its cells escaped."""
    from tabulate import tabulate

    header = [escape_markdown(cell) for cell in table.header]
    rows = [[escape_markdown(cell) for cell in row] for row in table.rows]
    return tabulate(
        rows, header, tablefmt="pipe", disable_numparse=True, colglobalalign="right", colalign=["left"] * table.left
    )


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown shows literally, on one line, also in a table cell.

    Examples:
        >>> escape_markdown("a|b <i>*c*</i>")
        'a\\|b &lt;i&gt;\\*c\\*&lt;/i&gt;'
    """
    return _MARKDOWN_MARKUP.sub(r"\\\1", html.escape(one_line(text), quote=False))


def escape_latex(text: str) -> str:
    r"""Return text that LaTeX shows literally, on one line.

    Examples:
        >>> escape_latex("τ-b of 95% & more_")
        '$\\tau$-b of 95\\% \\& more\\_'
    """
    return _BARS.sub(_latex_bar, one_line(text).translate(_LATEX))


def _latex_bar(bar: re.Match[str]) -> str:
    height = "1ex" if bar[0][0] == "█" else "0.2ex"
    return rf"\rule{{{0.4 * len(bar[0]):.1f}em}}{{{height}}}"


def one_line(text: str) -> str:
    r"""Return text on one line, without control characters that could move a terminal's cursor.

    Examples:
        >>> one_line("two\nlines \x1b[31mred")
        'two lines [31mred'
    """
    return " ".join(_visible(text).split())


def _visible(text: str) -> str:
    hidden = (unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _DIRECTION_CONTROLS for c in text)
    return "".join(" " if hide else c for c, hide in zip(text, hidden, strict=True))


def shorten(text: str, width: int) -> str:
    """Cut one line of text to a display width, with an ellipsis where something was cut.

    Examples:
        >>> shorten("A tabby cat with green eyes", 12)
        'A tabby cat…'
    """
    from wcwidth import clip, wcswidth

    return text if wcswidth(text) <= width else clip(text, 0, width - 1).rstrip() + "…"


def _fragment_cells(table: Table, tag: str, cells: Sequence[str]) -> Iterator[str]:
    for i, (name, cell) in enumerate(zip(table.header, cells, strict=True)):
        line = one_line(cell)
        if name in table.shorten:
            line = shorten(line, table.shorten[name] or _FRAGMENT_CELL)
        side = "left" if i < table.left else "right"
        yield f'<{tag} style="text-align: {side}">{html.escape(line)}</{tag}>'


def _fragment_words(block: Marked) -> Iterator[str]:
    for text, level in block.levels():
        word = html.escape(text)
        color = "27 108 168" if level > 0 else "209 98 43"
        signs = ("+" if level > 0 else "−") * abs(level)
        style = f"color: inherit; background: rgb({color} / {0.2 * abs(level):.1f})"
        yield f'<mark style="{style}">{word}<sup>{signs}</sup></mark>' if level else word


def _marked(block: Marked, color: bool = False) -> str:
    """Return a line in which weighty parts are colored, or else followed by one to three signs."""
    shown = []
    for text, level in block.levels():
        if not level:
            shown.append(text)
        elif color:
            background = (_BLUES if level > 0 else _ORANGES)[abs(level) - 1]
            shown.append(f"\x1b[38;5;{_BLACK};48;5;{background}m{text}{_RESET}")
        else:
            shown.append(text + ("+" if level > 0 else "−") * abs(level))
    return "".join(shown).strip()


def _colored_map(block: Heatmap) -> list[str]:
    """Return lines of half blocks, each of two square pixels, interpolated between the cells, and a scale."""
    import numpy as np
    from PIL import Image

    height = 2 * _MAP_LINES
    width = min(max(round(height * block.aspect), 4), _MAP_WIDTH)
    cells = Image.fromarray(np.array(block.levels, dtype=np.float32))
    levels = np.asarray(cells.resize((width, height), Image.Resampling.BILINEAR))
    colors = np.take(_RAMP, (levels * (len(_RAMP) - 0.01)).astype(int))
    lines = [
        "".join(f"\x1b[38;5;{top};48;5;{bottom}m▀" for top, bottom in zip(*colors[y : y + 2], strict=True)) + _RESET
        for y in range(0, height, 2)
    ]
    low, high = map(format_number, block.range)
    scale = "".join(f"\x1b[38;5;{shade}m██" for shade in _RAMP) + _RESET
    return [*lines, f"{low} {scale} {high}"]


def _text_table(table: Table, width: int, color: bool) -> str:
    from tabulate import tabulate

    header = [_HEADING_BREAKS.sub("\n", one_line(name)) if table.wrap else one_line(name) for name in table.header]
    rows = [[one_line(cell) for cell in row] for row in table.rows]
    for name, limit in table.shorten.items():
        column = table.header.index(name)
        if limit is None:
            widths = _column_widths(header, rows)
            taken = sum(widths) - widths[column] + _GAP * (len(widths) - 1)
            limit = max(width - taken, _SMALLEST_COLUMN)
        for row in rows:
            row[column] = shorten(row[column], limit)
    widths = _column_widths(header, rows)
    if table.wrap and not table.shorten and sum(widths) + _GAP * (len(widths) - 1) > width:
        rows = [[cell.replace(" (", "\n(") for cell in row] for row in rows]
        widths = _column_widths(header, rows)
    if table.spare and width < TEXT_WIDTH and sum(widths) + _GAP * (len(widths) - 1) > width:
        kept = len(table.header) - table.spare
        fewer = table._replace(header=table.header[:kept], rows=[row[:kept] for row in table.rows], spare=0)
        left_out = ", ".join(table.header[kept:])
        return f"{_text_table(fewer, width, color)}\n\nNot shown (terminal too narrow): {left_out}."
    # The header is a row of its own, since tabulate pads headings beyond their width.
    if color:
        header = ["\n".join(f"{_BOLD}{line}{_RESET}" for line in name.split("\n")) for name in header]
    return tabulate(
        [header, ["-" * width for width in widths], *rows],
        tablefmt="plain",
        disable_numparse=True,
        colglobalalign="right",
        colalign=["left"] * table.left,
    )


def _column_widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    from wcwidth import wcswidth

    return [
        max(wcswidth(line) for cell in column for line in cell.split("\n"))
        for column in zip(header, *rows, strict=True)
    ]


def _latex_table(table: Table) -> str:
    cells = [[_LATEX_MINUS.sub("$-$", escape_latex(cell)) for cell in row] for row in (table.header, *table.rows)]
    header, *rows = (" & ".join(row) + r" \\" for row in cells)
    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    lines = [r"\begin{table}", r"\centering"]
    lines += [f"\\caption{{{escape_latex(table.title)}}}"] if table.title else []
    lines += [f"\\begin{{tabular}}{{{columns}}}", r"\toprule", header, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])
