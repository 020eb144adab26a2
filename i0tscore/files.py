"""The cache folder, the names in a folder, and atomic writes: a file is replaced as a whole or left unchanged."""

from __future__ import annotations

import glob
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from i0tscore.errors import did_you_mean


def default_cache_dir() -> Path:
    """Return ``I0TSCORE_CACHE``, or else the cache folder of the user."""
    import platformdirs

    return Path(os.environ.get("I0TSCORE_CACHE") or platformdirs.user_cache_dir("i0tscore", appauthor=False))


def replace_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file atomically: under another name in its folder first, then renamed.

    ``data`` may be in parts, which are written one by one.

    Raises:
        OSError: Writing failed.
    """
    if path.exists() and not path.is_file():  # a device or a pipe must not be replaced
        _write(path, data)
        return
    with drafted(path) as draft:
        _write(draft, data)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Yield the name of a draft, a file or folder, which takes the place of ``path`` unless an error is raised.

    Raises:
        OSError: Writing failed.
    """
    draft = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)


def _write(path: Path, data: bytes | Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def remove_drafts(path: Path) -> None:
    """Remove drafts of ``path`` that killed processes of this machine left behind."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.{glob.escape(socket.gethostname())}.*"):
        process = draft.name.rpartition(".")[2]
        if process.isdecimal() and not _is_running(int(process)):
            shutil.rmtree(draft) if draft.is_dir() else draft.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True


def similar_name(path: Path) -> str:
    """Return a question that names the file or folder that may be meant by a missing path, to append to a message."""
    beside = islice(path.parent.iterdir(), 1000) if path.parent.is_dir() else ()
    return did_you_mean(path.name, [one.name for one in beside])
