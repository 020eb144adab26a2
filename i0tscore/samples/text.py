"""Decoding of UTF-8 text, JSON and delimited text, with the location of everything that is wrong."""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from token import ENDMARKER, NEWLINE, NL, STRING
from tokenize import TokenError, generate_tokens
from typing import Any, Final

from i0tscore.errors import SampleFileError
from i0tscore.samples.diagnostics import Diagnostics, Location

BROKEN: Final = object()
"""Stands in for JSON that could not be parsed."""

_MAX_LIST = 100_000
_LAYOUT = (NEWLINE, NL, ENDMARKER)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Japanese, and Chinese characters."""

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


def decode_lines(path: Path, data: bytes) -> tuple[list[str], dict[int, str]]:
    """Decode UTF-8 text.

    Args:
        path: The file, for messages.
        data: Its content.

    Returns:
        The lines with their endings and without a byte-order mark, and messages for lines that are not UTF-8, by
        line number from 1.

    Raises:
        SampleFileError: It is UTF-16 or UTF-32.
    """
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


def split_rows(lines: list[str], diagnostics: Diagnostics, delimiter: str) -> Iterator[tuple[Location, int, list[str]]]:
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


def parse_list(cell: str) -> list[Any] | None:
    """Return the list that a cell holds in the notation of JSON, Python, or NumPy (no commas); None if it holds none.

    Example:
        >>> parse_list("['A dog.', 'A cat, asleep.']")
        ['A dog.', 'A cat, asleep.']
    """
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > _MAX_LIST:
        return None
    value, problems = parse_json(text, in_line=True)
    if not problems:
        return value if isinstance(value, list) else None
    try:
        tokens = [token for token in generate_tokens(io.StringIO(text).readline) if token.type not in _LAYOUT]
        items = [ast.literal_eval(token.string) for token in tokens if token.type == STRING]
    except (TokenError, SyntaxError, ValueError):
        return None
    # Adjacent strings are separate items, as NumPy prints them; Python would join them.
    marks = "".join(token.string for token in tokens if token.type != STRING)
    return items if items and re.fullmatch(r"\[,*\]", marks) else None


def is_tokens(texts: Sequence[object]) -> bool:
    """Return whether three or more texts are the words of one caption: none contains a space.

    Captions in scripts without spaces, such as Chinese, Japanese, and Thai, are not taken for words.

    Example:
        >>> is_tokens(["a", "dog", "runs", "."]), is_tokens(["A dog runs.", "Dog", "Animal"])
        (True, False)
    """
    words = [text for text in texts if isinstance(text, str)]
    return 2 < len(words) == len(texts) and not any(re.search(r"\s", word) or _UNSPACED.search(word) for word in words)
