"""Text and JSON from disk, with the place of whatever is wrong in them."""

from __future__ import annotations

import codecs
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from i0tscore.errors import InputError, SampleFileError
from i0tscore.samples.rows import Diagnostics

BROKEN: Final = object()
"""Stands for a JSON text that could not be parsed."""

_OTHER_UNICODE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TRAILING_COMMA = re.compile(r",\s*[}\]]")
_MOST_ERRORS = 2 * SampleFileError.LISTED


@dataclass(frozen=True, slots=True)
class Text:
    """A text file.

    Attributes:
        lines: Its lines with their line ends; a byte-order mark is left out.
        damaged: What is wrong with the lines that are not UTF-8, by line number from 1.
    """

    lines: list[str]
    damaged: dict[int, str]


class RepeatedKeys(dict[str, Any]):
    """A JSON object in which a key is written more than once; ``pairs`` has all of them."""

    pairs: list[tuple[str, Any]]


def read_text(path: Path) -> Text:
    """Read UTF-8 text; lines that are not UTF-8 are listed, not raised.

    Raises:
        InputError: The file cannot be read.
        SampleFileError: It is UTF-16 or UTF-32.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    if data.startswith(_OTHER_UNICODE) or b"\0" in data[:4]:
        raise SampleFileError(path, ["the text is UTF-16 or UTF-32: save the file as UTF-8"])
    lines: list[str] = []
    damaged: dict[int, str] = {}
    for number, line in enumerate(io.BytesIO(data.removeprefix(codecs.BOM_UTF8)), start=1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            lines.append(line.decode(errors="replace"))
            damaged[number] = (
                f"not UTF-8 at byte {error.start + 1} of the line (0x{line[error.start]:02X}; "
                "Latin-1 or Windows-1252?): save the file as UTF-8"
            )
    return Text(lines, damaged)


def read_json(path: Path, diagnostics: Diagnostics, prefix: str = "") -> Any:
    """Read a whole JSON file and note what is wrong with it; ``BROKEN`` where that hides the rest.

    Args:
        path: The file.
        diagnostics: Takes the problems.
        prefix: Put before each problem, to name a file that is not the main one.
    """
    text = read_text(path)
    for number, what in text.damaged.items():
        diagnostics.file_error(f"{prefix}line {number}: {what}")
    value, problems = parse_json("".join(text.lines))
    for problem in problems:
        diagnostics.file_error(prefix + problem)
    return value


def parse_json(text: str, line: int | None = None) -> tuple[Any, list[str]]:
    """Parse JSON and say what is wrong with it; reading goes on behind a trailing comma.

    Args:
        text: The JSON text.
        line: The number of the line it stands on, where that is known and shown elsewhere.

    Returns:
        The value, or ``BROKEN`` where reading could not go on; and the problems.
    """
    problems: list[str] = []
    while len(problems) < _MOST_ERRORS:
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            comma = _trailing_comma(text, error.pos)
            position = error.pos if comma is None else comma
            problems.append(f"{_where(text, position, line)}: {_what(text, error, comma)}")
            if comma is None:
                break
            text = f"{text[:comma]} {text[comma + 1 :]}"
        except RecursionError:
            problems.append("JSON nested too deeply: this is no caption file")
            break
        except ValueError:
            problems.append("a number of thousands of digits: this is no caption file")
            break
        else:
            return value, problems
    return BROKEN, problems


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    repeated = RepeatedKeys(value)
    repeated.pairs = pairs
    return repeated


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object)


def _trailing_comma(text: str, position: int) -> int | None:
    """Find the comma before a closing bracket, if that is what the parser stumbled over."""
    comma = text.rfind(",", 0, position + 1)
    match = _TRAILING_COMMA.match(text, comma) if comma >= 0 else None
    return comma if match and match.end() >= position else None


def _where(text: str, position: int, line: int | None) -> str:
    column = position - text.rfind("\n", 0, position)
    return f"column {column}" if line is not None else f"line {text.count(chr(10), 0, position) + 1}, column {column}"


def _what(text: str, error: json.JSONDecodeError, comma: int | None) -> str:
    rest = text[error.pos :].lstrip()
    if comma is not None:
        return "a comma before the closing bracket: remove it"
    if not text.strip():
        return "nothing is written here: add captions"
    if not rest:
        return "the JSON ends too early: is the file cut off?"
    if rest[0] in "'‘’“”":
        return f'{rest[0]} where JSON wants straight double quotation marks ("): replace it'
    if error.msg == "Extra data":
        return "more text after the end of the JSON value: remove it, or write one object a line (JSONL)"
    return f"not valid JSON ({error.msg}): correct it"
