"""Records of files: their columns and locations, checks of single values, and the list of everything that is wrong."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from i0tscore.errors import SampleFileError
from i0tscore.samples.sample import Skipped

ID_FIELDS = ("id", "image_id")
IMAGE_FIELDS = ("image", "image_path", "file_name")

_T = TypeVar("_T")

_PLAIN = json.JSONEncoder(ensure_ascii=False)
_ESCAPED = json.JSONEncoder()


class UnusableError(Exception):
    """A value cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands in for a value that could not be parsed.

    Attributes:
        reason: The message for the user.
        text: The text that could not be parsed, if another parser may try.
    """

    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an entry in a file.

    Attributes:
        position: Its number in the file, counted from 1.
        label: Its description in messages, e.g. ``line 3 (id "dog")``.
        id: Its id; empty if it has none.
    """

    position: int
    label: str
    id: str = ""


Record = tuple[Location, dict[str, Any]]
"""An entry with named fields, unchecked, and its location."""


@dataclass
class Diagnostics:
    """Collects the problems of a file, so that one reading can report all of them.

    Attributes:
        notes: Anything worth knowing that is not an error.
        row_errors: Problems of single rows, in the order found.
        file_errors: Problems that make the whole file unusable.
    """

    notes: list[str] = field(default_factory=list)
    row_errors: list[tuple[Location, str]] = field(default_factory=list)
    file_errors: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether there are problems."""
        return bool(self.file_errors or self.row_errors)

    def row_error(self, location: Location, message: str) -> None:
        """Report a problem of one row, which can be skipped."""
        self.row_errors.append((location, message))

    def file_error(self, message: str) -> None:
        """Report a problem of the whole file, which cannot be skipped."""
        self.file_errors.append(message)

    def check(self, location: Location, check: Callable[..., _T], *arguments: Any) -> _T | None:
        """Return the result of a check; if it raises ``UnusableError``, report that and return None."""
        try:
            return check(*arguments)
        except UnusableError as error:
            self.row_errors.append((location, str(error)))
            return None

    def finish(self, path: Path, usable: int, *, skip: bool = False) -> list[Skipped]:
        """Return the rows to skip, or raise an error that lists every problem.

        Args:
            path: The file.
            usable: Number of usable entries.
            skip: Whether rows with problems may be skipped.

        Raises:
            SampleFileError: There are problems that cannot be skipped, or nothing usable is left.
        """
        if not usable and not self.any:
            self.file_error("The file has no entries. Add some or check the path.")
        errors = sorted(self.row_errors, key=lambda error: error[0].position)
        if self.file_errors or not usable or (errors and not skip):
            raise SampleFileError(path, [*self.file_errors, *(f"{at.label}: {message}" for at, message in errors)])
        messages: dict[Location, list[str]] = {}
        for location, message in errors:
            messages.setdefault(location, []).append(message)
        return [Skipped(at.id or at.label, f"{at.label}: {' '.join(found)}") for at, found in messages.items()]


RENAME: Final = "Rename or add it."


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table, or the keys of its objects.

    Attributes:
        columns: By field, the names its column may have; names that occur in no field are ignored.
        required: Groups of fields of which at least one must be present, each with advice in case none is.
        images: Columns that may hold images.
        others: Whether columns of other names are read as well.
    """

    columns: Mapping[str, tuple[str, ...]]
    required: Mapping[tuple[str, ...], str]
    images: tuple[str, ...] = IMAGE_FIELDS
    others: bool = False

    def select(self, present: Iterable[str]) -> list[str]:
        """Return the columns to read, once each."""
        known = {name for names in self.columns.values() for name in names}
        return [name for name in dict.fromkeys(present) if self.others or name in known]

    def choose(self, present: Iterable[str]) -> dict[str, str]:
        """Return the first column present of each field, by field."""
        there = set(present)
        chosen = {field: next((n for n in names if n in there), None) for field, names in self.columns.items()}
        return {field: name for field, name in chosen.items() if name is not None}

    def check(self, present: Sequence[str], diagnostics: Diagnostics, noun: str = "column") -> bool:
        """Return whether the columns present suffice, and report it if not; the format calls a column ``noun``."""
        missing: dict[str, list[str]] = {}
        for fields, advice in self.required.items():
            names = [name for field in fields for name in self.columns[field]]
            if set(names).isdisjoint(present):
                one_of = f"one of the {noun}s " if len(names) > 1 else f"a {noun} "
                missing.setdefault(advice, []).append(one_of + ", ".join(map(quote, names)))
        for advice, expected in missing.items():
            found = preview(sorted(set(present)), 12) or "none"
            diagnostics.file_error(f"Expected {' and '.join(expected)}, found {found}. {advice}")
        known = {name for names in self.columns.values() for name in names}
        counts = Counter(present)
        repeated = [name for name, n in counts.items() if n > 1 and (self.others or name in known)]
        if repeated:
            diagnostics.file_error(f"line 1: The {noun} {preview(repeated)} occurs more than once. Keep one.")
        return not missing and not repeated


CAPTIONS: Final = Schema(
    {"id": ID_FIELDS, "image": IMAGE_FIELDS, "caption": ("caption",), "references": ("references",)},
    {("caption",): RENAME, ("id", "image"): RENAME},
)
"""The fields of captions."""


class Source(NamedTuple):
    """What a reader is given.

    Attributes:
        path: The file or folder.
        schema: The columns to read, where the format has any.
        diagnostics: Collects the problems.
        annotations: The annotation file of COCO results.
    """

    path: Path
    schema: Schema
    diagnostics: Diagnostics
    annotations: Path | None = None


def fields_of(records: Iterable[Record]) -> list[str]:
    """Return the fields that any record has, once each."""
    return list(dict.fromkeys(field for _, record in records for field in record))


def quote(value: object, limit: int = 60) -> str:
    """Quote untrusted text for a message: shortened, and safe to print on a terminal."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return (_PLAIN if text.isprintable() else _ESCAPED).encode(text)


def preview(names: Iterable[str], limit: int = 3) -> str:
    """Quote the first few names, with an ellipsis if there are more."""
    listed = list(names)
    return ", ".join([quote(name) for name in listed[:limit]] + ["…"] * (len(listed) > limit))


def describe(value: object) -> str:
    """Describe a value of the wrong type."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {str(value)[:20]}"
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a Boolean", type(None): "nothing"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def check_text(value: object, what: str, integers: bool = False) -> str:
    """Return a value if it is text that can be used, else raise ``UnusableError``.

    Args:
        value: The value.
        what: What it should be, for the message, e.g. ``a caption``.
        integers: Whether integers are accepted and converted to text.
    """
    if integers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Malformed):
        raise UnusableError(value.reason)
    if value is None:
        raise UnusableError(f"Expected {what}, got nothing. Add one or remove the row.")
    if not isinstance(value, str):
        raise UnusableError(f"Expected {what}, got {describe(value)}. Write it as a string.")
    if not value.strip():
        raise UnusableError(f"Expected {what}, got an empty string. Add one or remove the row.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableError(
            f"Expected {what} in valid Unicode, got an unpaired surrogate. Re-save the file as UTF-8."
        ) from None
    return value


def check_number(value: object, what: str) -> float:
    """Return a finite number, also if it is written as text, else raise ``UnusableError``."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableError(f"Expected {what}, got nothing. Add it or remove the row.")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusableError(f"Expected {what}, got {describe(value)}. Write it as a number.")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise UnusableError(f"Expected {what}, got {quote(value)}. Write it as a number.") from None
    if not math.isfinite(number):
        raise UnusableError(f"Expected {what}, got {number}. Correct it or remove the row.")
    return number


def check_references(value: object) -> tuple[str, ...]:
    """Return references given as one text or a list of texts; none for None."""
    if value is None:
        return ()
    if not isinstance(value, list):
        return (check_text(value, "a reference"),)
    return tuple(check_text(text, f"text for reference {number}") for number, text in enumerate(value, start=1))


def first_filled(record: Mapping[str, object], fields: Iterable[str]) -> object:
    """Return the value of the first field that is not None; None if there is none."""
    for name in fields:
        if record.get(name) is not None:
            return record[name]
    return None


def identify(location: Location, record: Mapping[str, object]) -> Location:
    """Return the location of a record with its id added, if it has one."""
    identifier = first_filled(record, ID_FIELDS)
    if location.id or not isinstance(identifier, str | int):
        return location
    return Location(location.position, f"{location.label} (id {quote(identifier)})", str(identifier))
