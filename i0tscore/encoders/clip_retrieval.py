"""Folders of embeddings as clip-retrieval writes them: images, captions and metadata in numbered shards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from i0tscore.encoders.precomputed import read_npy, row_problems, shape_problems, unit_rows
from i0tscore.errors import SampleFileError

IMAGES, CAPTIONS, METADATA = "img_emb", "text_emb", "metadata"

BLOCK = 65_536
"""Rows of a shard that are in memory besides the result."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPairs:
    """Embedded images with their embedded captions.

    Attributes:
        ids: One for each pair (n): its ``key``, else the stem of its ``image_path``, else its position.
        images: Float32 (n, d), scaled to unit length.
        captions: The same of the captions.
        texts: The captions (n), empty where there is none; or nothing, if no metadata have captions.
    """

    ids: tuple[str, ...]
    images: Vectors
    captions: Vectors
    texts: tuple[str, ...]


def is_clip_retrieval(path: str | Path) -> bool:
    """Whether a path is a folder that holds ``img_emb`` or ``text_emb``."""
    return any((Path(path) / name).is_dir() for name in (IMAGES, CAPTIONS))


def read_clip_retrieval(folder: str | Path) -> EmbeddedPairs:
    """Read a folder that ``clip-retrieval inference`` wrote, with images and texts enabled.

    ``img_emb/img_emb_0.npy`` and ``text_emb/text_emb_0.npy`` hold embeddings, row by row of the same pair;
    ``metadata/metadata_0.parquet`` is read for ``key``, ``image_path`` and ``caption`` if it is there.
    Shards are taken in the order of their numbers. Arrays are mapped and read in blocks, so that besides
    the result, 8·d bytes a pair, little is in memory.

    Args:
        folder: The folder that holds the three.

    Raises:
        SampleFileError: With everything that is wrong: a missing folder or shard, counts or dimensions
            that differ, arrays of anything but numbers, rows without a direction.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("img_emb", "text_emb"):
        ...     (folder / name).mkdir()
        ...     np.save(folder / name / f"{name}_0.npy", np.eye(2, 4, dtype=np.float16))
        >>> pairs = read_clip_retrieval(folder)
        >>> pairs.ids, pairs.images.shape
        (('0', '1'), (2, 4))
    """
    root = Path(folder)
    shards = _Shards.find(root)
    count = sum(len(shard) for shard in shards.images.values())
    dimension = next(iter(shards.images.values())).shape[1]
    sides = {name: np.empty((count, dimension), dtype=np.float32) for name in (IMAGES, CAPTIONS)}
    problems = []
    for name, arrays in ((IMAGES, shards.images), (CAPTIONS, shards.captions)):
        start = 0
        for number, values in arrays.items():
            for first, block in _blocks(values):
                problems += [f"{name}, shard {number}: {line}" for line in row_problems(block, first)]
                if not problems:
                    sides[name][start + first : start + first + len(block)] = unit_rows(block)
            start += len(values)
    if problems:
        raise SampleFileError(root, problems)
    keys, paths, texts = shards.columns()
    ids = tuple(
        str(key) if key is not None else PurePath(path).stem if path else str(position)
        for position, (key, path) in enumerate(zip(keys, paths, strict=True))
    )
    captions = tuple(text or "" for text in texts) if any(texts) else ()
    return EmbeddedPairs(ids, sides[IMAGES], sides[CAPTIONS], captions)


@dataclass(frozen=True, slots=True)
class _Shards:
    """The shards of a folder by number, in order: mapped arrays, and files of metadata if there are any."""

    images: dict[int, npt.NDArray[Any]]
    captions: dict[int, npt.NDArray[Any]]
    metadata: dict[int, Path]

    @classmethod
    def find(cls, root: Path) -> _Shards:
        files = {name: _numbered(root / name, "npy") for name in (IMAGES, CAPTIONS)}
        files[METADATA] = _numbered(root / METADATA, "parquet")
        problems = [
            f"no {name}/{name}_0.npy: give clip-retrieval's folder, made with images and texts enabled"
            for name in (IMAGES, CAPTIONS)
            if not files[name]
        ]
        if (root / METADATA).is_dir() and not files[METADATA]:
            problems.append(f"{METADATA}: no {METADATA}_0.parquet in it; add its shards or remove the folder")
        numbers = sorted(set().union(*files.values()))
        problems += [
            f"{name}: no shard {number}, which others have; add it or remove the others"
            for name, found in files.items()
            for number in numbers
            if found and number not in found
        ]
        if problems:
            raise SampleFileError(root, problems)
        images, captions = (
            {number: read_npy(file, mapped=True) for number, file in files[name].items()} for name in (IMAGES, CAPTIONS)
        )
        found = cls(images, captions, files[METADATA])
        problems = found._problems()
        if problems:
            raise SampleFileError(root, problems)
        return found

    def _problems(self) -> list[str]:
        problems = [
            f"{name}, shard {number}: {line}"
            for name, arrays in ((IMAGES, self.images), (CAPTIONS, self.captions))
            for number, values in arrays.items()
            for line in shape_problems(values)
        ]
        if problems:
            return problems
        dimensions = {values.shape[1] for side in (self.images, self.captions) for values in side.values()}
        if len(dimensions) > 1:
            listed = ", ".join(map(str, sorted(dimensions)))
            problems.append(f"embeddings of {listed} dimensions; all must be of one encoder")
        for number, values in self.images.items():
            counts = {IMAGES: len(values), CAPTIONS: len(self.captions[number])}
            if number in self.metadata:
                counts[METADATA] = _open(self.metadata[number]).metadata.num_rows
            if len(set(counts.values())) > 1:
                listed = ", ".join(f"{name} {count}" for name, count in counts.items())
                problems.append(f"shard {number} has rows: {listed}; the counts must be equal")
        return problems

    def columns(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Of all pairs ``key``, ``image_path`` and ``caption``, None where there is none."""
        columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for number, values in self.images.items():
            table = _open(self.metadata[number]) if number in self.metadata else None
            for column, name in zip(columns, ("key", "image_path", "caption"), strict=True):
                if table is None or name not in table.schema_arrow.names:
                    column += [None] * len(values)
                else:
                    column += table.read([name])[name].to_pylist()
        return columns


def _numbered(folder: Path, suffix: str) -> dict[int, Path]:
    """The shards of a folder by number, in order."""
    found = {}
    for file in folder.glob(f"*.{suffix}"):
        match = re.fullmatch(rf"{folder.name}_(\d+)\.{suffix}", file.name)
        if match:
            found[int(match.group(1))] = file
    return dict(sorted(found.items()))


def _open(file: Path) -> Any:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    try:
        return ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise SampleFileError(file, [f"not a readable parquet file ({error}); write it again"]) from error


def _blocks(values: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for first in range(0, len(values), BLOCK):
        yield first, values[first : first + BLOCK]
