"""Lookup of image files by name in one folder, and nowhere else."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path, PurePath
from urllib.parse import unquote

from i0tscore.errors import InputError
from i0tscore.files import similar_name
from i0tscore.samples.diagnostics import UnusableError, check_text, preview, quote
from i0tscore.samples.download import Downloads
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

_MAX_LISTED = 1_000_000
"""In folders with more files, images are not looked up by file name alone."""

nfc = partial(unicodedata.normalize, "NFC")
"""Compose characters, so that ``é`` equals ``e`` with a combining accent."""


def without_suffix(name: str) -> str:
    """Remove the suffix of an image file; other dots stay: ``d.v2.JPG`` becomes ``d.v2``."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and dot and suffix.lower() in IMAGE_SUFFIXES else name


@dataclass
class _Listing:
    """Image files, as paths relative to the folder of images, by each form that their names may have.

    Attributes:
        images: Paths of images by file name.
        others: Paths of other files by file name.
        by_name: Paths of images by composed stem and lower-case suffix.
        by_stem: Paths of images by composed stem.
        folders: Names of the folders listed.
    """

    images: dict[str, list[str]] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    by_name: dict[str, list[str]] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    @classmethod
    def of_folder(cls, root: Path, folder: str) -> _Listing:
        """List the regular files directly in a folder; one that does not exist is empty."""
        listing = cls()
        try:
            with os.scandir(root / folder) as entries:
                listing._add(folder, (entry.name for entry in entries if entry.is_file()))
        except (OSError, ValueError):  # no such folder, or a name that no file system accepts
            return cls()
        return listing

    @classmethod
    def of_tree(cls, root: Path) -> _Listing:
        """List a folder and all folders in it, except hidden ones and links; empty if they have too many files."""
        listing, count = cls(), 0
        for folder, inner, files in os.walk(root):
            inner[:] = [name for name in inner if not name.startswith(".")]
            count += len(files)
            if count > _MAX_LISTED:
                return cls()
            relative = os.path.relpath(folder, root)
            listing._add("" if relative == "." else relative, files)
        return listing

    def _add(self, folder: str, files: Iterable[str]) -> None:
        """Add the files of a folder, without the ``._`` files that macOS writes."""
        self.folders.add(os.path.basename(folder))  # noqa: PTH119 (many folders)
        for file in sorted(files):
            if file.startswith("._"):
                continue
            stem, path = without_suffix(file), os.path.join(folder, file)  # noqa: PTH118 (many files)
            if stem == file:
                self.others.setdefault(file, []).append(path)
                continue
            self.images.setdefault(file, []).append(path)
            self.by_stem.setdefault(nfc(stem), []).append(path)
            self.by_name.setdefault(nfc(stem) + file[len(stem) :].lower(), []).append(path)

    def find(self, name: str) -> list[str]:
        """Return the paths of the images with a file name or stem, or of another file with exactly this name."""
        stem = without_suffix(name)
        return (
            self.images.get(name)
            or self.by_name.get(nfc(stem) + name[len(stem) :].lower())
            or self.by_stem.get(nfc(name))
            or self.others.get(name)
            or []
        )

    @cached_property
    def similar(self) -> dict[str, str]:
        """An image for each stem in lower case, and for each number that ends a stem, without leading zeros."""
        found: dict[str, str] = {}
        for stem, paths in self.by_stem.items():
            found.setdefault(stem.casefold(), paths[0])
            if digits := re.search("[0-9]+$", stem):
                found.setdefault(digits[0].lstrip("0"), paths[0])
        return found


class ImageFolder:
    """The one folder that the images of a caption file are read from.

    Caption files may be untrusted, so a path in them reaches nothing outside this folder, be it absolute or
    with ``..``. Links inside the folder are its owner's and are followed.

    Args:
        root: The folder; it is listed when the first image is looked up.
        download: How images are fetched by URL; None to refuse URLs.

    Raises:
        InputError: The folder does not exist.
    """

    def __init__(self, root: Path, download: Downloads | None = None) -> None:
        if not root.is_dir():
            problem, near = ("Not a folder", "") if root.exists() else ("No such folder", similar_name(root))
            raise InputError(f"{root}: {problem}. Check the path of the images.{near}")
        self.root = root
        self._download = download
        self._absolute = os.path.normpath(root.absolute())
        self._listings: dict[str, _Listing] = {}
        self._found: set[str] = set()
        self._matched: dict[str, str] = {}

    @cached_property
    def _tree(self) -> _Listing:
        return _Listing.of_tree(self.root)

    @property
    def notes(self) -> list[str]:
        """What a reader should know about the images that were found."""
        if not self._matched:
            return []
        paths = f"{len(self._matched)} ({preview(self._matched.values())})"
        return [f"Image paths whose folder does not exist are matched by file name in {self.root}: {paths}."]

    def find(self, image: object) -> ImageSource:
        """Return the path of the image with a name, or an image source unchanged.

        Args:
            image: A file name, or a path that is relative to the folder or inside it, with or without suffix; or
                an image source. Slashes, backslashes, and ``file://`` are accepted. A path whose folder does not
                exist is matched by file name in the folder and its subfolders.

        Raises:
            UnusableError: There is no such image, or more than one, or the path leads out of the folder.
        """
        if not isinstance(image, str) and isinstance(image, ImageSource):
            return image
        name = check_text(image, "an image", True)
        path = name.replace("\\", "/")
        if "://" in name:
            if not name.lower().startswith("file://"):
                return self._fetch(name)
            path = unquote(path[len("file://") :])
        found = self._locate(name) or self._locate(path) or self._match(path)
        if found is None:
            raise self._missing(name, path)
        self._found.add(found)
        return self.root / found

    def _fetch(self, url: str) -> ImageSource:
        web = url.lower().startswith(("http://", "https://"))
        if self._download and web:
            return self._download.find(url)
        advice = "Download the image" + (", or use --download (download=True) with caption files." if web else ".")
        raise UnusableError(f"Expected an image file, got the URL {quote(url)}. {advice}")

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing.of_folder(self.root, folder)
        return self._listings[folder]

    def _inside(self, path: str) -> str | None:
        """Return a path relative to the folder, or None if it leads out of it."""
        if os.sep not in path and "/" not in path and path not in (".", ".."):
            return path
        full = os.path.normpath(Path(self._absolute) / path)
        prefix = self._absolute.rstrip(os.sep) + os.sep
        return full[len(prefix) :] if full.startswith(prefix) else None

    def _locate(self, path: str) -> str | None:
        """Return the image at a path, relative to the folder, or None if there is none."""
        inside = self._inside(path)
        if inside is None:
            return None
        folder, _, last = inside.rpartition(os.sep)
        found = self._listing(folder).find(last)
        if len(found) > 1:
            files = " and ".join(quote(PurePath(file).name) for file in found)
            raise UnusableError(f"{quote(path)} matches {files} in {self.root / folder}. Include the suffix.")
        return found[0] if found else None

    def _match(self, path: str) -> str | None:
        """Return the image with the file name of a path whose folder does not exist, or None if there is none."""
        *folders, last = path.split("/")
        files = self._tree.find(last) if any(folders) and "\0" not in path and not self._exists(path) else []
        if not files:
            return None
        shared = {file: _shared_folders(file, folders) for file in files}
        best = [file for file, count in shared.items() if count == max(shared.values())]
        if len(best) > 1:
            raise UnusableError(
                f"{quote(path)} does not exist, and its file name matches {preview(best)} in {self.root}. Write one of "
                "these paths, or give the folder that the path is relative to."
            )
        if not shared[best[0]] and folders[-1] in self._tree.folders:
            return None  # its folder exists and does not have it
        other = self._matched.setdefault(best[0], path)
        if other != path:
            raise UnusableError(
                f"{quote(path)} and {quote(other)} do not exist, and both have the file name of {quote(best[0])}. Give "
                "the folder that the paths are relative to."
            )
        return best[0]

    def _exists(self, path: str) -> bool:
        """Return whether there is a file at a path that leads out of the folder; network shares are not asked."""
        return not path.startswith("//") and self._inside(path) is None and Path(self._absolute, path).exists()

    def _missing(self, name: str, path: str) -> UnusableError:
        """Return an error that says why there is no image, with the most similar one."""
        inside = self._inside(path)
        if inside is None:
            return UnusableError(
                f"{quote(name)} is outside {self.root}, and only images inside it are read. Give a folder that "
                "contains all images."
            )
        folder, _, last = inside.rpartition(os.sep)
        stem, hint = without_suffix(last), "Add it or remove the row."
        number = stem.isdecimal()
        similar = self._listing(folder).similar.get(stem.lstrip("0") if number else nfc(stem).casefold())
        if similar is not None:
            found = PurePath(similar).name
            differs = "suffixes" if without_suffix(found) == stem else "case"
            advice = ": write the name in full." if number else f", but {differs} must match."
            hint = f"There is {quote(found)}{advice}"
        expected = quote(name) if stem != last else f"{quote(name)} (.jpg, .png, …)"
        return UnusableError(f"No image {expected} in {self.root}. {hint}")

    def unused(self) -> list[str]:
        """Return the names of the images directly in the folder that have not been looked up, sorted."""
        return sorted(self._listing("").images.keys() - self._found)


def _shared_folders(file: str, folders: Sequence[str]) -> int:
    """Return with how many of the last folders of a path the folder of a file ends."""
    own = PurePath(file).parts[-2::-1]
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, reversed(folders), strict=False)))
