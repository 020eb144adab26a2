"""The records of any table: CSV, TSV, a JSON list, JSON lines, and data sets of the datasets library."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from i0tscore.errors import InputError, UsageError
from i0tscore.samples.hub_datasets import dataset_records, load_dataset
from i0tscore.samples.json_files import line_records, list_records, repeated_fields
from i0tscore.samples.rows import Diagnostics, Records, Wanted, identified, preview
from i0tscore.samples.tables import table_records

SUFFIXES: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "datasets",
}
"""Forms of tables by suffix."""

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}


def read_records(path: Path, diagnostics: Diagnostics, wanted: Wanted, form: str | None = None) -> Records:
    """Read the records of a table, unchecked; none where their fields do not suffice.

    Args:
        path: The table, or a folder written by ``Dataset.save_to_disk``.
        diagnostics: Takes the problems.
        wanted: Which fields are looked for.
        form: One of the values of ``SUFFIXES``; told by the suffix if None.

    Raises:
        InputError: The file cannot be read.
        UsageError: Its form is not told by its suffix.
    """
    form = form or _form(path)
    if form == "datasets":
        return dataset_records(load_dataset(path, diagnostics), diagnostics, wanted)
    if form in DELIMITERS:
        return table_records(path, diagnostics, DELIMITERS[form], wanted.suffice)
    found = list_records(path, diagnostics) if form == "json" else line_records(path, diagnostics)
    records = []
    for place, record in found:
        if repeated := repeated_fields(record, wanted.names):
            what = f"{preview(repeated)} is written more than once: keep one"
            diagnostics.row_error(identified(place, record), what)
        else:
            records.append((place, record))
    return records if not records or wanted.suffice(fields_of(records), diagnostics) else []


def fields_of(records: Records) -> list[str]:
    """The fields that any record has, once each."""
    return list(dict.fromkeys(field for _, record in records for field in record))


def refuse_copies(records: Records, diagnostics: Diagnostics, advice: str) -> None:
    """Reject rows equal to another in every column: each may be a copy, or another rater's.

    Args:
        records: All rows.
        diagnostics: Takes those that are equal to one before.
        advice: What to do if it is no copy.
    """
    first: dict[str, str] = {}
    for place, record in records:
        before = first.setdefault(repr(sorted(record.items())), place.label)
        if before != place.label:
            diagnostics.row_error(place, f"equal to {before} in every column: remove it, or {advice}")


def _form(path: Path) -> str:
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path")
    if path.is_dir():
        return "datasets"
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a table ends in {', '.join(SUFFIXES)}: rename it")
    return SUFFIXES[path.suffix.lower()]
