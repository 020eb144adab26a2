"""The columns of tables, and what readers of input formats are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from i0tscore.samples.diagnostics import ID_FIELDS, Diagnostics, Record, preview, quote
from i0tscore.samples.images import IMAGE_FIELDS

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
        """Return whether the columns suffice, and report it if they do not.

        Args:
            present: The names of the columns, which may repeat.
            diagnostics: Collects the problems.
            noun: What the format calls a column.
        """
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
