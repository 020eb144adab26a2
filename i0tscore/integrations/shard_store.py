"""Writes what is made of a shard as a parquet file: whole or not at all, and with what it is made by."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import I0TScoreError, InputError
from i0tscore.results.report import dumps

_KEY = b"i0tscore"
_DRAFT = ".draft"

Columns = Mapping[str, Any]


class ShardWriter:
    """Writes a parquet file part by part; see ``write_shard``.

    Attributes:
        header: Written into the file's metadata when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self.header: dict[str, Any] = {}
        self._path = path
        self._writer: Any = None

    def write(self, columns: Columns) -> None:
        """Append rows.

        Args:
            columns: Lists of texts or None, numbers (n,) of which NaN becomes null, vectors (n, d), and
                several vectors a row as a pair of how many (n,) and all of them (k, d).
        """
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet

        table = pyarrow.table({name: _column(values) for name, values in columns.items()})
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema, use_dictionary=False)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the metadata and finish the file."""
        if self._writer is not None:
            self._writer.add_key_value_metadata({_KEY.decode(): dumps(self.header)})
            self._writer.close()
            self._writer = None


@contextmanager
def write_shard(path: Path) -> Iterator[ShardWriter]:
    """Write a file under another name and rename it when it is whole.

    Raises:
        I0TScoreError: It cannot be written.
    """
    draft = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{_DRAFT}")
    writer = ShardWriter(draft)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield writer
        writer.close()
        draft.replace(path)
    except OSError as error:
        raise I0TScoreError(f"{path} cannot be written ({error}): choose another place") from error
    finally:
        draft.unlink(missing_ok=True)


def read_header(path: Path) -> dict[str, Any] | None:
    """What ``ShardWriter.header`` was when the file was written; None where there is no such file.

    Raises:
        InputError: There is a file, but not one of ours.
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
    raise InputError(f"{path} was not written by i0tscore: choose another output folder")


def read_parts(path: Path) -> Iterator[Columns]:
    """The rows as they were written, part by part; vectors are float32."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group).combine_chunks()
            columns: dict[str, Any] = {}
            for name in table.column_names:
                columns[name] = _values(table[name].combine_chunks())
            yield columns


def remove_drafts(folder: Path) -> None:
    """Remove what interrupted runs left half written."""
    for draft in folder.glob(f".*{_DRAFT}"):
        draft.unlink(missing_ok=True)


def _column(values: Any) -> Any:
    import pyarrow

    if isinstance(values, tuple):
        counts, vectors = values
        offsets = pyarrow.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        return pyarrow.ListArray.from_arrays(offsets, _vectors(vectors))
    if not isinstance(values, np.ndarray):
        return pyarrow.array(values, pyarrow.string())
    return _vectors(values) if values.ndim == 2 else pyarrow.array(values, from_pandas=True)


def _vectors(values: NDArray[Any]) -> Any:
    import pyarrow

    flat = pyarrow.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _values(column: Any) -> Any:
    import pyarrow

    if pyarrow.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    if pyarrow.types.is_list(column.type):
        return np.diff(column.offsets.to_numpy()), _values(column.flatten())
    return column.to_pylist() if pyarrow.types.is_string(column.type) else column.to_numpy()
