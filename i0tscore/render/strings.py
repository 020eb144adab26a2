"""Strings fit for a terminal: no control characters, shortened to a display width."""

from __future__ import annotations

import unicodedata

UNDEFINED = "–"
_ELLIPSIS = "…"
_DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
    r"""Text on one line, without the control characters that could move a terminal's cursor.

    Example:
        >>> one_line("two\nlines \x1b[31mred")
        'two lines [31mred'
    """
    visible = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in _DIRECTION_CONTROLS else c for c in text)
    return " ".join("".join(visible).split())


def display_width(text: str) -> int:
    """Columns that text takes on a terminal: two for wide characters, none for combining ones."""
    return sum(_width(c) for c in text)


def shorten(text: str, width: int) -> str:
    """Cut one line of text to a display width, ending in an ellipsis where something was cut.

    Example:
        >>> shorten("A tabby cat with green eyes", 12)
        'A tabby cat…'
    """
    if display_width(text) <= width:
        return text
    used, kept = 1, []
    for character in text:
        used += _width(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept).rstrip() + _ELLIPSIS


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits, or a dash where it is undefined.

    Example:
        >>> number(0.12345), number(None), number(-0.0001)
        ('0.123', '–', '0.000')
    """
    if value is None or value != value:
        return UNDEFINED
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
