"""The path of the metric for Hugging Face evaluate.

The folder ``i0tscore`` next to this file is not a package: evaluate loads a copy of its script, and the whole folder is
the content of a Space on the hub.
"""

from __future__ import annotations

from pathlib import Path


def path() -> str:
    """Return the folder to pass to ``evaluate.load`` or to upload as a Space.

    Examples:
        >>> Path(path(), "i0tscore.py").is_file()
        True
    """
    return str(Path(__file__).with_name("i0tscore"))
