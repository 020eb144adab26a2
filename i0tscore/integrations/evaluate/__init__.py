"""The metric's module for Hugging Face evaluate, and where it is.

The folder ``i0tscore`` beside this file is no package: evaluate loads a copy of its script, and the folder
as a whole is what a Space on the hub holds.
"""

from __future__ import annotations

from pathlib import Path


def path() -> str:
    """The folder to give to ``evaluate.load``, or to upload as a Space.

    Example:
        >>> Path(path(), "i0tscore.py").is_file()
        True
    """
    return str(Path(__file__).with_name("i0tscore"))
