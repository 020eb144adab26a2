"""Reads shards: files of captions with their images, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from i0tscore.errors import InputError, UsageError
from i0tscore.samples import Sample
from i0tscore.samples.diagnostics import Diagnostics
from i0tscore.samples.formats import FORMATS, detect_format
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.reader import SampleBuilder
from i0tscore.samples.schema import CAPTIONS, Source

SUFFIXES = tuple(suffix for form in FORMATS.values() if form.stream for suffix in form.suffixes)
"""Suffixes of the files in a folder that are shards."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One caption of a shard: a sample, or why there is none.

    Attributes:
        label: Its location, unlike that of any other entry of the shard.
        id: The caller's name for it; its location if it has none.
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
    """Yield the entries of a shard in order; images inside it come with them, others are looked up.

    Args:
        shard: A file in one of the formats of ``docs/caption-files.md``, such as parquet or WebDataset.
        images: The folder of images named in the shard, and nothing outside it; by default that of the shard.

    Raises:
        SampleFileError: The shard cannot be read or lacks a column.
    """
    folder = ImageFolder(images or shard.parent)
    form, diagnostics = detect_format(shard), Diagnostics()
    for location, record in (form.stream or form.read)(Source(shard, CAPTIONS, diagnostics)):
        captions = record.get("caption")
        several = isinstance(captions, list) and len(captions) > 1
        for number, caption in enumerate(captions if isinstance(captions, list) and captions else [captions], start=1):
            label = f"{location.label}, caption {number}" if several else location.label
            found = Diagnostics()
            samples = SampleBuilder(folder, found, skip=True).build([(location, {**record, "caption": caption})])
            if samples:
                yield Entry(label, samples[0].id, samples[0])
            else:
                reasons = " ".join(message for _, message in found.row_errors)
                yield Entry(label, location.id or location.label, None, reasons)
    if diagnostics.file_errors:
        diagnostics.finish(shard, 0)
    for location, message in diagnostics.row_errors:
        yield Entry(location.label, location.id or location.label, None, message)


def _shards_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and p.is_file() and p.name[0] != ".")
        if not found:
            raise InputError(f"{path}: no shards (.parquet, .tar) in this folder: check the path")
        return found
    if not path.is_file():
        raise InputError(f"{path}: no such file: check the path")
    if not any(path.suffix in form.suffixes for form in FORMATS.values()):
        raise UsageError(f"{path}: Expected .parquet or .tar files, or captions in another format. Convert it.")
    return [path]
