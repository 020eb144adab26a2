"""Hugging Face datasets and parquet files, with the images inside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from i0tscore.errors import SampleFileError, first_line
from i0tscore.samples.diagnostics import (
    Diagnostics,
    Location,
    Record,
    preview,
)
from i0tscore.samples.sample import StoredImage
from i0tscore.samples.schema import Schema
from i0tscore.samples.source import Source

SAVED = ("state.json", "dataset_dict.json")
"""``Dataset.save_to_disk`` writes one of these to its folder."""

_BATCH_ROWS = 1000
_STREAM_ROWS = 64


def read_saved_dataset(source: Source) -> list[Record]:
    """Read a parquet file, a folder of such files in their order, or a folder written by ``Dataset.save_to_disk``.

    Raises:
        SampleFileError: It cannot be read, or has several splits.
    """
    path = source.path
    files = parquet_files(path) if path.is_dir() else [path]
    if len(files) > 1:
        source.diagnostics.notes.append(f"Files are read in this order: {preview((file.name for file in files), 8)}.")
    with quiet_datasets() as datasets:
        try:
            if path.is_dir() and is_saved_dataset(path):
                dataset = datasets.load_from_disk(str(path))
            else:
                dataset = datasets.Dataset.from_parquet([str(file) for file in files])
        except Exception as error:  # the library raises exceptions of many libraries
            message = f"The datasets library cannot read it ({first_line(error)}). Write it again."
            raise SampleFileError(path, [message]) from error
    if isinstance(dataset, datasets.DatasetDict):
        splits = preview(sorted(dataset), 8)
        raise SampleFileError(path, [f"Expected one split, got several. Give the folder of one of them ({splits})."])
    return read_dataset(dataset, source.schema, source.diagnostics)


def is_saved_dataset(folder: Path) -> bool:
    """Return whether ``Dataset.save_to_disk`` wrote a folder."""
    return any((folder / name).is_file() for name in SAVED)


def is_dataset_folder(folder: Path) -> bool:
    """Return whether a folder holds a dataset."""
    return is_saved_dataset(folder) or bool(parquet_files(folder))


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files in a folder, in the order in which they are read."""
    return sorted(p for p in folder.glob("*.parquet") if p.is_file() and not p.name.startswith("."))


def read_dataset(dataset: Any, schema: Schema, diagnostics: Diagnostics) -> list[Record]:
    """Return the rows of a ``datasets.Dataset``, whose images stay on disk; none if its columns do not suffice."""
    if not schema.check(dataset.column_names, diagnostics):
        return []
    columns = schema.select(dataset.column_names)
    images = schema.find(columns, "image")
    table = dataset.select_columns(columns).with_format("arrow")
    records: list[Record] = []
    for batch in table.iter(batch_size=_BATCH_ROWS):
        cells = [
            _image_cells(batch[name], name, len(records), table) if name in images else batch[name].to_pylist()
            for name in columns
        ]
        for row in zip(*cells, strict=True):
            record = dict(zip(columns, row, strict=True))
            number = len(records) + 1
            records.append((schema.identify(Location(number, f"row {number}"), record), record))
    return records


def _image_cells(column: Any, name: str, first: int, table: Any) -> list[Any]:
    """Convert a column to paths and stored images without touching the bytes of images."""
    parts = [column.type.field(index).name for index in range(column.type.num_fields)]
    if {"bytes", "path"} <= set(parts):
        fields = dict(zip(parts, column.flatten(), strict=True))
        paths, stored = fields["path"].to_pylist(), fields["bytes"].is_valid().to_pylist()
    elif str(column.type) in ("binary", "large_binary"):
        paths, stored = [None] * len(column), column.is_valid().to_pylist()
    else:
        return list(column.to_pylist())
    return [
        StoredImage(path or f"row {row + 1}", partial(_read_cell, table, row, name), bool(path)) if inside else path
        for row, (path, inside) in enumerate(zip(paths, stored, strict=True), start=first)
    ]


def _read_cell(table: Any, row: int, column: str) -> bytes:
    value = table[row][column][0].as_py()
    return bytes(value["bytes"] if isinstance(value, dict) else value)


@contextlib.contextmanager
def quiet_datasets() -> Iterator[Any]:
    """Yield the ``datasets`` library with its progress bars and log turned off; errors are raised anyway."""
    import datasets

    enabled = not datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield datasets
    finally:
        datasets.logging.set_verbosity(verbosity)
        if enabled:
            datasets.enable_progress_bars()


def stream_parquet(source: Source) -> Iterator[Record]:
    """Yield the rows of a parquet file, a few in memory at a time, with the content of their images.

    Raises:
        SampleFileError: The file cannot be read.
    """
    schema = source.schema
    with open_parquet(source.path) as file:
        present = file.schema_arrow.names
        if not schema.check(present, source.diagnostics):
            return
        number = 0
        for batch in file.iter_batches(_STREAM_ROWS, columns=schema.select(present)):
            for record in batch.to_pylist():
                number += 1
                for name in schema.find(record, "image"):
                    record[name] = _stored_image(record[name], number)
                yield schema.identify(Location(number, f"row {number}"), record), record


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a parquet file without reading its rows.

    Raises:
        SampleFileError: The file cannot be read.
    """
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    try:
        with ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise SampleFileError(path, [f"Not a readable parquet file ({error}). Write it again."]) from error


def parquet_batches(path: Path, rows: int) -> Iterator[Any]:
    """Yield the rows of a parquet file in batches; raises as ``open_parquet``."""
    with open_parquet(path) as file:
        yield from file.iter_batches(rows)


def _stored_image(cell: Any, number: int) -> Any:
    """Return an image inside a file as a source, a path unchanged."""
    path, content = (cell.get("path"), cell.get("bytes")) if isinstance(cell, dict) else (None, cell)
    return StoredImage(path or f"row {number}", content, bool(path)) if isinstance(content, bytes) else path or content
