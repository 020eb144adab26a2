"""Embeddings kept on disk by content, one SQLite file for each embedding space and precision."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from i0tscore.encoders.base import Encoder

Result = TypeVar("Result")

_ATTEMPTS = 100

FORMAT = 1
"""Raised when decoding, preprocessing or tokenizing changes, so that old entries are not found."""


def default_cache_dir() -> Path:
    """Where the cache lives: ``I0TSCORE_CACHE``, else the user's cache folder of the platform."""
    import platformdirs

    return Path(os.environ.get("I0TSCORE_CACHE") or platformdirs.user_cache_dir("i0tscore", appauthor=False))


class EmbeddingCache:
    """Unit float32 embeddings of one encoder, by kind and content hash.

    Several processes may use one folder at once. A damaged file is set aside with a warning and begun
    anew; where nothing can be written, the cache warns once and holds nothing.

    Args:
        encoder: Whose embeddings these are: model weights, activation, preprocessing and precision
            together name the file.
        folder: Where the files are, by default ``default_cache_dir()``.

    Attributes:
        path: The SQLite file.
    """

    WRITE_AFTER = 1024

    def __init__(self, encoder: Encoder, folder: str | os.PathLike[str] | None = None) -> None:
        name = f"v{FORMAT}.{encoder.fingerprint.space}.{encoder.fingerprint.precision}.sqlite"
        self.path = Path(folder or default_cache_dir()) / re.sub(r"[^\w.-]", "_", name)
        self._bytes = encoder.dimension * 4
        self._waiting: dict[tuple[str, str], bytes] = {}
        self._database = self._open()

    def get(self, kind: str, key: str) -> npt.NDArray[np.float32] | None:
        """The embedding of a content, or None if it is not there."""
        stored = self._waiting.get((kind, key))
        if stored is None:
            stored = self._select(kind, key)
        if stored is None or len(stored) != self._bytes:
            return None
        vector = np.frombuffer(stored, dtype="<f4").astype(np.float32)
        # Every stored vector is of unit length: one that is not was damaged on disk.
        return vector if abs(float(np.linalg.norm(vector)) - 1) < 1e-3 else None

    def put(self, kind: str, vectors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Keep embeddings (d,) by their content's hash; written to disk now and then, and on ``flush``."""
        if self._database is None:
            return
        for key, vector in vectors.items():
            self._waiting[kind, key] = np.asarray(vector, dtype="<f4").tobytes()
        if len(self._waiting) >= self.WRITE_AFTER:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        rows = [(kind, key, value) for (kind, key), value in self._waiting.items()]
        self._waiting.clear()
        if self._database is not None and rows:
            self._guard(lambda database: _insert(database, rows))

    def close(self) -> None:
        """Write what is waiting and close the file."""
        self.flush()
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _select(self, kind: str, key: str) -> bytes | None:
        query = "SELECT vector FROM embeddings WHERE kind = ? AND key = ?"
        row: tuple[bytes] | None = self._guard(lambda database: database.execute(query, (kind, key)).fetchone())
        return row[0] if row else None

    def _open(self) -> sqlite3.Connection | None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return _connect(self.path)
        except (OSError, sqlite3.OperationalError) as error:
            return _give_up(self.path, error)
        except sqlite3.DatabaseError as error:
            return self._begin_anew(error)

    def _guard(self, step: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Run a step; what goes wrong with the file costs time, never the run."""
        if self._database is None:
            return None
        try:
            return step(self._database)
        except sqlite3.OperationalError as error:
            self._database = _give_up(self.path, error)
        except sqlite3.DatabaseError as error:
            self._database.close()
            self._database = self._begin_anew(error)
        return None

    def _begin_anew(self, error: Exception) -> sqlite3.Connection | None:
        aside = self.path.with_suffix(".damaged")
        _warn(f"embedding cache {self.path} is damaged ({error}): moved to {aside.name} and begun anew")
        try:
            self.path.replace(aside)
            for journal in ("-wal", "-shm"):
                Path(f"{self.path}{journal}").unlink(missing_ok=True)
            return _connect(self.path)
        except (OSError, sqlite3.Error) as failure:
            return _give_up(self.path, failure)


def _give_up(path: Path, error: Exception) -> sqlite3.Connection | None:
    _warn(
        f"embedding cache {path} cannot be used ({error}): going on without; "
        "choose another folder with I0TSCORE_CACHE or --cache-dir, or none with --no-cache"
    )
    return None


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file; SQLite does not wait by itself while another process sets it up, so this does."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return _set_up(path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311  (only so that two do not keep step)
    return _set_up(path)


def _set_up(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30)
    try:
        # Readers and one writer at a time do not wait for each other; where a file system cannot do
        # that, SQLite stays with its default, which is as safe.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        columns = "kind TEXT, key TEXT, vector BLOB NOT NULL, PRIMARY KEY (kind, key)"
        database.execute(f"CREATE TABLE IF NOT EXISTS embeddings ({columns}) WITHOUT ROWID")
        database.execute("SELECT kind, key, vector FROM embeddings LIMIT 1").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _insert(database: sqlite3.Connection, rows: list[tuple[str, str, bytes]]) -> None:
    with database:
        database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
