"""The columns that ratings are read from, and the records of a file that has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from i0tscore.errors import InputError, UsageError
from i0tscore.samples.hub_datasets import dataset_records, load_dataset
from i0tscore.samples.json_files import line_records, list_records
from i0tscore.samples.rows import Findings, few
from i0tscore.samples.tables import each_once, table_records

Records = list[tuple[int, dict[str, Any]]]

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table may be called; the first name that is there counts.

    Attributes:
        image: The image's name, path or content.
        caption: The rated caption.
        rating: The rating.
        references: Human captions, as a list.
        rater: Who rated.
        category: Part of the set.
        system: What wrote the caption.
    """

    image: tuple[str, ...] = ("image", "image_path", "file_name", "image_id", "id")
    caption: tuple[str, ...] = ("caption",)
    rating: tuple[str, ...] = ("rating",)
    references: tuple[str, ...] = ("references",)
    rater: tuple[str, ...] = ("rater",)
    category: tuple[str, ...] = ("category",)
    system: tuple[str, ...] = ("system",)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of every column."""
        return tuple(name for field in fields(self) for name in getattr(self, field.name))

    def chosen(self, present: Iterable[str]) -> dict[str, str]:
        """The column that each field is read from, by field."""
        there = set(present)
        found = {f.name: next((n for n in getattr(self, f.name) if n in there), None) for f in fields(self)}
        return {field: name for field, name in found.items() if name is not None}

    def suffice(self, present: list[str], findings: Findings) -> bool:
        """Whether image, caption and rating are there; if not, the file is refused."""
        chosen = self.chosen(present)
        missing = [field for field in ("image", "caption", "rating") if field not in chosen]
        for field in missing:
            names = " or ".join(f'"{name}"' for name in getattr(self, field))
            findings.refuse(f"no column {names} for the {field}: name it so (found: {few(present, 12)})")
        return not missing and each_once(self.names, present, findings)


HUB_COLUMNS = Columns(
    image=("img", "image", "imgid", "file_name", "id"),
    caption=("cand", "mt", "caption"),
    rating=("human_score", "score", "rating", "correctness"),
    references=("refs", "references"),
    category=("category", "source", "dataset"),
)
"""Names used by Composite, Polaris and Nebula, on the hub and in their CSV files."""


class Wanted(Protocol):
    """Columns that a reader looks for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a column may have."""

    @property
    def image(self) -> tuple[str, ...]:
        """Those of them that may hold images."""

    def suffice(self, present: list[str], findings: Findings) -> bool:
        """Whether the columns that must be there are there; if not, tell the findings."""


def read_records(path: Path, findings: Findings, columns: Wanted) -> Records:
    """Read a file's records with the columns wanted, unchecked; none where the columns do not suffice."""
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".parquet":
        return records_of_dataset(load_dataset(path, findings), findings, columns)
    if suffix in (".csv", ".tsv", ".tab"):
        delimiter = "," if suffix == ".csv" else "\t"
        return list(table_records(path, findings, delimiter, columns.suffice))
    readers: dict[str, Callable[[Path, Findings], Records]] = {
        ".json": list_records,
        ".jsonl": line_records,
        ".ndjson": line_records,
    }
    if suffix not in readers:
        raise UsageError(f"{path}: a table of ratings ends in {', '.join(TABLE_SUFFIXES)}: rename it")
    records = readers[suffix](path, findings)
    present = list(dict.fromkeys(field for _, record in records for field in record))
    return records if not records or columns.suffice(present, findings) else []


def records_of_dataset(dataset: Any, findings: Findings, columns: Wanted) -> Records:
    """The records of a data set; images inside it stay there. None where the columns do not suffice."""
    if dataset is None or not columns.suffice(list(dataset.column_names), findings):
        return []
    return list(dataset_records(dataset, columns.names, columns.image))
