"""Flickr8k as the heads of ``lite`` are trained and measured on it: splits, photographs, captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i0tscore.errors import InputError

Split = Literal["train", "dev", "test"]
CAPTIONS_PER_IMAGE = 5


@dataclass(frozen=True, slots=True)
class Flickr8kSplit:
    """One split, in the order of its list of names.

    Attributes:
        images: Paths of the n photographs.
        captions: The captions, five for each photograph in turn, (5n,).
    """

    images: tuple[Path, ...]
    captions: tuple[str, ...]


def read_split(data: Path, split: Split) -> Flickr8kSplit:
    """Read one split of Flickr8k.

    Args:
        data: A folder with ``flickr8k/`` in it, and there the list of names, ``Flickr8k.token.txt`` and
            ``images_224/``.
        split: Which one.

    Raises:
        InputError: A file is missing, or a photograph has not five captions.
    """
    folder = data / "flickr8k"
    names = _lines(folder / f"Flickr_8k.{split}Images.txt")
    by_image: dict[str, list[str]] = {}
    for line in _lines(folder / "Flickr8k.token.txt"):
        key, _, caption = line.partition("\t")
        by_image.setdefault(key.rpartition("#")[0], []).append(caption.strip())
    unusual = [name for name in names if len(by_image.get(name, ())) != CAPTIONS_PER_IMAGE]
    if unusual:
        raise InputError(f"{folder}: {unusual[0]} has not {CAPTIONS_PER_IMAGE} captions; get the files anew")
    captions = tuple(caption for name in names for caption in by_image[name])
    return Flickr8kSplit(tuple(folder / "images_224" / name for name in names), captions)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(f"no {path}: --data takes the folder that holds flickr8k/") from None
