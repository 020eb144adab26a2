"""WebDataset archives, and folders of images with text files beside them."""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from i0tscore.errors import SampleFileError
from i0tscore.samples.diagnostics import Location, Malformed, Record, preview, quote
from i0tscore.samples.images import IMAGE_SUFFIXES, MAX_BYTES
from i0tscore.samples.sample import StoredImage
from i0tscore.samples.schema import Schema
from i0tscore.samples.source import Source
from i0tscore.samples.text import encoding_of

MAX_TEXT_BYTES: Final = 1_000_000
"""Longer files of captions and of JSON are refused before they are read."""

_KINDS: Final = dict.fromkeys(IMAGE_SUFFIXES, "image") | {"txt": "text", "caption": "text", "json": "json"}
"""The files that count, by suffix."""

_SEPARATE: Final = ("captions", "images")
"""Folders that hold the two files of a sample under the same name."""


class _File(NamedTuple):
    """A file of a sample.

    Attributes:
        name: Its path in the archive or folder.
        size: Its size in bytes.
        read: Returns its content.
    """

    name: str
    size: int
    read: Callable[[], bytes]

    @property
    def kind(self) -> str:
        """What it holds; empty if it does not count."""
        return _KINDS.get(PurePosixPath(self.name).suffix[1:].lower(), "")


_Files = dict[str, list[_File]]  # by kind


class _Corpus(NamedTuple):
    """The files of an archive or folder.

    Attributes:
        samples: The files of each sample, by its name.
        others: Names of files that are not read.
    """

    samples: dict[str, _Files]
    others: list[str]


def _collect(files: Iterable[_File], separate: bool = False) -> _Corpus:
    """Group files into samples by their names.

    The name of a sample is that of its files without their last suffix. Files whose name has no partner in this way
    belong together if they are the only ones with the same name up to the first dot, as in WebDataset:
    ``s0.input.jpg`` and ``s0.outputs.txt``. Next to a complete sample of that name, they are additional files.

    Args:
        files: The files, in the order in which samples are read.
        separate: Whether images and captions are in folders named ``images`` and ``captions``.
    """
    families: dict[str, dict[str, _Files]] = {}
    others = []
    for file in files:
        path = PurePosixPath(file.name)
        if not file.kind:
            others.append(file.name)
            continue
        if separate and path.parts[0] in _SEPARATE:
            path = path.relative_to(path.parts[0])
        family = families.setdefault(str(path.with_name(path.name.partition(".")[0])), {})
        family.setdefault(str(path.with_suffix("")), {}).setdefault(file.kind, []).append(file)
    samples: dict[str, _Files] = {}
    for name, stems in families.items():
        samples |= {stem: found for stem, found in stems.items() if _is_complete(found)}
        rest = {stem: found for stem, found in stems.items() if stem not in samples}
        merged: _Files = {}
        for found in rest.values():
            for kind, parts in found.items():
                merged.setdefault(kind, []).extend(parts)
        if name in samples:
            others += [part.name for parts in merged.values() for part in parts]
        elif _is_complete(merged) and all(len(parts) == 1 for parts in merged.values()):
            samples[name] = merged
        else:
            samples |= rest
    return _Corpus(samples, others)


def _is_complete(files: _Files) -> bool:
    return "image" in files and bool({"text", "json"} & files.keys())


def archives(folder: Path) -> list[Path]:
    """Return the archives in a folder, in the order in which they are read."""
    return sorted(p for p in folder.glob("*.tar") if p.is_file() and not p.name.startswith("."))


def read_archives(source: Source) -> Iterator[Record]:
    """Yield the samples of an uncompressed WebDataset archive, or of all archives in a folder, in their order.

    A sample is an image with a ``.txt`` or ``.caption`` file or ``.json`` fields. Its name is the id unless the JSON
    has one; if archives share names, the id begins with the name of the archive. Images stay in the archive until
    they are read, and nothing is written to disk.

    Raises:
        SampleFileError: An archive cannot be read.
    """
    paths = archives(source.path) if source.path.is_dir() else [source.path]
    corpora = [_collect(_members(path)) for path in paths]
    names = Counter(name for corpus in corpora for name in corpus.samples)
    repeated = [name for name, count in names.items() if count > 1]
    number = 0
    for path, corpus in zip(paths, corpora, strict=True):
        prefix = f"{path.name}, " if len(paths) > 1 else ""
        for position, (name, files) in enumerate(corpus.samples.items(), start=1):
            number += 1
            location = Location(number, f"{prefix}sample {position}")
            identifier = f"{path.stem}/{name}" if repeated else name
            image = _image(files, lambda file: StoredImage(file.name, file.read))
            yield _record(source.schema, location, identifier, files, image)
    if repeated:
        listed = f"{len(repeated)} ({preview(repeated)})"
        source.diagnostics.notes.append(
            f"Several archives share sample names, so ids begin with the archive: {listed}."
        )
    _note_others(source, [name for corpus in corpora for name in corpus.others])


def samples_of(path: Path) -> dict[str, str]:
    """Return the name of the sample of each file in an archive that belongs to one, samples in the order of reading.

    Files that are not read belong to the sample of their name without the last suffix, or up to the first dot.

    Raises:
        SampleFileError: It cannot be read.
    """
    corpus = _collect(_members(path))
    found = {file.name: name for name, files in corpus.samples.items() for part in files.values() for file in part}
    for other in corpus.others:
        place = PurePosixPath(other)
        stems = (str(place.with_suffix("")), str(place.with_name(place.name.partition(".")[0])))
        if owner := next((stem for stem in stems if stem in corpus.samples), None):
            found[other] = owner
    return found


def _members(path: Path) -> Iterator[_File]:
    """Yield the files in an archive, without hidden ones.

    Raises:
        SampleFileError: It cannot be read.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isdir() and not PurePosixPath(member.name).name.startswith("."):
                    plain = member.isfile() and not member.issparse()
                    read = partial(_read_range, path, member.offset_data, member.size)
                    # Links have no content of their own; with this name, they are listed as not read.
                    yield _File(member.name if plain else f"{member.name} (link)", member.size, read)
    except (tarfile.TarError, OSError) as error:
        raise SampleFileError(path, [f"Not a readable tar archive ({error}). Write it again."]) from error


def _read_range(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def is_text_folder(folder: Path) -> bool:
    """Return whether a folder has images with text files beside them, or text files and no images."""
    if not any(file.kind == "text" for file in _files(folder)):
        return False
    corpus = _collect(_files(folder), _is_separate(folder))
    images = any("image" in files for files in corpus.samples.values())
    return not images or any({"image", "text"} <= files.keys() for files in corpus.samples.values())


def read_text_folder(source: Source) -> Iterator[Record]:
    """Yield the images of a folder and the folders in it that have a text file of the same name, one caption each.

    If there are no images in it, they are looked up elsewhere by the names of the text files.
    """
    folder, notes = source.path, source.diagnostics.notes
    corpus = _collect(_files(folder), _is_separate(folder))
    images = any("image" in files for files in corpus.samples.values())
    samples = {name: files for name, files in corpus.samples.items() if _is_complete(files) or not images}
    lines = []
    for number, (name, files) in enumerate(samples.items(), start=1):
        location = Location(number, next(iter(files.get("text") or files["json"])).name)
        image = _image(files, lambda file: file.name) if images else name
        record = _record(source.schema, location, name, files, image)
        if "\n" in str(record[1].get("caption")):
            lines.append(location.label)
        yield record
    if lines:
        notes.append(f"Text files with several lines are read as one caption each: {len(lines)} ({preview(lines)}).")
    without = [files for name, files in corpus.samples.items() if name not in samples]
    for what, kinds in (("Images without a text file", ["image"]), ("Text files without an image", ["text", "json"])):
        alone = [file.name for files in without for kind in kinds for file in files.get(kind, ())]
        if alone:
            notes.append(f"{what} are ignored: {len(alone)} ({preview(alone)}).")
    _note_others(source, corpus.others)


def _is_separate(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _SEPARATE)


def _files(folder: Path) -> Iterator[_File]:
    """Yield the files that count in a folder and the folders in it, sorted, without hidden ones."""
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            file = _File(path.relative_to(folder).as_posix(), 0, path.read_bytes)
            if file.kind and not name.startswith("."):
                # Whether images exist is found out when they are looked up.
                yield file if file.kind == "image" or not path.is_file() else file._replace(size=path.stat().st_size)


def _image(files: _Files, image: Callable[[_File], Any]) -> Any:
    """Return the one image of a sample, made by ``image``; else the reason why there is none."""
    found = files.get("image", [])
    if not found:
        return Malformed("Expected an image, found no image of this name. Add one.")
    if len(found) > 1:
        return Malformed(f"Expected one image, found {preview(file.name for file in found)}. Remove the others.")
    if found[0].size > MAX_BYTES:
        return _too_large(found[0], MAX_BYTES)
    return image(found[0])


def _text(files: list[_File]) -> str | Malformed:
    """Return the content of the one text file; else the reason why it cannot be used."""
    if len(files) > 1:
        return Malformed(f"Expected one file, found {preview(file.name for file in files)}. Remove the others.")
    if files[0].size > MAX_TEXT_BYTES:
        return _too_large(files[0], MAX_TEXT_BYTES)
    try:
        data = files[0].read()
        return data.decode(encoding_of(data)).strip()
    except OSError as error:
        return Malformed(f"{quote(files[0].name)}: Cannot be read ({error.strerror}). Remove it.")
    except UnicodeError:
        return Malformed(f"{quote(files[0].name)}: Expected UTF-8, got other bytes. Save it as UTF-8.")


def _too_large(file: _File, limit: int) -> Malformed:
    return Malformed(f"{quote(file.name)}: Expected at most {limit:,} bytes, got {file.size:,}. Shorten it.")


def _record(schema: Schema, location: Location, name: str, files: _Files, image: Any) -> Record:
    """Return the fields of a sample: those of its JSON, its caption, its image, and its name as the id if none."""
    record: dict[str, Any] = {}
    if "json" in files:
        fields: Any = _text(files["json"])
        try:
            fields = json.loads(fields) if isinstance(fields, str) else fields
        except (ValueError, RecursionError) as error:
            fields = Malformed(f"Invalid JSON ({error}). Correct it.")
        if isinstance(fields, dict):
            record = fields
        else:
            malformed = isinstance(fields, Malformed)
            record["caption"] = fields if malformed else Malformed("Expected a JSON object, got another value.")
    if schema.value(record, "id") is None:
        record["id"] = name
    if "text" in files:
        record["caption"] = _text(files["text"])
    record["image"] = image
    return schema.identify(location, record), record


def _note_others(source: Source, names: list[str]) -> None:
    if names:
        source.diagnostics.notes.append(f"Additional files are ignored: {len(names)} ({preview(names)}).")
