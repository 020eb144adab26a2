"""Files that are either written whole or left as they were."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write a file under another name in its folder first and rename it when it is whole.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists() and not path.is_file():  # a device or a pipe, which must stay one
        path.write_bytes(data)
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
