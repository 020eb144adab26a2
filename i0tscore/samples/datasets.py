"""Hugging Face datasets, parquet files and WebDataset archives, with the images inside them."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from i0tscore.errors import SampleFileError, first_line
from i0tscore.samples.diagnostics import (
    Diagnostics,
    Location,
    Malformed,
    Record,
    preview,
)
from i0tscore.samples.images import IMAGE_SUFFIXES, MAX_BYTES
from i0tscore.samples.sample import StoredImage
from i0tscore.samples.schema import Schema
from i0tscore.samples.source import Source

SAVED = ("state.json", "dataset_dict.json")
"""``Dataset.save_to_disk`` writes one of these to its folder."""

MAX_TEXT_BYTES = 1_000_000
"""Captions and JSON members of an archive that are longer are refused before they are read."""

_BATCH_ROWS = 1000
_STREAM_ROWS = 64


def read_saved_dataset(source: Source) -> list[Record]:
    """Read a parquet file or a folder written by ``Dataset.save_to_disk``.

    Raises:
        SampleFileError: It cannot be read, or has several splits.
    """
    path = source.path
    with quiet_datasets() as datasets:
        try:
            read = datasets.load_from_disk if path.is_dir() else datasets.Dataset.from_parquet
            dataset = read(str(path))
        except Exception as error:  # the library raises exceptions of many libraries
            message = f"The datasets library cannot read it ({first_line(error)}). Write it again."
            raise SampleFileError(path, [message]) from error
    if isinstance(dataset, datasets.DatasetDict):
        splits = preview(sorted(dataset), 8)
        raise SampleFileError(path, [f"Expected one split, got several. Give the folder of one of them ({splits})."])
    return read_dataset(dataset, source.schema, source.diagnostics)


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


def _stored_image(cell: Any, number: int) -> Any:
    """Return an image inside a file as a source, a path unchanged."""
    path, content = (cell.get("path"), cell.get("bytes")) if isinstance(cell, dict) else (None, cell)
    return StoredImage(path or f"row {number}", content, bool(path)) if isinstance(content, bytes) else path or content


def stream_tar(source: Source) -> Iterator[Record]:
    """Yield the samples of an uncompressed WebDataset archive; nothing is written to disk.

    Files that share a name up to the first dot are one sample: an image with a ``.txt`` caption or ``.json``
    fields. The name is the id unless the JSON has one.

    Raises:
        SampleFileError: The archive cannot be read.
    """
    number, current, members = 0, "", dict[str, Any]()
    try:
        with tarfile.open(source.path, "r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if not member.isfile() or member.issparse() or name.name.startswith("."):
                    continue
                stem, _, suffix = name.name.partition(".")
                key = str(name.with_name(stem))
                if members and key != current:
                    number += 1
                    yield _tar_record(source.schema, number, current, members)
                    members = {}
                current = key
                _read_member(archive, member, suffix.lower(), members)
            if members:
                yield _tar_record(source.schema, number + 1, current, members)
    except (tarfile.TarError, OSError) as error:
        raise SampleFileError(source.path, [f"Not a readable tar archive ({error}). Write it again."]) from error


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, members: dict[str, Any]) -> None:
    """Add a member of a kind that counts; images stay in the archive until they are read."""
    kind = "image" if suffix in IMAGE_SUFFIXES else suffix
    if kind not in ("image", "txt", "json"):
        return
    limit = MAX_BYTES if kind == "image" else MAX_TEXT_BYTES
    if member.size > limit:
        members[kind] = Malformed(f"{member.name}: Expected at most {limit:,} bytes, got {member.size:,}. Shorten it.")
        return
    read = partial(_read_range, Path(str(archive.name)), member.offset_data, member.size)
    try:
        members[kind] = StoredImage(member.name, read) if kind == "image" else read().decode("utf-8-sig")
    except UnicodeDecodeError:
        members[kind] = Malformed("Expected UTF-8, got other bytes. Save it as UTF-8.")


def _read_range(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _tar_record(schema: Schema, number: int, key: str, members: dict[str, Any]) -> Record:
    record: dict[str, Any] = {}
    if "json" in members:
        fields = members["json"]
        try:
            fields = json.loads(fields) if isinstance(fields, str) else fields
        except (ValueError, RecursionError) as error:
            fields = Malformed(f"Invalid JSON ({error}). Correct it.")
        if isinstance(fields, dict):
            record = fields
        else:
            malformed = isinstance(fields, Malformed)
            record["caption"] = fields if malformed else Malformed("Expected a JSON object, got another value.")
    if schema.value(record, "id") is None:
        record["id"] = key
    if "txt" in members:
        caption = members["txt"]
        record["caption"] = caption.strip("\r\n") if isinstance(caption, str) else caption
    record["image"] = members.get("image", Malformed("The archive has no image of this name. Add one."))
    return schema.identify(Location(number, f"sample {number}"), record), record
