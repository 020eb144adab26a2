"""What every reader hands on: rows as they are written, and the problems found so far."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from i0tscore.errors import SampleFileError
from i0tscore.samples.sample import Sample, SampleSet, Skipped

ID_FIELDS = ("id", "image_id")
IMAGE_FIELDS = ("image", "image_path", "file_name")
FIELDS = (*ID_FIELDS, *IMAGE_FIELDS, "caption", "references")

_T = TypeVar("_T")

_PLAIN = json.JSONEncoder(ensure_ascii=False)
_ESCAPED = json.JSONEncoder()


class UnusableError(Exception):
    """One value of a row cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a value that could not be parsed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Location:
    """Where something stands in a file.

    Attributes:
        position: Its order in the file, counted from 1.
        label: How it is shown, e.g. ``line 3 (id "dog")``.
        id: The row's id; empty where it has none.
    """

    position: int
    label: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is written, its values unchecked.

    Attributes:
        place: Where it stands.
        id: The id; None where there is none.
        image: The image's path or name, or an image source; None where there is none.
        caption: One caption or a list of them.
        references: One reference or a list of them; None where there are none.
    """

    place: Location
    id: object
    image: object
    caption: object
    references: object = None


Records = list[tuple[Location, dict[str, Any]]]
"""Objects with named fields, unchecked, each with its place."""


class Diagnostics:
    """Collects what is wrong with a file, so that one reading can list all of it.

    Attributes:
        notes: What is no error but worth knowing.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._rejected: list[tuple[Location, str]] = []
        self._refused: list[str] = []

    def row_error(self, place: Location, what: str) -> None:
        """Note a problem of one row, which can be left out."""
        self._rejected.append((place, what))

    def check(self, place: Location, check: Callable[..., _T], *arguments: Any) -> _T | None:
        """What the check returns; None, and the row is rejected, where it raises ``UnusableError``."""
        try:
            return check(*arguments)
        except UnusableError as problem:
            self.row_error(place, str(problem))
            return None

    def file_error(self, what: str) -> None:
        """Note a problem of the whole file, which cannot be used as it is."""
        self._refused.append(what)

    @property
    def rejections(self) -> list[str]:
        """What is wrong with single rows, in the order found."""
        return [what for _, what in self._rejected]

    @property
    def any(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._refused or self._rejected)

    def finish(self, path: Path, samples: list[Sample], *, skip: bool) -> SampleSet:
        """Return the samples, or raise ``SampleFileError`` with every problem."""
        return SampleSet(samples, self.skipped(path, len(samples), skip=skip), self.notes)

    def skipped(self, path: Path, usable: int, *, skip: bool) -> list[Skipped]:
        """The rows that are left out, or raise ``SampleFileError`` with every problem.

        Args:
            path: The file.
            usable: How many entries can be used.
            skip: Whether rows may be left out.
        """
        if not usable and not self.any:
            self.file_error("no captions in it")
        rejected = sorted(self._rejected, key=lambda item: item[0].position)
        if self._refused or not usable or (rejected and not skip):
            lines = [f"{place.label}: {what}" for place, what in rejected]
            raise SampleFileError(path, [*self._refused, *lines])
        reasons: dict[Location, list[str]] = {}
        for place, what in rejected:
            reasons.setdefault(place, []).append(what)
        return [
            Skipped(place.id or place.label, f"{place.label}: {'; '.join(what)}") for place, what in reasons.items()
        ]


class Wanted(Protocol):
    """Fields that are looked for in records."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a field may have."""

    @property
    def image(self) -> tuple[str, ...]:
        """Those of them that may hold images."""

    def suffice(self, present: list[str], diagnostics: Diagnostics) -> bool:
        """Whether the fields that must be there are there; if not, tell the diagnostics."""


def quote(value: object, limit: int = 60) -> str:
    """Quote text for a message: shortened, and safe to print whatever it holds."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return (_PLAIN if text.isprintable() else _ESCAPED).encode(text)


def preview(names: Iterable[str], limit: int = 3) -> str:
    """List the first few names, with an ellipsis where there are more."""
    listed = list(names)
    return ", ".join([quote(name) for name in listed[:limit]] + ["…"] * (len(listed) > limit))


def described(value: object) -> str:
    """Name the kind of a value that should have been text."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN, a missing number"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"the number {str(value)[:20]}"
    kinds: dict[type, str] = {dict: "an object", list: "a list", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def checked_text(value: object, what: str) -> str:
    """Return the text, or raise ``UnusableError`` where there is none to score."""
    if isinstance(value, Malformed):
        raise UnusableError(value.reason)
    if value is None:
        raise UnusableError(f"{what} is missing: write one or remove the entry")
    if not isinstance(value, str):
        raise UnusableError(f"{what} is {described(value)}, not text: write it as a string")
    if not value.strip():
        raise UnusableError(f"{what} is empty: write one or remove the entry")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnusableError(f"{what} has half a character (a lone surrogate) in it: write it anew") from None
    return value


def checked_name(value: object, what: str) -> str:
    """Return an id or image name as text; whole numbers are taken as they are written."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return checked_text(value, what)


def checked_number(written: object, what: str) -> float:
    """Return a finite number, or raise ``UnusableError``; text is taken as it is written in tables."""
    if written is None or (isinstance(written, str) and not written.strip()):
        raise UnusableError(f"{what} is missing: write it or remove the row")
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise UnusableError(f"{what} is {described(written)}, not a number: correct it")
    try:
        number = float(written)
    except (ValueError, OverflowError):
        raise UnusableError(f"{what} {quote(written)} is not a number: correct it") from None
    if not math.isfinite(number):
        raise UnusableError(f"{what} is {number}, not a number: correct or remove the row")
    return number


def identified(place: Location, record: Mapping[str, object]) -> Location:
    """The place of an object with named fields, shown with its id where it has one."""
    identifier = first_filled(record, ID_FIELDS)
    if not isinstance(identifier, str | int):
        return place
    return Location(place.position, f"{place.label} (id {quote(identifier)})", str(identifier))


def first_filled(record: Mapping[str, object], fields: Iterable[str]) -> object:
    """The value of the first of the fields that is filled; None where none is."""
    return next((record[name] for name in fields if record.get(name) is not None), None)
