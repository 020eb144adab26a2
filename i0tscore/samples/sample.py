"""What is scored: one image with one caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sample:
    """One caption of one image.

    Attributes:
        id: The caller's name for the sample; several captions of one image may share it.
        image: Path of the image file.
        caption: The caption to be scored, as written.
        references: Human captions of the same image; empty where there are none.
    """

    id: str
    image: Path
    caption: str
    references: tuple[str, ...] = ()
