"""What is scored: one image with one caption; and what reading a caption file gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class ImageSource(Protocol):
    """Where an encoded image (JPEG, PNG, …) is read from when it is needed; every ``pathlib.Path`` is one."""

    @property
    def name(self) -> str:
        """A name to show, such as the file's."""

    def read_bytes(self) -> bytes:
        """Read the encoded image, as a file would hold it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One caption of one image.

    Attributes:
        id: The caller's name for the sample; several captions of one image may share it.
        image: Path of the image file, or another source of its bytes.
        caption: The caption to be scored, as written.
        references: Human captions of the same image; empty where there are none.
    """

    id: str
    image: ImageSource
    caption: str
    references: tuple[str, ...] = ()


class Skipped(NamedTuple):
    """One entry of a file that cannot be scored.

    Attributes:
        id: Its id, or its place in the file where it has none.
        reason: Where it stands, what is wrong, what to do.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SampleSet:
    """What a caption file holds.

    Attributes:
        samples: What can be scored, in the order of the file.
        skipped: What cannot, under ``on_error="skip"``; otherwise empty.
        notes: What is worth knowing but no error: images without a caption, repeated rows, ….
    """

    samples: list[Sample]
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
