"""Shard files, local or on an object store: reading captions with their images, and writing Parquet files of scores."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from i0tscore.encoders.images import load
from i0tscore.errors import ImageError, InputError, UsageError
from i0tscore.samples import Sample, Skipped
from i0tscore.samples.diagnostics import Location
from i0tscore.samples.formats import FORMATS
from i0tscore.samples.reader import CaptionReader
from i0tscore.samples.sample import StoredImage

SUFFIXES = tuple(suffix for form in FORMATS.values() if form.stream for suffix in form.suffixes)
"""Suffixes of the files in a folder that are shards."""

PART_ROWS = 1024
PART_BYTES = 128_000_000
"""A part ends with the row that reaches either bound."""

HEADER = b"i0tscore"
"""Key of the header in the metadata of a file of scores."""


def locate(path: str | Path) -> tuple[Any, str]:
    """Return the ``pyarrow.fs.FileSystem`` of a path or of a URI such as ``s3://bucket/folder``, and the path there.

    Raises:
        UsageError: The URI cannot be used.
    """
    from pyarrow import ArrowException, fs  # type: ignore[import-untyped]

    uri = re.sub(r"^(\w\w+):/+", r"\1://", str(path))  # Path("s3://bucket") is "s3:/bucket"
    try:
        filesystem, place = fs.FileSystem.from_uri(uri if "://" in uri else str(Path(path).absolute()))
    except (ArrowException, OSError, ValueError) as error:
        reason = str(error).replace(uri, "this one")  # it may hold a password
        raise UsageError(f"Expected a path or a URI such as s3://bucket/folder ({reason}). Correct it.") from error
    return filesystem, place


def place_name(filesystem: Any, path: str = "") -> str:
    """Return a path for messages, without the options of its URI, which may hold a password."""
    if hasattr(filesystem, "base_fs"):  # an output folder
        filesystem, path = filesystem.base_fs, filesystem.base_path + path
    path = path.rstrip("/")
    return path if filesystem.type_name == "local" else f"{filesystem.type_name}://{path}"


@dataclass(frozen=True)
class Shard:
    """A file of captions.

    Attributes:
        filesystem: Its ``pyarrow.fs.FileSystem``.
        path: Its path there.
        size: Size in bytes.
    """

    filesystem: Any
    path: str
    size: int

    def __str__(self) -> str:
        return place_name(self.filesystem, self.path)

    @property
    def stem(self) -> str:
        """Name without suffix, which is also that of its scores."""
        return Path(self.path).stem


class Entry(NamedTuple):
    """One caption of a shard: a sample, or the reason why there is none.

    Attributes:
        label: Location, unique in the shard.
        id: Id given in the shard, else the location.
        sample: The sample, or None.
        reason: Why there is no sample.
        image_key: Hash of the image's content, once it is loaded.
    """

    label: str
    id: str
    sample: Sample | None
    reason: str = ""
    image_key: int = 0


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a shard, with the content of their images.

    Attributes:
        shard: The shard.
        start: Position of the first row.
        entries: The rows, at least one.
        last: Whether no rows follow.
    """

    shard: Shard
    start: int
    entries: list[Entry]
    last: bool


def find_shards(paths: str | Path | Iterable[str | Path]) -> list[Shard]:
    """Return the given files, and the ``.parquet`` and ``.tar`` files of the given folders, sorted by folder.

    The ``.parquet`` files that img2dataset writes next to archives are left out.

    Raises:
        InputError: A path does not exist, or a folder holds no shards.
        UsageError: A file has another suffix, or two shards have the same stem.
    """
    from pyarrow import fs

    if not isinstance(paths, str | Path | Iterable):
        raise UsageError(
            f"Expected shards as paths, got {type(paths).__name__}. Write the dataset to a folder of Parquet files."
        )
    by_stem: dict[str, Shard] = {}
    for given in [paths] if isinstance(paths, str | Path) else paths:
        filesystem, place = locate(given)
        where = place_name(filesystem, place)
        found = [filesystem.get_file_info(place)]
        suffixes: tuple[str, ...] = tuple(suffix for form in FORMATS.values() for suffix in form.suffixes)
        if found[0].type == fs.FileType.Directory:
            suffixes = SUFFIXES
            inside = sorted(filesystem.get_file_info(fs.FileSelector(place)), key=lambda file: file.path)
            found = [file for file in inside if file.base_name.endswith(suffixes) and file.base_name[0] != "."]
            names = {file.base_name for file in inside}
            found = [file for file in found if not _is_download_log(Path(file.base_name), names)]
        found = [file for file in found if file.is_file]
        if not found:
            raise InputError(
                f"{where}: Expected shards (.parquet, .tar) or a folder of them, got none. Check the path."
            )
        if not found[0].base_name.endswith(suffixes):
            raise UsageError(f"{where}: Expected a .parquet or .tar file, or another caption file. Convert it.")
        for file in found:
            shard = Shard(filesystem, file.path, file.size)
            other = by_stem.setdefault(shard.stem, shard)
            if other is not shard:
                raise UsageError(f"The scores of {other} and {shard} would go to the same file. Rename one of them.")
    if not by_stem:
        raise InputError("Expected at least one shard, got none.")
    return [*by_stem.values()]


def _is_download_log(file: Path, names: Collection[str]) -> bool:
    """Return whether a file is img2dataset's log of the downloads of an archive, which has its name."""
    return file.suffix == ".parquet" and {f"{file.stem}.tar", f"{file.stem}_stats.json"} <= set(names)


def read_entries(shard: Path, images: Path | None = None) -> Iterator[Entry]:
    """Yield the entries of a shard in order, with images from inside the shard or from a folder.

    Args:
        shard: File in one of the formats of ``docs/reference/caption-files.md``, such as Parquet or WebDataset.
        images: Folder of images named in the shard; by default the shard's folder. Images outside it are not read.

    Raises:
        SampleFileError: The shard cannot be read or lacks a column.
    """
    for file in CaptionReader(shard, images=images, on_error="skip").parts(divide=True):
        rows: list[tuple[Location, Sample | Skipped]] = [
            *zip(file.locations, file.samples, strict=True),
            *file.unusable.items(),
        ]
        for at, row in sorted(rows, key=lambda row: (row[0].position, row[0].caption)):
            if isinstance(row, Sample):
                yield Entry(at.label, row.id, row)
            else:
                yield Entry(at.label, row.id, None, row.reason.removeprefix(f"{at.label}: "))


def read_parts(shard: Shard, images: Path | None = None) -> Iterator[Part]:
    """Yield the rows of a shard in parts of bounded size, with the content of their images.

    Shards on an object store are copied to a temporary file first.

    Raises:
        InputError: The shard cannot be read, or has no rows.
    """
    entries: list[Entry] = []
    start = size = 0
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(shard.path)
            if shard.filesystem.type_name != "local":
                path = Path(folder, path.name)
                with shard.filesystem.open_input_stream(shard.path) as remote, path.open("wb") as copy:
                    shutil.copyfileobj(remote, copy, 1 << 20)
            for entry in read_entries(path, images):
                if len(entries) >= PART_ROWS or size >= PART_BYTES:
                    yield Part(shard, start, entries, last=False)
                    start, size, entries = start + len(entries), 0, []
                loaded, count = _load(entry)
                entries.append(loaded)
                size += count
        except OSError as error:
            raise InputError(f"{shard}: Cannot be read ({error}). Replace this shard.") from error
    if not entries:
        raise InputError(f"{shard}: Expected at least one row, got none. Remove this shard.")
    yield Part(shard, start, entries, last=True)


def _load(entry: Entry) -> tuple[Entry, int]:
    """Return an entry with the content of its image, and the number of bytes."""
    sample = entry.sample
    if sample is None:
        return entry, 0
    try:
        loaded = load(sample.image)
    except ImageError as error:
        return entry._replace(sample=None, reason=f"{sample.image.name}: {error}"), 0
    content: Any = loaded.content  # of files these are bytes
    sample = replace(sample, image=StoredImage(sample.image.name, content))
    return entry._replace(sample=sample, image_key=int(loaded.key[:16], 16)), len(content)


def open_scores(folder: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """Open a file of scores, as a ``pyarrow.parquet.ParquetFile``, and return it with its header.

    Raises:
        InputError: It is not such a file.
    """
    from pyarrow import ArrowException, parquet

    try:
        scores = parquet.ParquetFile(name, filesystem=folder)
        return scores, dict(json.loads(scores.metadata.metadata[HEADER]))
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        message = f"{place_name(folder, name)}: Expected scores written by i0tscore. Choose another output folder."
        raise InputError(message) from error
