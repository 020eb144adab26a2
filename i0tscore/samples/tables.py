"""Tables with a header: CSV and TSV; one bad line does not spoil the rest."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from i0tscore.samples.rows import Diagnostics, Location, Records, preview
from i0tscore.samples.text import read_text

_NOT_CLOSED = "a quotation mark opened here is not closed, so the rest cannot be read: close it or double it"
_BADLY_QUOTED = "a field in double quotation marks must end with one, and those inside are doubled: correct it"
_LONE_RETURN = "a carriage return without a line feed: save the file with ordinary line ends"


def table_records(
    path: Path, diagnostics: Diagnostics, delimiter: str, suffices: Callable[[list[str], Diagnostics], bool]
) -> Records:
    """Read the records of any table with a header, each with the place of its first line.

    Args:
        path: The file.
        diagnostics: Takes the problems.
        delimiter: What separates the fields.
        suffices: Whether the header has what is needed; if not, it tells the diagnostics why.
    """
    text = read_text(path)
    header: list[str] = []
    found: Records = []
    for first, last, fields in _records(text.lines, diagnostics, delimiter):
        damaged = [line for line in range(first, last + 1) if line in text.damaged]
        if not header:
            header = [name.strip() for name in fields]
            if damaged or not _separated(header, diagnostics, delimiter) or not suffices(header, diagnostics):
                for line in damaged:
                    diagnostics.file_error(f"line {line}: {text.damaged[line]}")
                return []
            continue
        for line in damaged:
            diagnostics.row_error(Location(line, f"line {line}"), text.damaged[line])
        if len(fields) != len(header):
            diagnostics.row_error(
                _place(first, last),
                f"fields: {len(fields)}, where the header has {len(header)}: put a field that holds the "
                "separator in double quotation marks",
            )
        elif not damaged:
            found.append((Location(first, f"line {first}"), dict(zip(header, fields, strict=True))))
    return found


def _records(lines: list[str], diagnostics: Diagnostics, delimiter: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first and last line and the fields of each record that is not blank."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    any_yet = False
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error) or "field limit" in str(error):
                diagnostics.file_error(f"line {first}: {_NOT_CLOSED}")
                return
            what = _LONE_RETURN if "new-line" in str(error) else _BADLY_QUOTED
            if not any_yet:
                diagnostics.file_error(f"line {first}: {what}")
                return
            diagnostics.row_error(_place(first, reader.line_num), what)
            continue
        if any(field.strip() for field in fields):
            any_yet = True
            yield first, reader.line_num, fields


def _place(first: int, last: int) -> Location:
    return Location(first, f"line {first}" if first == last else f"lines {first} to {last}")


def _separated(header: list[str], diagnostics: Diagnostics, delimiter: str) -> bool:
    """Whether the header has several columns, or one that does not look like several."""
    if len(header) == 1 and ";" in header[0]:
        separator = "tabs" if delimiter == "\t" else "commas"
        diagnostics.file_error(f"line 1: the columns are separated by semicolons: separate them by {separator}")
        return False
    return True


def each_once(names: Iterable[str], header: list[str], diagnostics: Diagnostics) -> bool:
    """Whether no column of these names comes more than once; if one does, the file is refused."""
    repeated = [name for name in names if header.count(name) > 1]
    if repeated:
        diagnostics.file_error(f"line 1: the column {preview(repeated)} comes more than once: keep one")
    return not repeated
