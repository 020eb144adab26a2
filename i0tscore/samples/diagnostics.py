"""Locations in files, checks of single values, and the list of everything that is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

from i0tscore.errors import SampleFileError
from i0tscore.samples.sample import Skipped

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
        caption: The number of the caption among several of the entry, from 1; 0 for an entry with one caption.
    """

    position: int
    label: str
    id: str = ""
    caption: int = 0


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

    def adopt(self, other: Diagnostics, path: Path) -> None:
        """Report the problems of a second file, without which the first cannot be used."""
        self.notes += [f"{path.name}: {note}" for note in other.notes]
        self.file_errors += [f"{path.name}: {message}" for message in other.file_errors]
        self.file_errors += [f"{path.name}, {at.label}: {message}" for at, message in other.row_errors]

    def check(self, location: Location, check: Callable[..., _T], *arguments: Any) -> _T | None:
        """Return the result of a check; if it raises ``UnusableError``, report that and return None."""
        try:
            return check(*arguments)
        except UnusableError as error:
            self.row_errors.append((location, str(error)))
            return None

    def finish(self, path: Path, usable: int, *, skip: bool = False, part: bool = False) -> list[Skipped]:
        """Return the rows to skip, or raise an error that lists every problem.

        Args:
            path: The file.
            usable: Number of usable entries.
            skip: Whether rows with problems may be skipped.
            part: Whether this is only a part of the file, so that it may have no usable entries.

        Raises:
            SampleFileError: There are problems that cannot be skipped, or nothing usable is left.
        """
        if not usable and not self.any and not part:
            self.file_error("The file has no entries. Add some or check the path.")
        errors = sorted(dict.fromkeys(self.row_errors), key=lambda error: error[0].position)
        if self.file_errors or not (usable or part) or (errors and not skip):
            raise SampleFileError(path, [*self.file_errors, *(f"{at.label}: {message}" for at, message in errors)])
        return [Skipped(at.id or at.label, reason) for at, reason in self.reasons().items()]

    def reasons(self) -> dict[Location, str]:
        """Return the problems of each row with any, in the order of the file."""
        messages: dict[Location, list[str]] = {}
        for location, message in sorted(dict.fromkeys(self.row_errors), key=lambda error: error[0].position):
            messages.setdefault(location, []).append(message)
        return {at: f"{at.label}: {' '.join(found)}" for at, found in messages.items()}


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
    if isinstance(value, date | time):
        return f"the date or time {value.isoformat()}"
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
    if isinstance(value, Malformed):
        raise UnusableError(value.reason)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnusableError(f"Expected {what}, got {describe(value)}. Write it as a number.")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        advice = "Use a decimal point and no thousands separators." if "," in str(value) else "Write it as a number."
        raise UnusableError(f"Expected {what}, got {quote(value)}. {advice}") from None
    if not math.isfinite(number):
        raise UnusableError(f"Expected {what}, got {number}. Correct it or remove the row.")
    return number


def check_context(value: object) -> str:
    """Return the text in which an image appears; empty if there is none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return check_text(value, "a text as context")


def check_references(value: object) -> tuple[str, ...]:
    """Return references given as one text or a list of texts; none for None."""
    if value is None:
        return ()
    if not isinstance(value, list):
        return (check_text(value, "a reference"),)
    return tuple(check_text(text, f"text for reference {number}") for number, text in enumerate(value, start=1))
