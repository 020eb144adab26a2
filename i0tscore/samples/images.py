"""Lookup of image files by name in one folder, and nowhere else."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from i0tscore.errors import InputError
from i0tscore.samples.diagnostics import UnusableError, check_text, quote
from i0tscore.samples.sample import ImageSource

IMAGE_FORMATS: Mapping[str, tuple[str, ...]] = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "MPO": ("mpo",),
    "PNG": ("png", "apng"),
    "WEBP": ("webp",),
    "GIF": ("gif",),
    "BMP": ("bmp",),
    "DIB": ("dib",),
    "TIFF": ("tif", "tiff"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "JPEG2000": ("jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
    "AVIF": ("avif", "avifs"),
    "HEIF": ("heic", "heif", "hif"),
}
"""The formats that are decoded, by Pillow's name, with their suffixes. Some of Pillow's others run programs (EPS)."""

IMAGE_SUFFIXES = frozenset(suffix for suffixes in IMAGE_FORMATS.values() for suffix in suffixes)

MAX_BYTES = 1_000_000_000
"""Larger image files are refused before they are read."""


nfc = partial(unicodedata.normalize, "NFC")
"""Compose characters, so that ``é`` equals ``e`` with a combining accent."""


def without_suffix(name: str) -> str:
    """Remove the suffix of an image file; other dots stay: ``d.v2.JPG`` becomes ``d.v2``."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot and suffix.lower() in IMAGE_SUFFIXES else name


class _Listing(NamedTuple):
    """The regular files directly in one folder.

    Attributes:
        images: Names of image files.
        others: Names of other files.
        by_name: Image files by composed stem and lower-case suffix.
        by_stem: Image files by composed stem.
    """

    images: set[str]
    others: set[str]
    by_name: dict[str, list[str]]
    by_stem: dict[str, list[str]]

    @classmethod
    def read(cls, folder: Path) -> _Listing:
        """List a folder, without the ``._`` files that macOS writes; a folder that does not exist is empty."""
        listing = cls(set(), set(), {}, {})
        try:
            with os.scandir(folder) as entries:
                files = sorted(e.name for e in entries if e.is_file() and not e.name.startswith("._"))
        except (OSError, ValueError):  # no such folder, or a name that no file system accepts
            return listing
        for file in files:
            stem = without_suffix(file)
            if stem == file:
                listing.others.add(file)
                continue
            listing.images.add(file)
            listing.by_stem.setdefault(nfc(stem), []).append(file)
            listing.by_name.setdefault(nfc(stem) + file[len(stem) :].lower(), []).append(file)
        return listing


class ImageFolder:
    """The one folder that the images of a caption file are read from.

    Caption files may be untrusted, so a path in them reaches nothing outside this folder, be it absolute or
    with ``..``. Links inside the folder are its owner's and are followed.

    Args:
        root: The folder; it is listed when the first image is looked up.

    Raises:
        InputError: The folder does not exist.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            problem = "Not a folder" if root.exists() else "No such folder"
            raise InputError(f"{root}: {problem}. Check the path of the images.")
        self.root = root
        self._absolute = os.path.normpath(root.absolute())
        self._listings: dict[str, _Listing] = {}
        self._found: set[str] = set()

    def find(self, image: object) -> ImageSource:
        """Return the path of the image with a name, or an image source unchanged.

        Args:
            image: A file name, or a path that is relative to the folder or inside it, with or without suffix; or
                an image source.

        Raises:
            UnusableError: There is no such image, or more than one, or the path leads out of the folder.
        """
        if not isinstance(image, str) and isinstance(image, ImageSource):
            return image
        name = check_text(image, "an image", True)
        inside = name
        if os.sep in name or "/" in name or name in (".", ".."):
            inside = self._resolve(name)
        parent, _, last = inside.rpartition(os.sep)
        if parent not in self._listings:
            self._listings[parent] = _Listing.read(self.root / parent)
        listing = self._listings[parent]
        stem = without_suffix(last)
        if last in listing.images:
            found = [last]
        else:
            found = listing.by_name.get(nfc(stem) + last[len(stem) :].lower()) or listing.by_stem.get(nfc(last)) or []
            if not found and last in listing.others:
                found = [last]
        if len(found) > 1:
            files = " and ".join(quote(file) for file in found)
            raise UnusableError(f"{quote(name)} matches {files} in {self.root / parent}. Include the suffix.")
        if not found:
            expected = quote(name) if stem != last else f"{quote(name)} (.jpg, .png, …)"
            folded = nfc(stem).casefold()
            similar = next((files[0] for key, files in listing.by_stem.items() if key.casefold() == folded), None)
            hint = f"There is {quote(similar)}, but case matters." if similar else "Add it or remove the row."
            raise UnusableError(f"No image {expected} in {self.root}. {hint}")
        if not parent:
            self._found.add(found[0])
        return self.root / parent / found[0]

    def _resolve(self, name: str) -> str:
        """Return a path relative to the folder, or raise ``UnusableError`` if it is outside."""
        if "://" in name:
            raise UnusableError(f"Expected an image file, got the URL {quote(name)}. Download the image.")
        path = os.path.normpath(Path(self._absolute) / name)
        prefix = self._absolute.rstrip(os.sep) + os.sep
        if not path.startswith(prefix):
            raise UnusableError(
                f"{quote(name)} is outside {self.root}, and only images inside it are read. Give a folder that "
                "contains all images."
            )
        return path[len(prefix) :]

    def unused(self) -> list[str]:
        """Return the names of the images directly in the folder that have not been looked up, sorted."""
        listing = self._listings.get("") or _Listing.read(self.root)
        return sorted(listing.images - self._found)
