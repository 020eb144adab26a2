"""Reads shards: parquet files and tar archives of captions with their images, a few rows at a time."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from i0tscore.encoders.images import MAX_BYTES
from i0tscore.errors import InputError, SampleFileError, UsageError
from i0tscore.samples import Sample
from i0tscore.samples.assemble import Assembler
from i0tscore.samples.captions import CaptionFields, caption_row
from i0tscore.samples.images import IMAGE_SUFFIXES, ImageFolder
from i0tscore.samples.rows import FIELDS, ID_FIELDS, IMAGE_FIELDS, Diagnostics, Location, Malformed, Row

SUFFIXES = (".parquet", ".tar")
MAX_TEXT_BYTES = 1_000_000
"""Longer captions and JSON members of an archive are refused before they are read."""

_ROWS_AT_ONCE = 64

Records = Iterator[tuple[Location, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An encoded image that a shard holds.

    Attributes:
        name: The file name it was stored with, or its row's.
        content: The bytes of the image file.
    """

    name: str
    content: bytes

    def read_bytes(self) -> bytes:
        """The encoded image."""
        return self.content


@dataclass(frozen=True, slots=True)
class Entry:
    """One caption of a shard: what is to be scored, or why it cannot be.

    Attributes:
        label: Where it stands, unlike that of any other entry of the shard.
        id: The caller's name for it; its place where it has none.
        sample: The sample, or None.
        reason: Why there is none.
    """

    label: str
    id: str
    sample: Sample | None
    reason: str = ""


def find_shards(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The shards that paths name: a file each, or the ``.parquet`` and ``.tar`` files of a folder, sorted.

    Raises:
        InputError: A path does not exist, or a folder holds no shards.
        UsageError: A file of another kind, or two shards whose scores would be written to one file.
    """
    if not isinstance(paths, str | Path | Iterable):
        raise UsageError(
            f"shards are given as paths, not as {type(paths).__name__}: write a data set to a folder of "
            "parquet files first"
        )
    shards: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, str | Path) else paths):
        shards += _shards_of(path)
    if not shards:
        raise InputError("nothing to score: no shards were given")
    by_stem: dict[str, Path] = {}
    for shard in shards:
        other = by_stem.setdefault(shard.stem, shard)
        if other is not shard:
            raise UsageError(f"{other} and {shard} would write their scores to one file: rename one")
    return shards


def read_entries(shard: Path, images: Path | None = None) -> Iterator[Entry]:
    """The entries of a shard in its order; images inside it come with them, others are looked up.

    Args:
        shard: A parquet file with the columns of ``docs/caption-files.md``, or a tar archive in which the
            files of one name before the first dot are one sample: an image with ``.txt`` or ``.json``.
        images: The folder that images named in a parquet file are in, and nothing outside it; by default
            the one that the shard is in.

    Raises:
        SampleFileError: The shard cannot be read or lacks a column.
    """
    folder = ImageFolder(images or shard.parent)
    for place, record in _tar_records(shard) if shard.suffix == ".tar" else _parquet_records(shard):
        row = caption_row(place, record)
        several = isinstance(row.caption, list) and len(row.caption) > 1
        captions = row.caption if isinstance(row.caption, list) and row.caption else [row.caption]
        for number, caption in enumerate(captions, start=1):
            label = f"{row.place.label}, caption {number}" if several else row.place.label
            yield _entry(Row(row.place, row.id, row.image, caption, row.references), label, folder)


def _entry(row: Row, label: str, folder: ImageFolder) -> Entry:
    diagnostics = Diagnostics()
    samples = Assembler(folder, None, diagnostics, skip=True).samples([row])
    if samples:
        return Entry(label, samples[0].id, samples[0])
    return Entry(label, row.place.id or row.place.label, None, "; ".join(diagnostics.rejections))


def _shards_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file() and p.name[0] != ".")
        if not found:
            raise InputError(f"{path}: no shards (.parquet, .tar) in this folder: check the path")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file: check the path")
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: shards are .parquet or .tar files, uncompressed: convert it")
    return [path]


def _parquet_records(shard: Path) -> Records:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(shard) as file:
            columns = _columns(shard, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for cells in batch.to_pylist():
                    number += 1
                    record = {
                        name: _stored(cell, f"row {number}") if name in IMAGE_FIELDS else cell
                        for name, cell in cells.items()
                    }
                    yield Location(number, f"row {number}"), record
    except (pyarrow.ArrowException, OSError) as error:
        raise SampleFileError(shard, [f"cannot be read as parquet ({error}): write it anew"]) from error


def _columns(shard: Path, present: Sequence[str]) -> list[str]:
    diagnostics = Diagnostics()
    if not CaptionFields().suffice(list(present), diagnostics):
        diagnostics.finish(shard, [], skip=False)
    return [name for name in FIELDS if name in present]


def _stored(cell: object, name: str) -> object:
    """An image inside the file as a source; a path as it is."""
    if isinstance(cell, dict):
        path, content = cell.get("path"), cell.get("bytes")
        return path if content is None else StoredImage(path or name, content)
    return StoredImage(name, cell) if isinstance(cell, bytes) else cell


def _tar_records(shard: Path) -> Records:
    number, current, members = 0, "", dict[str, object]()
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isfile() or path.name.startswith("."):
                    continue
                stem, _, suffix = path.name.partition(".")
                key = str(path.with_name(stem))
                if members and key != current:
                    number += 1
                    yield _tar_record(number, current, members)
                    members = {}
                current = key
                _take(archive, member, suffix.lower(), members)
            if members:
                yield _tar_record(number + 1, current, members)
    except (tarfile.TarError, OSError) as error:
        raise SampleFileError(shard, [f"cannot be read as tar ({error}): write it anew"]) from error


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, suffix: str, members: dict[str, object]) -> None:
    """Read a member into memory if it is of a kind that counts; nothing is written to disk."""
    kind = "image" if suffix in IMAGE_SUFFIXES else suffix
    if kind not in ("image", "txt", "json"):
        return
    limit = MAX_BYTES if kind == "image" else MAX_TEXT_BYTES
    file = archive.extractfile(member) if member.size <= limit else None
    if file is None:
        members[kind] = Malformed(f"{member.name} has {member.size:,} bytes, more than {limit:,}: shorten it")
    elif kind == "image":
        members[kind] = StoredImage(member.name, file.read())
    else:
        members[kind] = file.read()


def _tar_record(number: int, key: str, members: dict[str, object]) -> tuple[Location, dict[str, Any]]:
    """A sample of an archive, its id the key unless its JSON has one."""
    record: dict[str, Any] = {}
    if "json" in members:
        parsed = _parsed(members["json"])
        if isinstance(parsed, dict):
            record = {k: v for k, v in parsed.items() if k in FIELDS and k not in IMAGE_FIELDS}
        else:
            record["caption"] = parsed
    if all(record.get(name) is None for name in ID_FIELDS):
        record["id"] = key
    if "txt" in members:
        record["caption"] = _decoded(members["txt"])
    record["image"] = members.get("image", Malformed("no image of this name in the archive: add it"))
    return Location(number, f"sample {number}"), record


def _decoded(content: object) -> object:
    try:
        return content.decode("utf-8-sig").strip("\r\n") if isinstance(content, bytes) else content
    except UnicodeDecodeError:
        return Malformed("the caption is not UTF-8: save it as UTF-8")


def _parsed(content: object) -> object:
    """A JSON object, or what stands for one that cannot be used."""
    text = _decoded(content)
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        return Malformed(f"its JSON cannot be parsed ({error}): correct it")
    return value if isinstance(value, dict | Malformed) else Malformed("its JSON is no object: correct it")
