"""Precomputed embeddings: arrays with ids (``.npy``, ``.safetensors``), and folders written by clip-retrieval."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from i0tscore.errors import SampleFileError
from i0tscore.samples.datasets import open_parquet

Vectors = npt.NDArray[np.float32]

LISTED = 5
"""Ids or rows named in one problem."""
BLOCK = 1024
"""Rows that are checked or scaled at once. Their float64 values fit into the cache of a processor."""

IMAGES, CAPTIONS, METADATA = "img_emb", "text_emb", "metadata"
"""Folders inside a clip-retrieval folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Embeddings with ids.

    Attributes:
        ids: One per row (n).
        vectors: Float32 (n, d), scaled to unit length.
    """

    ids: tuple[str, ...]
    vectors: Vectors


class StoredRows:
    """Embeddings in arrays (m, d) that may be files mapped into memory: rows are scaled to unit length when read.

    Args:
        arrays: The arrays, of one width, whose rows follow each other.
        rows: The rows (n,) to use, in this order; None for all.
    """

    def __init__(self, arrays: Sequence[npt.NDArray[Any]], rows: npt.NDArray[np.int64] | None = None) -> None:
        self._arrays = arrays
        self._starts = np.cumsum([0, *map(len, arrays)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, d)``."""
        return len(self), self._arrays[0].shape[1]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Vectors:
        """Return the rows of a slice or of an array of row numbers, float32 (k, d)."""
        wanted = self._rows[rows]
        found = np.empty((len(wanted), self.shape[1]), dtype=np.float32)
        for start, values in zip(self._starts, self._arrays, strict=False):
            own = np.flatnonzero((wanted >= start) & (wanted < start + len(values)))
            for first in range(0, len(own), BLOCK):
                block = own[first : first + BLOCK]
                found[block] = _unit_rows(read_rows(values, wanted[block] - start))
        return found


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPairs:
    """Embedded images paired with their embedded captions.

    Attributes:
        ids: One per pair (n).
        images: Float32 (n, d), scaled to unit length, read when used.
        captions: Float32 (n, d), scaled to unit length, read when used.
        texts: The captions (n), an empty string where unknown; an empty tuple if all are unknown.
    """

    ids: tuple[str, ...]
    images: StoredRows
    captions: StoredRows
    texts: tuple[str, ...] = ()


def read_embeddings(path: str | Path, *, unique_ids: bool = True) -> Embeddings:
    """Read embeddings and their ids.

    * ``FILE.npy``: one array (n, d), with ids in ``FILE.ids.txt`` (one per line) or ``FILE.ids.json`` (a list
      of strings).
    * ``FILE.safetensors``: the tensor ``embeddings``, or the only tensor in the file, with ids as a JSON list
      under ``ids`` in the metadata, or next to the file as for ``.npy``.

    Args:
        path: The file.
        unique_ids: Whether to reject repeated ids. Captions may share the id of their image.

    Raises:
        SampleFileError: Lists everything that is wrong with the file.
    """
    ids, values = _open_embeddings(Path(path), unique_ids=unique_ids)
    return Embeddings(tuple(ids), StoredRows([values])[:])


def _open_embeddings(file: Path, *, unique_ids: bool = True) -> tuple[list[str], npt.NDArray[Any]]:
    """Return the ids and the checked embeddings of a file, mapped into memory if it is ``.npy``."""
    if not file.is_file():
        raise SampleFileError(file, ["No such file. Check the path."])
    if file.suffix == ".npy":
        values, ids = map_npy(file), _read_ids(file)
    elif file.suffix == ".safetensors":
        values, ids = _read_safetensors(file)
    else:
        raise SampleFileError(file, [f"Expected .npy or .safetensors, got {file.suffix or 'no suffix'}."])
    if ids is None:
        raise SampleFileError(
            file, [f"No ids found. Add {file.stem}.ids.txt (one per line) or {file.stem}.ids.json (a list) next to it."]
        )
    problems = _shape_problems(values)
    if not problems:
        if len(ids) != len(values):
            problems.append(f"Expected one id per row, got {len(ids)} ids for {len(values)} rows.")
        problems += _row_problems(values)
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        if unique_ids and repeated:
            problems.append(f"Expected unique ids, got {len(repeated)} repeated ones ({_preview(repeated)}).")
        if any(not name.strip() for name in ids):
            problems.append("Expected ids, got empty ones.")
    if problems:
        raise SampleFileError(file, problems)
    return ids, values


def pair_embeddings(image_file: str | Path, caption_file: str | Path) -> EmbeddedPairs:
    """Read two files of embeddings and pair each caption with the image of the same id.

    Args:
        image_file: Image embeddings with unique ids; see ``read_embeddings``.
        caption_file: Caption embeddings; several captions may share the id of one image.

    Raises:
        SampleFileError: Lists everything that is wrong with a file, and captions without an image.
    """
    names, images = _open_embeddings(Path(image_file))
    ids, captions = _open_embeddings(Path(caption_file), unique_ids=False)
    row_of = {name: row for row, name in enumerate(names)}
    missing = [name for name in ids if name not in row_of]
    if missing:
        raise SampleFileError(caption_file, [f"{name}: {image_file} has no embedding of this id." for name in missing])
    rows = np.array([row_of[name] for name in ids])
    return EmbeddedPairs(tuple(ids), StoredRows([images], rows), StoredRows([captions]))


def read_clip_retrieval(folder: str | Path) -> EmbeddedPairs:
    """Read a folder that ``clip-retrieval inference`` wrote with images and texts enabled.

    ``img_emb/img_emb_0.npy`` and ``text_emb/text_emb_0.npy`` hold embeddings of the same pairs, row by row. If
    present, ``metadata/metadata_0.parquet`` is read for ``key``, ``image_path`` and ``caption``. Shards are
    joined in the order of their numbers. Arrays are memory-mapped: rows are read when they are used.

    Args:
        folder: The folder that contains the three.

    Returns:
        The pairs. An id is the ``key``, else the stem of the ``image_path``, else the position.

    Raises:
        SampleFileError: Lists missing folders or shards, differing counts or dimensions, arrays of anything but
            numbers, and rows without a direction.

    Examples:
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
    files = shard_files(root)
    arrays = {name: {n: map_npy(file) for n, file in files[name].items()} for name in (IMAGES, CAPTIONS)}
    problems = _shard_problems(arrays, files[METADATA])
    if problems:
        raise SampleFileError(root, problems)
    problems = [
        f"{name}, shard {number}: {line}"
        for name, shards in arrays.items()
        for number, values in shards.items()
        for line in _row_problems(values)
    ]
    if problems:
        raise SampleFileError(root, problems)
    ids: list[str] = []
    texts: list[str] = []
    for number, values in arrays[IMAGES].items():
        keys, paths, captions = _read_metadata(files[METADATA].get(number), len(values))
        texts += [caption or "" for caption in captions]
        for key, path in zip(keys, paths, strict=True):
            ids.append(str(key) if key is not None else PurePath(path).stem if path else str(len(ids)))
    stored = {name: StoredRows(list(shards.values())) for name, shards in arrays.items()}
    return EmbeddedPairs(tuple(ids), stored[IMAGES], stored[CAPTIONS], tuple(texts) if any(texts) else ())


def shard_files(root: Path) -> dict[str, dict[int, Path]]:
    """Return the files of each folder by shard number, in order; report shards that only some folders have."""
    files: dict[str, dict[int, Path]] = {}
    for name, suffix in ((IMAGES, "npy"), (CAPTIONS, "npy"), (METADATA, "parquet")):
        pattern = re.compile(rf"{name}_(\d+)\.{suffix}")
        matches = ((pattern.fullmatch(file.name), file) for file in (root / name).glob(f"*.{suffix}"))
        files[name] = dict(sorted((int(match[1]), file) for match, file in matches if match))
    problems = [
        f"No {name}/{name}_0.npy found. Run clip-retrieval inference with images and texts enabled."
        for name in (IMAGES, CAPTIONS)
        if not files[name]
    ]
    if (root / METADATA).is_dir() and not files[METADATA]:
        problems.append(f"No {METADATA}/{METADATA}_0.parquet found. Add the shards or remove the folder {METADATA}.")
    problems += [
        f"{name}: Shard {number} is missing, though other folders have it. Add it or remove the others."
        for name, found in files.items()
        for number in sorted(set().union(*files.values()))
        if found and number not in found
    ]
    if problems:
        raise SampleFileError(root, problems)
    return files


def _shard_problems(arrays: dict[str, dict[int, npt.NDArray[Any]]], metadata: dict[int, Path]) -> list[str]:
    """Report shards whose shapes do not fit together."""
    problems = [
        f"{name}, shard {number}: {line}"
        for name, shards in arrays.items()
        for number, values in shards.items()
        for line in _shape_problems(values)
    ]
    if problems:
        return problems
    dimensions = sorted({values.shape[1] for shards in arrays.values() for values in shards.values()})
    if len(dimensions) > 1:
        problems.append(
            f"Expected embeddings of one encoder, got embeddings of {', '.join(map(str, dimensions))} dimensions."
        )
    for number in arrays[IMAGES]:
        counts = {name: len(shards[number]) for name, shards in arrays.items()}
        if number in metadata:
            with open_parquet(metadata[number]) as file:
                counts[METADATA] = file.metadata.num_rows
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            problems.append(f"Expected equal numbers of rows in shard {number}, got {listed}.")
    return problems


def _read_metadata(file: Path | None, rows: int) -> list[list[Any]]:
    """Return ``key``, ``image_path`` and ``caption`` of each row, None where absent."""
    columns: dict[str, list[Any]] = {name: [None] * rows for name in ("key", "image_path", "caption")}
    if file is not None:
        with open_parquet(file) as table:
            columns |= table.read([name for name in columns if name in table.schema_arrow.names]).to_pydict()
    return list(columns.values())


def map_npy(file: Path) -> npt.NDArray[Any]:
    """Map an array in a file into memory.

    Raises:
        SampleFileError: It is not an array of numbers.
    """
    try:
        # Without pickle: loading an array of objects could run code.
        values: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SampleFileError(file, [f"Not a readable array of numbers ({error}). Save it with numpy.save."]) from error
    return values


def _read_safetensors(file: Path) -> tuple[npt.NDArray[Any], list[str] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            metadata, names = content.metadata() or {}, list(content.keys())
            name = "embeddings" if "embeddings" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise SampleFileError(
                    file, [f'Expected one tensor or one named "embeddings", got {_preview(sorted(names))}. Rename one.']
                )
            values: npt.NDArray[Any] = content.get_tensor(name).float().numpy()
    except (SafetensorError, OSError) as error:
        raise SampleFileError(file, [f"Not a readable safetensors file ({error}). Save it again."]) from error
    if "ids" not in metadata:
        return values, _read_ids(file)
    return values, _parse_ids(file, metadata["ids"], 'ids in the metadata under "ids"')


def _read_ids(file: Path) -> list[str] | None:
    """Return the ids stored next to a file; None if there are none."""
    for suffix in (".ids.txt", ".ids.json"):
        sidecar = file.with_name(file.stem + suffix)
        if not sidecar.is_file():
            continue
        try:
            text = sidecar.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise SampleFileError(sidecar, [f"Expected UTF-8 text ({error}). Save it as UTF-8."]) from error
        return text.splitlines() if suffix == ".ids.txt" else _parse_ids(sidecar, text, "ids")
    return None


def _parse_ids(file: Path, text: str, what: str) -> list[str]:
    try:
        ids = json.loads(text)
    except json.JSONDecodeError as error:
        raise SampleFileError(file, [f"Expected {what} as JSON, got invalid JSON ({error})."]) from error
    if not isinstance(ids, list) or not all(isinstance(one, str | int) for one in ids):
        raise SampleFileError(file, [f"Expected {what} as a JSON list of strings."])
    return [str(one) for one in ids]


def _shape_problems(values: npt.NDArray[Any]) -> list[str]:
    """Report an array that cannot hold embeddings at all."""
    if values.ndim != 2 or 0 in values.shape or not np.issubdtype(values.dtype, np.number):
        return [f"Expected numbers of shape (n, d), got {values.dtype} {values.shape}."]
    return ["Expected real numbers, got complex ones."] if np.iscomplexobj(values) else []


def _row_problems(values: npt.NDArray[Any]) -> list[str]:
    """Report rows without a direction."""
    finite, zero = np.empty(len(values), dtype=np.bool_), np.empty(len(values), dtype=np.bool_)
    for first in range(0, len(values), BLOCK):
        rows = slice(first, first + BLOCK)
        block = read_rows(values, rows)
        finite[rows] = np.isfinite(block).all(axis=1)
        zero[rows] = finite[rows] & ~block.any(axis=1)
    return [
        f"{found.sum()} rows are {what} (rows {_preview(np.flatnonzero(found))}). Encode them again."
        for found, what in ((~finite, "NaN or infinite"), (zero, "all zeros and have no direction"))
        if found.any()
    ]


def read_rows(values: npt.NDArray[Any], rows: Any) -> npt.NDArray[Any]:
    """Return rows of an array, through a short-lived mapping of a file: mapped pages count as memory once read."""
    if isinstance(values, np.memmap):
        order: Any = "C" if values.flags.c_contiguous else "F"
        values = np.memmap(str(values.filename), values.dtype, "r", values.offset, values.shape, order)
    found: npt.NDArray[Any] = np.asarray(values)[rows]
    return found


def _unit_rows(values: npt.NDArray[Any]) -> Vectors:
    """Scale rows to unit length, in float64 because their squares may overflow or underflow float32."""
    norms = np.sqrt(np.square(values, dtype=np.float64).sum(axis=1, keepdims=True))
    unit = np.empty(values.shape, dtype=np.float32)
    np.divide(values, norms, out=unit, dtype=np.float64, casting="same_kind")
    return unit


def _preview(items: Any) -> str:
    listed = ", ".join(str(item) for item in items[:LISTED])
    return f"{listed}, …" if len(items) > LISTED else listed
