"""What is scored: samples, their images, and the result of reading a caption file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable


@runtime_checkable
class ImageSource(Protocol):
    """An encoded image (JPEG, PNG, …) that is read on demand; every ``pathlib.Path`` is one."""

    @property
    def name(self) -> str:
        """A name for messages, such as the file name."""

    def read_bytes(self) -> bytes:
        """Return the encoded image, as a file would hold it."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An encoded image inside a dataset or an archive.

    Attributes:
        name: The file name it was stored with, or its row if it has none.
        content: The bytes of the image file, or a function that reads them.
        named: Whether ``name`` is a file name.
    """

    name: str
    content: bytes | Callable[[], bytes] = field(repr=False)
    named: bool = True

    def read_bytes(self) -> bytes:
        """Return the encoded image."""
        return self.content if isinstance(self.content, bytes) else self.content()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Sample:
    """One caption of one image.

    Attributes:
        id: The caller's name for the sample; captions of one image may share it.
        image: The path of the image file, or another source of its bytes.
        caption: The caption to score, unchanged.
        references: Human captions of the same image; empty if there are none.
        context: Text in which the image appears, such as an article or its title; None if there is none.
    """

    id: str
    image: ImageSource
    caption: str
    references: tuple[str, ...] = ()
    context: str | None = None


class Skipped(NamedTuple):
    """An entry of a file that cannot be scored.

    Attributes:
        id: Its id, or its location in the file if it has none.
        reason: The location, the problem, and what to do.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SampleSet:
    """The content of a caption file.

    Attributes:
        samples: The samples, in the order of the file.
        skipped: Entries that cannot be scored, under ``on_error="skip"``; otherwise empty.
        notes: Anything worth knowing that is not an error, such as images without a caption or repeated rows.
    """

    samples: list[Sample]
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
