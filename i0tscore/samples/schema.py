"""The columns of caption files: the names that each field may have, and the options that choose among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, lru_cache
from os import PathLike
from typing import Any, Final

from i0tscore.options import Options, option
from i0tscore.samples.diagnostics import Diagnostics, Location, Record, preview, quote

ID_FIELDS: Final = ("id", "image_id", "question_id", "img_id", "imgid")
IMAGE_FIELDS: Final = ("image", "image_path", "file_name", "filename", "image_file", "image_name", "img", "images")
URL_FIELDS: Final = ("image_url", "url")
CAPTION_FIELDS: Final = (
    "caption",
    "captions",
    "raw",
    "text",
    "answer",
    "response",
    "prediction",
    "generated_text",
    "generated_caption",
    "output",
    "caption_str",
    "sentence",
    "comment",
    "description",
    "conversations",
    "messages",
)
REFERENCE_FIELDS: Final = ("references", "reference", "refs", "reference_strs")
CONTEXT_FIELDS: Final = ("context", "article", "article_text", "page_title")

RENAME: Final = "Rename or add it."
_LISTED: Final = 12


@cache
def _plain(name: str) -> str:
    """Return a name without differences in case, spaces, and hyphens: ``Image Path`` becomes ``image_path``."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table, or the keys of its objects.

    Names are compared regardless of case, spaces, and hyphens.

    Attributes:
        columns: By field, the names its column may have; the first one with a value counts.
        required: Groups of fields of which at least one must be present, each with advice in case none is.
        exclusive: Names of which only one may be present, by field.
        others: Whether columns of other names are read as well.
        numbers: Fields that are numbers, besides the other columns.
    """

    columns: Mapping[str, tuple[str, ...]]
    required: Mapping[tuple[str, ...], str]
    exclusive: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: bool = False
    numbers: tuple[str, ...] = ()

    def find(self, present: Iterable[str], field: str) -> tuple[str, ...]:
        """Return the columns present that may hold a field, in the order in which they count."""
        return _find(tuple(present), self.columns.get(field, ()))

    def select(self, present: Iterable[str]) -> list[str]:
        """Return the columns to read, once each."""
        there = list(dict.fromkeys(present))
        known = {name for field in self.columns for name in self.find(there, field)}
        return [name for name in there if self.others or name in known]

    def numbers_in(self, present: Iterable[str]) -> list[str]:
        """Return the columns that hold numbers, once each."""
        there = list(present)
        known = {name: field for field in self.columns for name in self.find(there, field)}
        return [name for name in self.select(there) if name not in known or known[name] in self.numbers]

    def choose(self, present: Iterable[str]) -> dict[str, str]:
        """Return the first column present of each field, by field."""
        there = list(present)
        return {field: found[0] for field in self.columns if (found := self.find(there, field))}

    def value(self, record: Mapping[str, Any], field: str) -> Any:
        """Return the first value of a field that is not None; None if there is none."""
        return next((record[name] for name in self.find(record, field) if record[name] is not None), None)

    def fields(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record by field instead of by column."""
        return {field: self.value(record, field) for field in self.columns}

    def identify(self, location: Location, record: Mapping[str, Any]) -> Location:
        """Return the location of a record with its id added, if it has one."""
        identifier = self.value(record, "id")
        if location.id or not isinstance(identifier, str | int):
            return location
        return Location(location.position, f"{location.label} (id {quote(identifier)})", str(identifier))

    def check(self, present: Sequence[str], diagnostics: Diagnostics, noun: str = "column") -> bool:
        """Return whether the columns present suffice, and report it if not; the format calls a column ``noun``."""
        read = self.select(present)
        missing: dict[str, list[str]] = {}
        wanted: list[str] = []
        for fields, advice in self.required.items():
            if not any(self.find(present, field) for field in fields):
                names = [name for field in fields for name in self.columns[field]]
                wanted += names
                listed = " or ".join(quote(self.columns[field][0]) for field in fields)
                missing.setdefault(advice, []).append(f"a {noun} {'such as ' if len(names) > 1 else ''}{listed}")
        unread = [name for name in dict.fromkeys(present) if name not in read]
        similar = list(self._similar(unread))
        for advice, expected in missing.items():
            found = preview(sorted(set(present)), _LISTED) or "none"
            near = next((name for name, known in similar if known in wanted), None)
            hint = f" Did you mean {quote(near)}?" if near else ""
            diagnostics.file_error(f"Expected {' and '.join(expected)}, found {found}. {advice}{hint}")
        counts = Counter(present)
        repeated = [name for name in read if counts[name] > 1]
        if repeated:
            diagnostics.file_error(f"line 1: The {noun} {preview(repeated)} occurs more than once. Keep one.")
        exclusive = {
            name: group for name, names in self.exclusive.items() if len(group := _find(tuple(present), names)) > 1
        }
        for name, group in exclusive.items():
            diagnostics.file_error(
                f"Expected one {noun} for the {name}, found {preview(group, _LISTED)}. Choose one with "
                f"--{name}-column ({name}_column=)."
            )
        if similar and not missing:
            listed = ", ".join(f"{quote(name)} (did you mean {quote(known)}?)" for name, known in similar)
            diagnostics.notes.append(f"These {noun}s are ignored: {listed}.")
        return not missing and not repeated and not exclusive

    def _similar(self, unread: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield the columns not read that look like a known one, with the known one."""
        known = dict.fromkeys(name for names in self.columns.values() for name in names if len(name) > 2)
        for name in unread:
            bare = re.sub(r"_?\d+$", "", _plain(name))
            if bare and (close := get_close_matches(bare, known, n=1, cutoff=0.85)):
                yield name, close[0]


@lru_cache(4096)
def _find(present: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names present, in the order of ``names``; the exact name before others that are equal but for case."""
    by_name: dict[str, list[str]] = {}
    for name in dict.fromkeys(present):
        by_name.setdefault(_plain(name), []).append(name)
    found = [[name] if name in present else by_name.get(_plain(name), []) for name in names]
    return tuple(dict.fromkeys(name for group in found for name in group))


CAPTIONS: Final = Schema(
    {
        "id": ID_FIELDS,
        "image": (*IMAGE_FIELDS, "image_id", *URL_FIELDS),
        "caption": CAPTION_FIELDS,
        "references": REFERENCE_FIELDS,
        "context": CONTEXT_FIELDS,
        "split": ("split",),
    },
    {
        ("caption",): "Name it with --caption-column (caption_column=).",
        ("id", "image"): "Name it with --image-column (image_column=).",
    },
    {"caption": CAPTION_FIELDS, "image": IMAGE_FIELDS, "references": REFERENCE_FIELDS, "context": CONTEXT_FIELDS},
)
"""The fields of captions."""


@dataclass(frozen=True)
class ReadOptions(Options):
    """How a caption file is read.

    A field with a help text is also an option of the command line.

    Attributes:
        input_format: One of ``INPUT_FORMATS``; detected from suffix and content if None.
        annotations: COCO annotations or a Karpathy split with the images of COCO results.
        caption_column: The column or key of the captions; the usual names are tried if None.
        image_column: The column or key of the images.
        id_column: The column or key of the ids.
        references_column: The column or key of the references.
        context_column: The column or key of the contexts, the texts in which the images appear.
        split: Read only the rows of this split.
        turn: The assistant turn that is the caption of a conversation, from 1; from the end if negative.
        download: Whether to download images given by URL.
        download_private: Whether to download images, also from private addresses.

    Raises:
        UsageError: A value is not allowed.
    """

    input_format: str | None = option("Format of the captions.", default_text="detected from the content")
    annotations: str | PathLike[str] | None = option(
        "COCO annotations or a Karpathy split with the images of COCO results.", path="FILE"
    )
    caption_column: str | None = option("Column or key of the captions.", metavar="NAME")
    image_column: str | None = option("Column or key of the images.", metavar="NAME")
    id_column: str | None = option("Column or key of the ids.", metavar="NAME")
    references_column: str | None = None
    context_column: str | None = option("Column or key of the text in which the image appears.", metavar="NAME")
    split: str | None = option("Read only this split.", metavar="NAME")
    turn: int = option(
        "Assistant turn to use as the caption of a conversation: 1 is the first, -1 the last.",
        -1,
        metavar="N",
    )
    download: bool = option("Download images given by URL (http or https).", False)
    download_private: bool = option("Like --download, but allow private addresses, such as localhost.", False)

    def schema(self) -> Schema:
        """Return the columns to read."""
        columns, exclusive, required = dict(CAPTIONS.columns), dict(CAPTIONS.exclusive), dict(CAPTIONS.required)
        for name in ("id", "image", "caption", "references", "context"):
            column = getattr(self, f"{name}_column")
            if column is not None:
                columns[name] = (column,)
                exclusive.pop(name, None)
                required[(name,)] = "Correct the name."
        return Schema(columns, required, exclusive)


def fields_of(records: Iterable[Record]) -> list[str]:
    """Return the fields that any record has, once each."""
    return list(dict.fromkeys(field for _, record in records for field in record))
