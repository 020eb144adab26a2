"""Decoding of text, JSON and delimited text, with the location of everything that is wrong."""

from __future__ import annotations

import ast
import codecs
import csv
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from token import ENDMARKER, NEWLINE, NL, STRING
from tokenize import TokenError, generate_tokens
from typing import Any, Final

from i0tscore.errors import SampleFileError
from i0tscore.samples.diagnostics import Diagnostics, Location
from i0tscore.samples.schema import Schema

BROKEN: Final = object()
"""Stands in for JSON that could not be parsed."""

_MAX_LIST = 100_000
_LAYOUT = (NEWLINE, NL, ENDMARKER)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Japanese, and Chinese characters."""

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NOT_WESTERN = re.compile(
    rb"[^\x00-\x7f\x80\x85\x91-\x97\x99\xa1\xa3\xab\xb0\xb4\xb7\xbb\xbf\xc0-\xcf\xd1-\xd6\xd8-\xdc\xdf-\xef\xf1-\xf6\xf8-\xfc]"
    rb"|[\x80-\xff]{4}"
)
"""Bytes that suggest another encoding than Windows-1252, such as Cyrillic words, and letters of Polish and Mac OS."""

_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])"?\s*', re.IGNORECASE)
"""The line by which Excel is told the separator."""

_CELLS = threading.Lock()
_MAX_CELL = 2**31 - 1
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


def encoding_of(data: bytes) -> str:
    """Return the encoding of Unicode text by its byte-order mark; UTF-8 if it has none.

    Examples:
        >>> encoding_of("A dog.".encode("utf-16")), encoding_of(b"A dog.")
        ('utf-16', 'utf-8-sig')
    """
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8-sig")


def decode_lines(path: Path, data: bytes, diagnostics: Diagnostics) -> tuple[list[str], dict[int, str]]:
    """Decode text in UTF-8, in UTF-16 or UTF-32 with a byte-order mark, or in Windows-1252.

    Windows-1252 is assumed only if no character is UTF-8 and all of them are common in Western European languages.

    Args:
        path: The file, for messages.
        data: Its content.
        diagnostics: Takes a note on any encoding but UTF-8.

    Returns:
        The lines with their endings and without a byte-order mark, and messages for lines that are not UTF-8, by
        line number from 1.

    Raises:
        SampleFileError: It is damaged UTF-16 or UTF-32, or has no byte-order mark.
    """
    encoding = encoding_of(data)
    if encoding == "utf-8-sig" and _is_western(data):
        encoding = "Windows-1252"
        diagnostics.notes.append("Text is read as Windows-1252, because it is not UTF-8. Check accented letters.")
    elif encoding != "utf-8-sig":
        diagnostics.notes.append(f"Text is read as {encoding.upper()}.")
    elif b"\0" in data[:4]:
        raise SampleFileError(path, ["Expected UTF-8 text, got UTF-16 or UTF-32 without a mark. Save it as UTF-8."])
    if encoding != "utf-8-sig":
        try:
            data = data.decode(encoding).encode()
        except UnicodeError as error:
            message = f"Expected {encoding.upper()}, got damaged text ({error}). Save the file as UTF-8."
            raise SampleFileError(path, [message]) from error
    lines: list[str] = []
    damaged: dict[int, str] = {}
    for number, line in enumerate(io.BytesIO(data.removeprefix(codecs.BOM_UTF8)), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            lines.append(line.decode(errors="replace"))
            damaged[number] = (
                f"Expected UTF-8, got 0x{line[error.start]:02X} at byte {error.start + 1} of the line. "
                "Save the file as UTF-8."
            )
    return lines, damaged


def _is_western(data: bytes) -> bool:
    """Return whether text is Windows-1252 rather than UTF-8 or another encoding."""
    if data.isascii() or _NOT_WESTERN.search(data):
        return False
    return data.decode(errors="ignore").isascii()


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


def read_header(lines: list[str], schema: Schema) -> tuple[str, list[str]]:
    r"""Return the separator of a table and its header.

    The separator is the one that Excel is told, or else the one by which most columns to read are found.

    Examples:
        >>> read_header(["image;score, mean\n"], Schema({"image": ("image",)}, {}))
        (';', ['image', 'score, mean'])
    """
    told = _SEPARATOR.fullmatch(lines[0]) if lines else None
    headers = {}
    for delimiter in told[1] if told else _DELIMITERS:
        first = next(split_rows(lines, Diagnostics(), delimiter), None)
        headers[delimiter] = [name.strip() for name in first[2]] if first else [""]
    return max(headers.items(), key=lambda item: (len(schema.choose(item[1])), len(item[1])))


def split_rows(lines: list[str], diagnostics: Diagnostics, delimiter: str) -> Iterator[tuple[Location, int, list[str]]]:
    """Yield the location, the last line and the fields of each row that is not blank."""
    if lines and _SEPARATOR.fullmatch(lines[0]):
        lines = ["", *lines[1:]]
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    in_header = True
    while True:
        first = reader.line_num + 1
        fields, message = [], ""
        try:
            with _large_cells():
                fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fatal = "end of data" in str(error)
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


@contextmanager
def _large_cells() -> Iterator[None]:
    """Lift the limit on the size of cells, which is one for the whole process."""
    with _CELLS:
        limit = csv.field_size_limit(_MAX_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(limit)


def parse_list(cell: str) -> list[Any] | None:
    """Return the list that a cell holds in the notation of JSON, Python, or NumPy (no commas); None if it holds none.

    Examples:
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

    Examples:
        >>> is_tokens(["a", "dog", "runs", "."]), is_tokens(["A dog runs.", "Dog", "Animal"])
        (True, False)
    """
    words = [text for text in texts if isinstance(text, str)]
    return 2 < len(words) == len(texts) and not any(re.search(r"\s", word) or _UNSPACED.search(word) for word in words)
