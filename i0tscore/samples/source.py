"""What a reader is given, and the reading of JSON and delimited text into records."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from i0tscore.errors import InputError
from i0tscore.samples.diagnostics import Diagnostics, Location, Record, describe, preview
from i0tscore.samples.schema import CAPTIONS, ReadOptions, Schema, fields_of
from i0tscore.samples.text import BROKEN, decode_lines, encoding_of, parse_json, read_header, split_rows

STDIN: Final = Path("-")
_HEAD_BYTES: Final = 1 << 16
_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_COMMA: Final = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS: Final = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""Numbers with a comma that may separate thousands."""


@dataclass
class Source:
    """What a reader is given. The file is read only once, so it may be a pipe.

    Attributes:
        path: The file or folder; ``-`` is standard input.
        diagnostics: Collects the problems.
        schema: The columns to read, where the format has any.
        options: How to read it.
    """

    path: Path
    diagnostics: Diagnostics
    schema: Schema = CAPTIONS
    options: ReadOptions = field(default_factory=ReadOptions)

    @cached_property
    def data(self) -> bytes:
        """The content.

        Raises:
            InputError: It cannot be read.
        """
        if self.path == STDIN:
            return sys.stdin.buffer.read()
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path}: Cannot be read ({error.strerror}). Check the path.") from error

    @cached_property
    def head(self) -> bytes:
        """The beginning of the content."""
        if not self.path.is_file():
            return self.data[:_HEAD_BYTES]
        with self.path.open("rb") as file:
            return file.read(_HEAD_BYTES)

    @cached_property
    def start(self) -> str:
        """The beginning of the text, without leading white space."""
        return self.head.decode(encoding_of(self.head), errors="replace").lstrip()

    @cached_property
    def lines(self) -> tuple[list[str], dict[int, str]]:
        """The lines of text with their endings, and messages for damaged lines by number; see ``decode_lines``."""
        return decode_lines(self.path, self.data, self.diagnostics)

    @cached_property
    def document(self) -> Any:
        """The value of a JSON file, whose problems are reported; ``BROKEN`` if it could not be parsed."""
        lines, damaged = self.lines
        value, problems = parse_json("".join(lines))
        self.diagnostics.file_errors += [f"line {number}: {message}" for number, message in damaged.items()]
        self.diagnostics.file_errors += problems
        return value


def read_json_list(source: Source) -> list[Record]:
    """Read a JSON list of objects."""
    value, diagnostics = source.document, source.diagnostics
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


def read_json_lines(source: Source) -> list[Record]:
    """Read one JSON object per line; blank lines are ignored, and a bad line does not affect the others."""
    (lines, damaged), diagnostics = source.lines, source.diagnostics
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


def read_table(source: Source, delimiter: str | None = None) -> list[Record]:
    """Read delimited text with a header; empty cells are None, and a bad line does not affect the others.

    Args:
        source: The file.
        delimiter: What separates columns; detected from the header if None.
    """
    (lines, damaged), diagnostics = source.lines, source.diagnostics
    if delimiter is None:
        delimiter, _ = read_header(lines, source.schema)
        if delimiter != ("\t" if source.path.suffix.lower() in (".tsv", ".tab") else ","):
            diagnostics.notes.append(f"Columns are separated by {_SEPARATORS.get(delimiter, repr(delimiter))}.")
    header: list[str] = []
    records: list[Record] = []
    for location, last, fields in split_rows(lines, diagnostics, delimiter):
        bad = [line for line in range(location.position, last + 1) if line in damaged]
        if not header:
            header = [name.strip() for name in fields]
            if bad or not source.schema.check(header, diagnostics):
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
    read_decimal_commas(records, source, certain=delimiter == ";")
    return records


def read_decimal_commas(records: list[Record], source: Source, *, certain: bool = False) -> None:
    """Write the decimal commas of columns of numbers as points.

    A column whose commas may all separate thousands (``1,234``) is left as it is, unless ``certain`` says that
    commas are decimal.
    """
    changed = []
    for name in source.schema.numbers_in(fields_of(records)):
        texts = [cell.strip() for _, record in records if isinstance(cell := record.get(name), str)]
        commas = [text for text in texts if "," in text]
        if not commas or any("." in text for text in texts) or not all(map(_COMMA.fullmatch, commas)):
            continue
        if certain or not all(map(_THOUSANDS.fullmatch, commas)):
            changed.append(name)
            for _, record in records:
                if isinstance(record.get(name), str):
                    record[name] = record[name].replace(",", ".")
    if changed:
        source.diagnostics.notes.append(
            f"Commas are read as decimal points in these columns: {preview(changed, len(changed))}."
        )


def read_columns(source: Source, names: tuple[str, ...]) -> Iterator[tuple[Location, list[str]]]:
    """Yield the fields of each line of tab-separated text without a header; ``names`` says what they hold."""
    lines, damaged = source.lines
    for number, line in enumerate(lines, start=1):
        location = Location(number, f"{source.path.name}, line {number}")
        fields = line.rstrip("\r\n").split("\t")
        if number in damaged:
            source.diagnostics.row_error(location, damaged[number])
        elif len(fields) == len(names):
            yield location, fields
        elif line.strip():
            source.diagnostics.row_error(
                location, f"Expected {len(names)} fields ({', '.join(names)}), got {len(fields)}."
            )
