"""Hugging Face data sets on disk: a ``save_to_disk`` folder or a parquet file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i0tscore.errors import InputError, SampleFileError
from i0tscore.samples.rows import Diagnostics, Location, Records, Wanted, preview

SAVED = ("state.json", "dataset_dict.json")
"""One of these is in every folder that ``Dataset.save_to_disk`` wrote."""
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""One of these describes an image folder."""

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class EmbeddedImage:
    """An image inside a data set, read from disk when it is asked for.

    Attributes:
        name: The file name it was stored with, or its row's.
        row: The row, counted from 0.
        column: The column it stands in.
        table: The data set, in its Arrow form; a view of the file, not its content.
    """

    name: str
    row: int
    column: str
    table: Any

    def read_bytes(self) -> bytes:
        """Read the encoded image."""
        value = self.table[self.row][self.column][0].as_py()
        return bytes(value["bytes"] if isinstance(value, dict) else value)

    def __repr__(self) -> str:
        return f"EmbeddedImage({self.name!r}, row={self.row})"

    def __str__(self) -> str:
        return self.name


def dataset_records(dataset: Any, diagnostics: Diagnostics, wanted: Wanted) -> Records:
    """The rows of a data set with the columns wanted; none where these do not suffice.

    Args:
        dataset: Of the datasets library; images inside it stay there until they are scored.
        diagnostics: Told why the columns do not suffice.
        wanted: Which columns.
    """
    if dataset is None or not wanted.suffice(list(dataset.column_names), diagnostics):
        return []
    columns = [name for name in dict.fromkeys(wanted.names) if name in dataset.column_names]
    table = dataset.select_columns(columns).with_format("arrow")
    found: Records = []
    for batch in table.iter(batch_size=_ROWS_AT_ONCE):
        cells = {
            name: _images(batch[name], name, len(found), table) if name in wanted.image else batch[name].to_pylist()
            for name in columns
        }
        rows = zip(*cells.values(), strict=True)
        found += [
            (Location(number, f"row {number}"), dict(zip(cells, row, strict=True)))
            for number, row in enumerate(rows, start=len(found) + 1)
        ]
    return found


def load_hub_dataset(name: str, configuration: str | None, split: str) -> Any:
    """Load a data set from the Hugging Face hub, or from its cache where the hub cannot be reached.

    Raises:
        InputError: It is in neither.
    """
    import datasets

    with _quiet(datasets):
        try:
            return datasets.load_dataset(name, configuration, split=split)
        except Exception as error:  # the library lets exceptions of many libraries through
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{name}: neither reachable nor cached ({reason}): give a folder that holds the set"
            ) from error


def load_dataset(path: Path, diagnostics: Diagnostics) -> Any:
    """Open the data set, or refuse it and return None."""
    import datasets

    with _quiet(datasets):
        try:
            read = datasets.load_from_disk if path.is_dir() else datasets.Dataset.from_parquet
            dataset = read(str(path))
        except Exception as error:  # the library lets exceptions of many libraries through
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SampleFileError(path, [f"the datasets library cannot read it ({reason}): write it anew"]) from error
    if isinstance(dataset, datasets.DatasetDict):
        diagnostics.file_error(
            f"a data set of several splits: give the folder of one of them ({preview(sorted(dataset), 8)})"
        )
        return None
    return dataset


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without the library's progress bars and log; what goes wrong is raised."""
    shown = not datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()


def _images(column: Any, name: str, first: int, table: Any) -> list[object]:
    """Turn a column into paths and embedded images without touching the images' bytes."""
    names = [column.type.field(index).name for index in range(column.type.num_fields)]
    if {"bytes", "path"} <= set(names):
        parts = dict(zip(names, column.flatten(), strict=True))
        paths = parts["path"].to_pylist()
        embedded = parts["bytes"].is_valid().to_pylist()
    elif str(column.type) in ("binary", "large_binary"):
        paths = [None] * len(column)
        embedded = column.is_valid().to_pylist()
    else:
        return list(column.to_pylist())
    return [
        EmbeddedImage(path or f"row {row + 1}", row, name, table) if inside else path
        for row, (path, inside) in enumerate(zip(paths, embedded, strict=True), start=first)
    ]
