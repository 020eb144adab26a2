"""Files in JSON: a list of objects, one object a line, CLIPScore's mapping of captions, and references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from i0tscore.samples.rows import Findings, Place, Records, Row, described, shown
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


def list_records(path: Path, findings: Findings) -> Records:
    """Read the objects of a JSON list, each with its place."""
    value = read_json(path, findings)
    if value is BROKEN:
        return []
    if not isinstance(value, list):
        findings.refuse(
            f"the file holds {described(value)}, not a list of objects: give another input format"
        )
        return []
    return _objects(((Place(n, f"item {n}"), item) for n, item in enumerate(value, start=1)), findings)


def line_records(path: Path, findings: Findings) -> Records:
    """Read one JSON object a line, each with its place.

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
                values.append((place, value))
    return _objects(values, findings)


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


def _objects(values: Iterable[tuple[Place, Any]], findings: Findings) -> Records:
    objects = []
    for place, value in values:
        if isinstance(value, dict):
            objects.append((place, value))
        else:
            findings.reject(place, f"{described(value)}, not an object: write {{…}}")
    return objects


def repeated_fields(record: dict[str, Any], fields: Iterable[str]) -> list[str]:
    """Those of the fields that an object has more than once."""
    if not isinstance(record, RepeatedKeys):
        return []
    keys = [key for key, _ in record.pairs]
    return [field for field in fields if keys.count(field) > 1]
