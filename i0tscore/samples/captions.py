"""Captions in tables of every form, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from i0tscore.samples.rating_files import columns
from i0tscore.samples.records import DELIMITERS, read_records
from i0tscore.samples.rows import (
    FIELDS,
    ID_FIELDS,
    IMAGE_FIELDS,
    Diagnostics,
    Location,
    Malformed,
    Row,
    first_filled,
    identified,
    preview,
)
from i0tscore.samples.tables import each_once
from i0tscore.samples.text import parse_json


@dataclass(frozen=True, slots=True)
class CaptionFields:
    """The fields of captions.

    Attributes:
        kind: What a field is called in messages.
    """

    kind: str = "column"

    @property
    def names(self) -> tuple[str, ...]:
        """All that are looked at."""
        return FIELDS

    @property
    def image(self) -> tuple[str, ...]:
        """Those that may hold images."""
        return IMAGE_FIELDS

    def suffice(self, present: list[str], diagnostics: Diagnostics) -> bool:
        """Whether the fields can make samples; if not, the file is refused."""
        missing = [] if "caption" in present else ['"caption"']
        if set(present).isdisjoint((*ID_FIELDS, *IMAGE_FIELDS)):
            missing.append("one of " + ", ".join(f'"{name}"' for name in (*ID_FIELDS, *IMAGE_FIELDS)))
        if missing:
            found = preview(sorted(present), 8) or "none"
            diagnostics.file_error(f"no {self.kind} {' and no '.join(missing)}: name it so (found: {found})")
        return not missing and each_once(FIELDS, present, diagnostics)


def read_captions(path: Path, form: str, diagnostics: Diagnostics) -> list[Row]:
    """Read captions.

    Args:
        path: The file, or the folder of a data set.
        form: ``json``, ``jsonl``, ``csv``, ``tsv`` or ``datasets``.
        diagnostics: Takes the problems.
    """
    fields = CaptionFields("object has the key" if form in ("json", "jsonl") else "column")
    records = read_records(path, diagnostics, fields, form)
    if form in DELIMITERS:
        return [caption_row(place, _filled(record)) for place, record in records]
    return [caption_row(place, record) for place, record in records]


def read_numbered(path: Path, diagnostics: Diagnostics) -> list[Row]:
    """Read lines of ``image#number``, a tab and a caption, as Flickr8k's captions are written."""
    return [
        Row(place, None, name.rpartition("#")[0] or name, caption)
        for place, (name, caption) in columns(path, diagnostics, ("image#number", "caption"))
    ]


def caption_row(place: Location, record: dict[str, object]) -> Row:
    """The row of an object with named fields; of several names of a field the first that is filled counts."""
    image = first_filled(record, (*IMAGE_FIELDS, "image_id", "id"))
    return Row(
        identified(place, record),
        first_filled(record, ID_FIELDS),
        image,
        record.get("caption"),
        record.get("references"),
    )


def _filled(record: dict[str, str]) -> dict[str, object]:
    """The cells of a table; an empty one is as good as none, save the caption's."""
    filled: dict[str, object] = {name: cell for name, cell in record.items() if cell.strip() or name == "caption"}
    if "references" in filled:
        filled["references"] = _references(record["references"])
    return filled


def _references(cell: str) -> object:
    """Read a cell that holds a JSON list, or one reference as it is."""
    if not cell.lstrip().startswith("["):
        return cell
    value, problems = parse_json(cell, 1)
    if problems:
        return Malformed(f'the references are no JSON list ({problems[0]}): write ["one", "two"]')
    return value
