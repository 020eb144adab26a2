"""Finds image files by name in one folder, and nowhere else."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from i0tscore.errors import InputError
from i0tscore.samples.rows import UnusableError, checked_name, preview, quote
from i0tscore.samples.sample import ImageSource

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"})


def nfc(text: str) -> str:
    """Compose characters, so that ``é`` equals ``e`` with a combining accent."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def without_suffix(name: str) -> str:
    """Cut the suffix of an image file off; other dots stay: ``d.v2.JPG`` becomes ``d.v2``."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot and suffix.lower() in IMAGE_SUFFIXES else name


class ImageFolder:
    """The one folder that a caption file's images are read from.

    Caption files come from strangers, so a path in them reaches nothing outside this folder: not by being
    absolute, not by ``..``. Links inside the folder are the folder owner's and are followed.
    """

    def __init__(self, root: Path) -> None:
        """Remember the folder; it is listed when first asked.

        Raises:
            InputError: There is no such folder.
        """
        if not root.is_dir():
            raise InputError(
                f"{root}: {'not a folder' if root.exists() else 'no such folder'} of images: check the path"
            )
        self.root = root
        self._absolute = os.path.normpath(root.absolute())
        self._listings: dict[str, _Listing] = {}
        self._found: set[str] = set()

    def find(self, name: str) -> Path:
        """Return the image of that name: with or without its suffix, in a sub-folder if the name says so.

        Args:
            name: A file name, a path relative to the folder or inside it, or either without its suffix.

        Raises:
            UnusableError: There is none, or more than one, or the path leads out of the folder.
        """
        inside = self._inside(name)
        parent, _, last = inside.rpartition(os.sep)
        listing = self._listing(parent)
        found = listing.matches(last)
        if len(found) > 1:
            files = " and ".join(quote(file) for file in found)
            raise UnusableError(f"{quote(name)} may be {files} in {self.root / parent}: write the name with its suffix")
        if not found:
            raise UnusableError(self._missing(name, last, listing))
        if not parent:
            self._found.add(found[0])
        return self.root / parent / found[0]

    def unused(self) -> list[str]:
        """Names of the images directly in the folder that were not found by now, sorted."""
        return sorted(self._listing("").images - self._found)

    def contents(self) -> str:
        """A few of the images directly in the folder, for a message."""
        images = sorted(self._listing("").images)
        return f"the folder has {preview(images)}" if images else "the folder has no images"

    def _inside(self, name: str) -> str:
        if os.sep not in name and "/" not in name and name not in (".", ".."):
            return name
        if "://" in name:
            raise UnusableError(f"{quote(name)} is a web address; images are read from disk: download it")
        path = os.path.normpath(Path(self._absolute) / name)
        prefix = self._absolute.rstrip(os.sep) + os.sep
        if not path.startswith(prefix):
            raise UnusableError(
                f"{quote(name)} is outside {self.root}, and images are read from inside it only: "
                "give the folder that holds all of them as the images folder"
            )
        return path[len(prefix) :]

    def _listing(self, parent: str) -> _Listing:
        if parent not in self._listings:
            self._listings[parent] = _Listing(self.root / parent)
        return self._listings[parent]

    def _missing(self, name: str, last: str, listing: _Listing) -> str:
        wanted = quote(name) if without_suffix(last) != last else f"{quote(name)} (.jpg, .png, …)"
        alike = listing.casefolded.get(nfc(without_suffix(last)).casefold())
        hint = f"there is {quote(alike)}, but letter case counts" if alike else "add it or remove the entry"
        return f"no image {wanted} in {self.root}: {hint}"


def image_source(written: object, find: Callable[[str], ImageSource]) -> ImageSource:
    """An image as it is written: a source already, or a name to be found; else ``UnusableError``."""
    if not isinstance(written, str) and isinstance(written, ImageSource):
        return written
    return find(checked_name(written, "the image"))


class _Listing:
    """The files directly in one folder, by the names they may be asked for."""

    def __init__(self, folder: Path) -> None:
        self.images: set[str] = set()
        self._others: set[str] = set()
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for file in sorted(_files(folder)):
            stem = without_suffix(file)
            if stem == file:
                self._others.add(file)
                continue
            self.images.add(file)
            self._by_stem.setdefault(nfc(stem), []).append(file)
            self._by_name.setdefault(_suffix_lowered(file), []).append(file)

    def matches(self, name: str) -> list[str]:
        """Files of that name: the exact one before those alike, full names before stems."""
        if name in self.images:
            return [name]
        found = self._by_name.get(_suffix_lowered(name)) or self._by_stem.get(nfc(name))
        return found or ([name] if name in self._others else [])

    @cached_property
    def casefolded(self) -> dict[str, str]:
        """One file for each stem, letter case aside."""
        return {stem.casefold(): files[0] for stem, files in self._by_stem.items()}


def _files(folder: Path) -> list[str]:
    """Names of the regular files in a folder, without the ``._`` companions that macOS writes."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file() and not entry.name.startswith("._")]
    except (OSError, ValueError):  # no such sub-folder, or a name no file system takes
        return []


def _suffix_lowered(name: str) -> str:
    stem = without_suffix(name)
    return nfc(stem) + name[len(stem) :].lower()
