"""Cache of embeddings on disk, by content: one SQLite file for each embedding space and precision."""

from __future__ import annotations

import hashlib
import os
import random
import re
import sqlite3
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.base import Encoder, Tokens
from i0tscore.files import default_cache_dir

Result = TypeVar("Result")

FORMAT = 2
"""Version of the entries. Increase it when decoding, preprocessing, or tokenizing changes."""

_ATTEMPTS = 100
_SET_UP = (
    # With a write-ahead log, readers and one writer do not block each other. Where the file system does not support
    # it, SQLite stays with its default, which is as safe.
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE IF NOT EXISTS embeddings "
    "(kind TEXT, key TEXT, vector BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
    "SELECT kind, key, vector FROM embeddings LIMIT 1",
    "CREATE TABLE IF NOT EXISTS tokens "
    "(tokenizer TEXT, text TEXT, ids BLOB NOT NULL, cut INTEGER, unknown INTEGER, PRIMARY KEY (tokenizer, text)) "
    "WITHOUT ROWID",
)


class EmbeddingCache:
    """Unit float32 embeddings of one encoder, by kind and content hash.

    Several processes can share a folder. A damaged file is moved aside with a warning. If the cache cannot be read or
    written, it warns once and stays empty.

    Args:
        encoder: The encoder. Its weights, activation, preprocessing, and precision determine the file name.
        folder: Folder of the files. Default: ``default_cache_dir()``.

    Attributes:
        path: The SQLite file.
        used: Number of embeddings that were read from it or written to it.
    """

    def __init__(self, encoder: Encoder, folder: str | os.PathLike[str] | None = None) -> None:
        name = f"v{FORMAT}.{encoder.fingerprint.space}.{encoder.fingerprint.precision}.sqlite"
        self.path = Path(folder or default_cache_dir()) / re.sub(r"[^\w.-]", "_", name)
        self._bytes = encoder.dimension * 4
        self.used = 0
        self._database: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = _connect(self.path)
        except (OSError, sqlite3.OperationalError) as error:
            self._disable(error)
        except sqlite3.DatabaseError as error:
            self._replace(error)

    def get(self, kind: str, key: str) -> NDArray[np.float32] | None:
        """Return the embedding (d,) of a content, or None if it is not cached."""
        row = self._find("SELECT vector FROM embeddings WHERE kind = ? AND key = ?", kind, key)
        if row is None or len(row[0]) != self._bytes:
            return None
        vector = np.frombuffer(row[0], dtype="<f4").astype(np.float32)
        # All stored vectors have unit length: others were damaged on disk.
        if not abs(float(np.linalg.norm(vector)) - 1) < 1e-3:  # also for NaN
            return None
        self.used += 1
        return vector

    def put(self, kind: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Store embeddings (d,) by content hash."""
        rows = [(kind, key, np.asarray(vector, dtype="<f4").tobytes()) for key, vector in vectors.items()]
        if self._run(lambda database: database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)):
            self.used += len(rows)

    def get_tokens(self, tokenizer: str, texts: Sequence[str]) -> dict[str, Tokens]:
        """Return the tokens of the texts that are cached for a tokenizer."""
        query = "SELECT ids, cut, unknown FROM tokens WHERE tokenizer = ? AND text = ?"
        found = {}
        for text in dict.fromkeys(texts):
            row = self._find(query, tokenizer, _text_key(text))
            if row is not None and row[0] and len(row[0]) % 4 == 0:
                found[text] = Tokens(tuple(np.frombuffer(row[0], dtype="<i4").tolist()), row[1], row[2])
        return found

    def put_tokens(self, tokenizer: str, tokens: Mapping[str, Tokens]) -> None:
        """Store the tokens of texts."""
        rows = [
            (tokenizer, _text_key(text), np.array(one.ids, dtype="<i4").tobytes(), one.cut, one.unknown)
            for text, one in tokens.items()
        ]
        self._run(lambda database: database.executemany("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?)", rows))

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, query: str, *key: str) -> tuple[Any, ...] | None:
        """Return the row that a query finds, or None."""
        return self._run(lambda database: database.execute(query, key).fetchone())

    def _run(self, step: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Run a step in a transaction; a problem with the file only costs time, so it never stops the run."""
        if self._database is None:
            return None
        try:
            with self._database:
                return step(self._database)
        except sqlite3.OperationalError as error:
            self._disable(error)
        except sqlite3.DatabaseError as error:
            self._replace(error)
        return None

    def _replace(self, error: Exception) -> None:
        """Move a damaged file aside and start a new one."""
        self.close()
        aside = self.path.with_suffix(".damaged")
        _warn(f"The embedding cache {self.path} is damaged ({error}). Moved it to {aside.name} and started a new one.")
        try:
            self.path.replace(aside)
            for journal in ("-wal", "-shm"):
                Path(f"{self.path}{journal}").unlink(missing_ok=True)
            self._database = _connect(self.path)
        except (OSError, sqlite3.Error) as failure:
            self._disable(failure)

    def _disable(self, error: Exception) -> None:
        self.close()
        _warn(
            f"The embedding cache {self.path} cannot be used ({error}). Continuing without it. Choose another folder "
            "with I0TSCORE_CACHE or --cache-dir, or use --no-cache."
        )


def _text_key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file and create its table, waiting while another process does so, which SQLite does not."""
    for attempt in range(_ATTEMPTS):
        database = sqlite3.connect(path, timeout=30)
        try:
            for statement in _SET_UP:
                database.execute(statement).fetchone()
            return database
        except sqlite3.Error as error:
            database.close()
            busy = isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311  (spreads out the attempts of several processes)
    raise AssertionError("unreachable")


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
