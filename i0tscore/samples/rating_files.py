"""Finding the files of a rating set, and reading those that have columns without a header."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from i0tscore.errors import InputError
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.rows import Diagnostics, Location
from i0tscore.samples.text import read_text


def locate(data: Path, names: tuple[str, ...], advice: str) -> Path:
    """Find the first of several files: the path itself, in the folder, or in a folder directly inside it.

    Args:
        data: A file or a folder.
        names: File names, the preferred one first; may be patterns such as ``*.json``.
        advice: Where to get the files, for the message.

    Raises:
        InputError: There is none.
    """
    if data.is_file():
        return data
    for name in names:
        for pattern in (name, f"*/{name}"):
            if found := sorted(data.glob(pattern)):
                return found[0]
    raise InputError(f"{data}: no {' and no '.join(names)} in it; {advice}")


def image_folder(given: Path | None, file: Path, usual: tuple[str, ...], *, look_up: bool) -> ImageFolder | None:
    """The folder of a set's images: the one given, or a usual one beside its file.

    Args:
        given: The folder, or None.
        file: A file of the set.
        usual: Names of folders that images are usually in.
        look_up: Whether images are wanted at all; otherwise None is returned unless a folder is given.

    Raises:
        InputError: Images are wanted and there is no such folder.
    """
    if given is not None:
        return ImageFolder(given)
    if not look_up:
        return None
    folder = next((file.parent / name for name in usual if (file.parent / name).is_dir()), None)
    if folder is None:
        raise InputError(f"{file.parent}: no folder {' or '.join(usual)} of images in it: give their folder")
    return ImageFolder(folder)


def columns(path: Path, diagnostics: Diagnostics, names: tuple[str, ...]) -> Iterator[tuple[Location, list[str]]]:
    """Go through the lines of a file of tab-separated columns without a header.

    Args:
        path: The file.
        diagnostics: Takes the lines that are not UTF-8 or have another number of columns.
        names: What the columns hold, for the message.
    """
    text = read_text(path)
    for number, line in enumerate(text.lines, start=1):
        place = Location(number, f"{path.name}, line {number}")
        fields = line.rstrip("\r\n").split("\t")
        if number in text.damaged:
            diagnostics.row_error(place, text.damaged[number])
        elif len(fields) != len(names):
            if line.strip():
                diagnostics.row_error(place, f"{len(fields)} columns, where there are {len(names)}: {', '.join(names)}")
        else:
            yield place, fields


def differing_hashes(files: Mapping[str, Path], known: Mapping[str, str]) -> tuple[str, ...]:
    """Say which files are not byte for byte those that the known figures were made from.

    Args:
        files: By name.
        known: SHA-256 in hexadecimal by the same names.
    """
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return tuple(
        f"{name} differs from the file known by this name (SHA-256 {digest[:12]}…, not {known[name][:12]}…)"
        for name, digest in found.items()
        if name in known and known[name] != digest
    )
