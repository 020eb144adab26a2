"""Shard files: reading captions with their images, and writing and reading Parquet files of results."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import I0TScoreError, InputError, UsageError
from i0tscore.results.report import dumps
from i0tscore.samples import Sample
from i0tscore.samples.diagnostics import Diagnostics
from i0tscore.samples.formats import FORMATS, SampleBuilder, captions_of, detect_format
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.schema import CAPTIONS, Schema
from i0tscore.samples.source import Source

SUFFIXES = tuple(suffix for form in FORMATS.values() if form.stream for suffix in form.suffixes)
"""Suffixes of the files in a folder that are shards."""

_KEY = b"i0tscore"
_DRAFT = ".draft"

Columns = Mapping[str, Any]

_SCHEMA = Schema(
    {name: columns for name, columns in CAPTIONS.columns.items() if name != "context"},
    CAPTIONS.required,
    {name: columns for name, columns in CAPTIONS.exclusive.items() if name != "context"},
)
"""The fields of captions without contexts, which are not scored in shards."""


class Entry(NamedTuple):
    """One caption of a shard: a sample, or the reason why there is none.

    Attributes:
        label: Location, unique in the shard.
        id: Id given in the shard, else the location.
        sample: The sample, or None.
        reason: Why there is no sample.
    """

    label: str
    id: str
    sample: Sample | None
    reason: str = ""


def find_shards(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Return the given files, and the ``.parquet`` and ``.tar`` files of the given folders, sorted by folder.

    Raises:
        InputError: A path does not exist, or a folder holds no shards.
        UsageError: A file has another suffix, or two shards have the same stem.
    """
    if not isinstance(paths, str | Path | Iterable):
        raise UsageError(
            f"Expected shards as paths, got {type(paths).__name__}. Write the dataset to a folder of Parquet files."
        )
    shards: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file() and p.name[0] != ".")
            if not found:
                raise InputError(f"{path}: Found no shards (.parquet, .tar) in this folder. Check the path.")
            shards += found
        elif not path.is_file():
            raise InputError(f"{path}: No such file. Check the path.")
        elif not any(path.suffix in form.suffixes for form in FORMATS.values()):
            raise UsageError(f"{path}: Expected a .parquet or .tar file, or captions in another format. Convert it.")
        else:
            shards.append(path)
    if not shards:
        raise InputError("Expected at least one shard, got none.")
    by_stem: dict[str, Path] = {}
    for shard in shards:
        other = by_stem.setdefault(shard.stem, shard)
        if other is not shard:
            raise UsageError(f"The scores of {other} and {shard} would go to one file. Rename one of them.")
    return shards


def read_entries(shard: Path, images: Path | None = None) -> Iterator[Entry]:
    """Yield the entries of a shard in order, with images from inside the shard or from a folder.

    Args:
        shard: File in one of the formats of ``docs/caption-files.md``, such as Parquet or WebDataset.
        images: Folder of images named in the shard; by default the shard's folder. Images outside it are not read.

    Raises:
        SampleFileError: The shard cannot be read or lacks a column.
    """
    folder = ImageFolder(images or shard.parent)
    diagnostics = Diagnostics()
    source = Source(shard, diagnostics, _SCHEMA)
    form = detect_format(source)
    for location, columns in (form.stream or form.read)(source):
        record = source.schema.fields(columns)
        captions = captions_of(record)
        for number, caption in enumerate(captions, start=1):
            label = f"{location.label}, caption {number}" if len(captions) > 1 else location.label
            found = Diagnostics()
            samples = SampleBuilder(folder, found, skip=True).build([(location, {**record, "caption": caption})])
            if samples:
                yield Entry(label, samples[0].id, samples[0])
            else:
                reasons = " ".join(message for _, message in found.row_errors)
                yield Entry(label, location.id or location.label, None, reasons)
    if diagnostics.file_errors:
        diagnostics.finish(shard, 0)
    for location, message in diagnostics.row_errors:
        yield Entry(location.label, location.id or location.label, None, message)


class ShardWriter:
    """Writes a Parquet file in parts; see ``write_shard``.

    Attributes:
        header: Written to the file's metadata on ``close``.
    """

    def __init__(self, path: Path) -> None:
        self.header: dict[str, Any] = {}
        self._path = path
        self._writer: Any = None

    def write(self, columns: Columns) -> None:
        """Append rows.

        Args:
            columns: Lists of strings or None, numbers (n,) of which NaN becomes null, vectors (n, d), or several
                vectors per row as a pair of counts (n,) and vectors (k, d).
        """
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet

        table = pyarrow.table({name: _to_arrow(values) for name, values in columns.items()})
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema, use_dictionary=False)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the metadata and close the file."""
        if self._writer is not None:
            self._writer.add_key_value_metadata({_KEY.decode(): dumps(self.header)})
            self._writer.close()
            self._writer = None


@contextmanager
def write_shard(path: Path) -> Iterator[ShardWriter]:
    """Write a file under a temporary name and rename it when it is complete.

    Raises:
        I0TScoreError: The file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{_DRAFT}")
    writer = ShardWriter(draft)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield writer
        writer.close()
        draft.replace(path)
    except OSError as error:
        raise I0TScoreError(f"Cannot write {path} ({error}). Choose another output folder.") from error
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove incomplete files of interrupted runs."""
    for draft in folder.glob(f".*{_DRAFT}"):
        draft.unlink(missing_ok=True)


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the ``header`` that a file was written with; None if there is no file.

    Raises:
        InputError: The file was not written by ``write_shard``.
    """
    import pyarrow
    from pyarrow import parquet

    if not path.exists():
        return None
    try:
        header = json.loads(parquet.read_metadata(path).metadata[_KEY])
        if isinstance(header, dict):
            return header
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError):
        pass
    raise InputError(f"{path} was not written by i0tscore. Choose another output folder.")


def read_parts(path: Path) -> Iterator[Columns]:
    """Yield the parts of a file as they were written; vectors are float32."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group).combine_chunks()
            yield {name: _from_arrow(table[name].combine_chunks()) for name in table.column_names}


def _to_arrow(values: Any) -> Any:
    import pyarrow

    if isinstance(values, tuple):
        counts, vectors = values
        offsets = pyarrow.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        return pyarrow.ListArray.from_arrays(offsets, _to_arrow(vectors))
    if not isinstance(values, np.ndarray):
        return pyarrow.array(values, pyarrow.string())
    if values.ndim == 1:
        return pyarrow.array(values, from_pandas=True)
    flat: NDArray[Any] = np.ascontiguousarray(values, dtype=np.float32).ravel()
    return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), values.shape[1])


def _from_arrow(column: Any) -> Any:
    import pyarrow

    if pyarrow.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    if pyarrow.types.is_list(column.type):
        return np.diff(column.offsets.to_numpy()), _from_arrow(column.flatten())
    return column.to_pylist() if pyarrow.types.is_string(column.type) else column.to_numpy()
