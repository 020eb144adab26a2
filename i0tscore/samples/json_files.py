"""Caption files in JSON: CLIPScore's mapping, a list of objects, one object a line; and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from i0tscore.samples.rows import (
    FIELDS,
    Findings,
    Place,
    Row,
    described,
    few,
    fields_suffice,
    row_from_record,
    shown,
)
from i0tscore.samples.text import BROKEN, RepeatedKeys, parse_json, read_json, read_text


def read_mapping(path: Path, findings: Findings) -> list[Row]:
    """Read CLIPScore's ``{"id": "caption"}``; a value may be a list of captions."""
    value = read_json(path, findings)
    if value is BROKEN or not _is_mapping(value, findings, "captions"):
        return []
    rows = []
    for position, (identifier, caption) in enumerate(_pairs(value, findings), start=1):
        place = Place(position, f"id {shown(identifier)}", identifier)
        if isinstance(caption, _Contradiction):
            findings.reject(place, f"written more than once, with different captions ({caption}): keep one")
        else:
            rows.append(Row(place, identifier, identifier, caption))
    return rows


def read_list(path: Path, findings: Findings) -> list[Row]:
    """Read a JSON list of captions."""
    return _rows(list_records(path, findings), findings, "item")


def read_json_lines(path: Path, findings: Findings) -> list[Row]:
    """Read one caption a line."""
    return _rows(line_records(path, findings), findings, "line")


def list_records(path: Path, findings: Findings) -> list[tuple[int, dict[str, Any]]]:
    """Read the objects of a JSON list, each with its number from 1."""
    value = read_json(path, findings)
    if value is BROKEN:
        return []
    if not isinstance(value, list):
        findings.refuse(
            f"the file holds {described(value)}, not a list of objects: give another input format"
        )
        return []
    return _objects(enumerate(value, start=1), findings, "item")


def line_records(path: Path, findings: Findings) -> list[tuple[int, dict[str, Any]]]:
    """Read one JSON object a line, each with its line.

    Empty lines do not count, and one bad line does not spoil the rest.
    """
    text = read_text(path)
    values = []
    for number, line in enumerate(text.lines, start=1):
        place = Place(number, f"line {number}")
        if number in text.damaged:
            findings.reject(place, text.damaged[number])
        elif line.strip():
            value, problems = parse_json(line, number)
            for problem in problems:
                findings.reject(place, problem)
            if not problems:
                values.append((number, value))
    return _objects(values, findings, "line")


def read_references(path: Path, findings: Findings) -> dict[str, Any]:
    """Read ``{"id": ["reference", …]}``; a value may be a single string. Values are unchecked."""
    value = read_json(path, findings, f"{path.name}, ")
    if value is BROKEN or not _is_mapping(value, findings, "references", f"{path.name}: "):
        return {}
    references = {}
    for identifier, texts in _pairs(value, findings, f"{path.name}: "):
        if isinstance(texts, _Contradiction):
            findings.refuse(
                f"{path.name}, id {shown(identifier)}: written more than once ({texts}): keep one"
            )
        else:
            references[identifier] = texts
    return references


def _is_mapping(value: object, findings: Findings, what: str, prefix: str = "") -> bool:
    if not isinstance(value, dict):
        findings.refuse(f'{prefix}holds {described(value)}, not an object of {what} by id: write {{"id": …}}')
    elif isinstance(images := value.get("images"), list) and images and isinstance(images[0], dict):
        findings.refuse(
            f"{prefix}this is a COCO annotation file: give it as annotations, with a results file"
        )
    else:
        return True
    return False


class _Contradiction(str):
    """Two of the values that one key has, for a message."""

    __slots__ = ()


def _pairs(value: dict[str, Any], findings: Findings, prefix: str = "") -> Iterator[tuple[str, Any]]:
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
            findings.notes.append(
                f"{prefix}id {shown(key)} is written {len(items)} times with the same value"
            )
        yield key, _Contradiction(f"{shown(items[0])} and {shown(others[0])}") if others else items[0]


def _objects(
    values: Iterable[tuple[int, Any]], findings: Findings, unit: str
) -> list[tuple[int, dict[str, Any]]]:
    objects = []
    for number, value in values:
        if isinstance(value, dict):
            objects.append((number, value))
        else:
            findings.reject(
                Place(number, f"{unit} {number}"), f"{described(value)}, not an object: write {{…}}"
            )
    return objects


def _rows(values: list[tuple[int, dict[str, Any]]], findings: Findings, unit: str) -> list[Row]:
    """Make rows of objects numbered by line or item."""
    records = []
    for number, value in values:
        repeated = _repeated_fields(value)
        if repeated:
            place = row_from_record(value, number, unit).place
            findings.reject(place, f"{few(repeated)} is written more than once: keep one")
        else:
            records.append((number, value))
    fields = {field for _, record in records for field in record}
    if records and not fields_suffice(fields, findings, "object has the key"):
        return []
    return [row_from_record(record, number, unit) for number, record in records]


def _repeated_fields(record: dict[str, Any]) -> list[str]:
    if not isinstance(record, RepeatedKeys):
        return []
    keys = [key for key, _ in record.pairs]
    return [field for field in FIELDS if keys.count(field) > 1]
