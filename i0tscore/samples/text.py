"""Decoding of UTF-8 text, JSON and delimited text, with the location of everything that is wrong."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from i0tscore.errors import InputError, SampleFileError
from i0tscore.samples.diagnostics import Diagnostics, Location, Record, describe

BROKEN: Final = object()
"""Stands in for JSON that could not be parsed."""

_OTHER_UNICODE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_MAX_ERRORS = 2 * SampleFileError.LISTED

_NOT_CLOSED = "A quotation mark opened here is never closed, so the rest cannot be read. Close it or double it."
_BAD_QUOTES = (
    "Expected a quoted field to end with a quotation mark, got more text. Double quotation marks inside the field."
)
_LONE_RETURN = "Expected a line feed after a carriage return. Save the file with standard line endings."


class RepeatedKeys(dict[str, Any]):
    """A JSON object in which a key occurs more than once; ``pairs`` has all of them."""

    pairs: list[tuple[str, Any]]


def read_text(path: Path) -> tuple[list[str], dict[int, str]]:
    """Read UTF-8 text.

    Returns:
        The lines with their endings and without a byte-order mark, and messages for lines that are not UTF-8, by
        line number from 1.

    Raises:
        InputError: The file cannot be read.
        SampleFileError: It is UTF-16 or UTF-32.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: Cannot be read ({error.strerror}). Check the path.") from error
    if data.startswith(_OTHER_UNICODE) or b"\0" in data[:4]:
        raise SampleFileError(path, ["Expected UTF-8 text, got UTF-16 or UTF-32. Save the file as UTF-8."])
    lines: list[str] = []
    damaged: dict[int, str] = {}
    for number, line in enumerate(io.BytesIO(data.removeprefix(codecs.BOM_UTF8)), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            lines.append(line.decode(errors="replace"))
            damaged[number] = (
                f"Expected UTF-8, got 0x{line[error.start]:02X} at byte {error.start + 1} of the line "
                "(Latin-1 or Windows-1252?). Save the file as UTF-8."
            )
    return lines, damaged


def read_json(path: Path, diagnostics: Diagnostics, prefix: str = "") -> Any:
    """Read a JSON file and report its problems.

    ``prefix`` precedes each problem, to name a file other than the main one. The value is ``BROKEN`` if it could
    not be parsed.
    """
    lines, damaged = read_text(path)
    for number, message in damaged.items():
        diagnostics.file_error(f"{prefix}line {number}: {message}")
    value, problems = parse_json("".join(lines))
    for problem in problems:
        diagnostics.file_error(prefix + problem)
    return value


def read_json_list(path: Path, diagnostics: Diagnostics) -> list[Record]:
    """Read a JSON list of objects."""
    value = read_json(path, diagnostics)
    if value is BROKEN:
        return []
    if not isinstance(value, list):
        diagnostics.file_error(f"Expected a list of objects, got {describe(value)}. Choose another input format.")
        return []
    records = []
    for number, item in enumerate(value, start=1):
        location = Location(number, f"item {number}")
        if isinstance(item, dict):
            records.append((location, item))
        else:
            diagnostics.row_error(location, f"Expected an object {{…}}, got {describe(item)}.")
    return records


def read_json_lines(path: Path, diagnostics: Diagnostics) -> list[Record]:
    """Read one JSON object per line; blank lines are ignored, and a bad line does not affect the others."""
    lines, damaged = read_text(path)
    records = []
    for number, line in enumerate(lines, start=1):
        location = Location(number, f"line {number}")
        if number in damaged:
            diagnostics.row_error(location, damaged[number])
        elif line.strip():
            value, problems = parse_json(line, in_line=True)
            if not problems and not isinstance(value, dict):
                problems = [f"Expected an object {{…}}, got {describe(value)}."]
            for problem in problems:
                diagnostics.row_error(location, problem)
            if not problems:
                records.append((location, value))
    return records


def parse_json(text: str, *, in_line: bool = False) -> tuple[Any, list[str]]:
    """Parse JSON; parsing continues after a trailing comma, to find the next problem.

    Args:
        text: The JSON text.
        in_line: Whether the text is one line of a file, so that problems are located by column only.

    Returns:
        The value, or ``BROKEN`` if it could not be parsed; and the problems.
    """
    problems: list[str] = []
    while len(problems) < _MAX_ERRORS:
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            comma = text.rfind(",", 0, error.pos + 1)
            match = _TRAILING_COMMA.match(text, comma) if comma >= 0 else None
            trailing = match is not None and match.end() >= error.pos
            position = comma if trailing else error.pos
            column = f"column {position - text.rfind(chr(10), 0, position)}"
            where = column if in_line else f"line {text.count(chr(10), 0, position) + 1}, {column}"
            problems.append(f"{where}: {_json_problem(text, error, trailing=trailing)}")
            if not trailing:
                break
            text = f"{text[:comma]} {text[comma + 1 :]}"
        except RecursionError:
            problems.append("Expected a caption file, got JSON that is nested too deeply.")
            break
        except ValueError:
            problems.append("Expected a caption file, got JSON with a number of thousands of digits.")
            break
        else:
            return value, problems
    return BROKEN, problems


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = RepeatedKeys(value)
    repeated.pairs = pairs
    return repeated


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_json_object)


def _json_problem(text: str, error: json.JSONDecodeError, *, trailing: bool) -> str:
    rest = text[error.pos :].lstrip()
    if trailing:
        return "Trailing comma before the closing bracket. Remove it."
    if not text.strip():
        return "Expected JSON, got an empty file. Add captions."
    if not rest:
        return "The JSON ends too early. Check whether the file is truncated."
    if rest[0] in "'‘’“”":
        return f'Expected a straight double quotation mark ("), got {rest[0]}. Replace it.'
    if error.msg == "Extra data":
        return "Expected the end of the JSON, got more text. Remove it, or write one object per line (JSONL)."
    return f"Invalid JSON ({error.msg}). Correct it."


def read_table(
    path: Path, delimiter: str, diagnostics: Diagnostics, check_header: Callable[[list[str]], bool]
) -> list[Record]:
    """Read delimited text with a header; empty cells are None, and a bad line does not affect the others.

    ``check_header`` returns whether the columns suffice, and reports it if they do not.
    """
    lines, damaged = read_text(path)
    header: list[str] = []
    records: list[Record] = []
    for location, last, fields in _rows(lines, diagnostics, delimiter):
        bad = [line for line in range(location.position, last + 1) if line in damaged]
        if not header:
            header = [name.strip() for name in fields]
            semicolons = len(header) == 1 and ";" in header[0]
            if semicolons:
                separator = "tabs" if delimiter == "\t" else "commas"
                diagnostics.file_error(f"line 1: Expected columns separated by {separator}, got semicolons.")
            if bad or semicolons or not check_header(header):
                diagnostics.file_errors += [f"line {line}: {damaged[line]}" for line in bad]
                return []
            continue
        for line in bad:
            diagnostics.row_error(Location(line, f"line {line}"), damaged[line])
        if len(fields) != len(header):
            diagnostics.row_error(
                location,
                f"Expected {len(header)} fields as in the header, got {len(fields)}. Put fields that contain the "
                "separator in double quotation marks.",
            )
        elif not bad:
            cells = (cell if cell.strip() else None for cell in fields)
            records.append((location, dict(zip(header, cells, strict=True))))
    return records


def _rows(lines: list[str], diagnostics: Diagnostics, delimiter: str) -> Iterator[tuple[Location, int, list[str]]]:
    """Yield the location, the last line and the fields of each row that is not blank."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    in_header = True
    while True:
        first = reader.line_num + 1
        fields, message = [], ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fatal = "end of data" in str(error) or "field limit" in str(error)
            message = _NOT_CLOSED if fatal else _LONE_RETURN if "new-line" in str(error) else _BAD_QUOTES
            if fatal or in_header:
                diagnostics.file_error(f"line {first}: {message}")
                return
        last = reader.line_num
        location = Location(first, f"line {first}" if first == last else f"lines {first} to {last}")
        if message:
            diagnostics.row_error(location, message)
        elif any(field.strip() for field in fields):
            in_header = False
            yield location, last, fields


def read_columns(path: Path, diagnostics: Diagnostics, names: tuple[str, ...]) -> Iterator[tuple[Location, list[str]]]:
    """Yield the fields of each line of tab-separated text without a header; ``names`` says what they hold."""
    lines, damaged = read_text(path)
    for number, line in enumerate(lines, start=1):
        location = Location(number, f"{path.name}, line {number}")
        fields = line.rstrip("\r\n").split("\t")
        if number in damaged:
            diagnostics.row_error(location, damaged[number])
        elif len(fields) == len(names):
            yield location, fields
        elif line.strip():
            diagnostics.row_error(location, f"Expected {len(names)} fields ({', '.join(names)}), got {len(fields)}.")
