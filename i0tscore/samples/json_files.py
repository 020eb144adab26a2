"""Files in JSON: a list of objects, one object a line, CLIPScore's mapping of captions, and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from i0tscore.samples.rows import Diagnostics, Location, Records, Row, described, quote
from i0tscore.samples.text import BROKEN, RepeatedKeys, parse_json, read_json, read_text


def read_mapping(path: Path, diagnostics: Diagnostics) -> list[Row]:
    """Read CLIPScore's ``{"id": "caption"}``; a value may be a list of captions."""
    value = read_json(path, diagnostics)
    if value is BROKEN or not _is_mapping(value, diagnostics, "captions"):
        return []
    rows = []
    for position, (identifier, caption) in enumerate(_pairs(value, diagnostics), start=1):
        place = Location(position, f"id {quote(identifier)}", identifier)
        if isinstance(caption, _Contradiction):
            diagnostics.row_error(place, f"written more than once, with different captions ({caption}): keep one")
        else:
            rows.append(Row(place, identifier, identifier, caption))
    return rows


def list_records(path: Path, diagnostics: Diagnostics) -> Records:
    """Read the objects of a JSON list, each with its place."""
    value = read_json(path, diagnostics)
    if value is BROKEN:
        return []
    if not isinstance(value, list):
        diagnostics.file_error(f"the file holds {described(value)}, not a list of objects: give another input format")
        return []
    return _objects(((Location(n, f"item {n}"), item) for n, item in enumerate(value, start=1)), diagnostics)


def line_records(path: Path, diagnostics: Diagnostics) -> Records:
    """Read one JSON object a line, each with its place.

    Empty lines do not count, and one bad line does not spoil the rest.
    """
    text = read_text(path)
    values = []
    for number, line in enumerate(text.lines, start=1):
        place = Location(number, f"line {number}")
        if number in text.damaged:
            diagnostics.row_error(place, text.damaged[number])
        elif line.strip():
            value, problems = parse_json(line, number)
            for problem in problems:
                diagnostics.row_error(place, problem)
            if not problems:
                values.append((place, value))
    return _objects(values, diagnostics)


def read_references(path: Path, diagnostics: Diagnostics) -> dict[str, Any]:
    """Read ``{"id": ["reference", …]}``; a value may be a single string. Values are unchecked."""
    value = read_json(path, diagnostics, f"{path.name}, ")
    if value is BROKEN or not _is_mapping(value, diagnostics, "references", f"{path.name}: "):
        return {}
    references = {}
    for identifier, texts in _pairs(value, diagnostics, f"{path.name}: "):
        if isinstance(texts, _Contradiction):
            diagnostics.file_error(f"{path.name}, id {quote(identifier)}: written more than once ({texts}): keep one")
        else:
            references[identifier] = texts
    return references


def _is_mapping(value: object, diagnostics: Diagnostics, what: str, prefix: str = "") -> bool:
    if not isinstance(value, dict):
        diagnostics.file_error(f'{prefix}holds {described(value)}, not an object of {what} by id: write {{"id": …}}')
    elif isinstance(images := value.get("images"), list) and images and isinstance(images[0], dict):
        diagnostics.file_error(f"{prefix}this is a COCO annotation file: give it as annotations, with a results file")
    else:
        return True
    return False


class _Contradiction(str):
    """Two of the values that one key has, for a message."""

    __slots__ = ()


def _pairs(value: dict[str, Any], diagnostics: Diagnostics, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Go through an object's keys once each; where a key has different values, they are in its stead."""
    if not isinstance(value, RepeatedKeys):
        yield from value.items()
        return
    gathered: dict[str, list[Any]] = {}
    for key, item in value.pairs:
        gathered.setdefault(key, []).append(item)
    for key, items in gathered.items():
        others = [item for item in items[1:] if item != items[0]]
        if len(items) > 1 and not others:
            diagnostics.notes.append(f"{prefix}id {quote(key)} is written {len(items)} times with the same value")
        yield key, _Contradiction(f"{quote(items[0])} and {quote(others[0])}") if others else items[0]


def _objects(values: Iterable[tuple[Location, Any]], diagnostics: Diagnostics) -> Records:
    objects = []
    for place, value in values:
        if isinstance(value, dict):
            objects.append((place, value))
        else:
            diagnostics.row_error(place, f"{described(value)}, not an object: write {{…}}")
    return objects


def repeated_fields(record: dict[str, Any], fields: Iterable[str]) -> list[str]:
    """Those of the fields that an object has more than once."""
    if not isinstance(record, RepeatedKeys):
        return []
    keys = [key for key, _ in record.pairs]
    return [field for field in fields if keys.count(field) > 1]
