"""Embeddings made elsewhere, with their ids."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from i0tscore.errors import SampleFileError

LISTED = 5
"""How many ids or rows one problem names."""


@dataclass(frozen=True, slots=True)
class Precomputed:
    """Embeddings with ids.

    Attributes:
        ids: One for each row, all different.
        vectors: Float32 (n, d), scaled to unit length.
    """

    ids: tuple[str, ...]
    vectors: npt.NDArray[np.float32]


def read_embeddings(path: str | Path, *, unique_ids: bool = True) -> Precomputed:
    """Read embeddings and their ids.

    * ``FILE.npy``: one array (n, d); the ids in ``FILE.ids.txt``, one a line, or ``FILE.ids.json``, a
      list of strings.
    * ``FILE.safetensors``: the tensor ``embeddings``, or the only one there; the ids in the metadata
      under ``ids`` as a JSON list, or beside it as for ``.npy``.

    Args:
        path: The file.
        unique_ids: Whether an id may be there only once. Captions may share their image's id.

    Returns:
        The ids and the vectors, scaled to unit length.

    Raises:
        SampleFileError: With everything that is wrong with the file.
    """
    file = Path(path)
    if not file.is_file():
        raise SampleFileError(file, ["there is no such file; check the path"])
    if file.suffix == ".npy":
        values, ids = read_npy(file), _read_sidecar(file)
    elif file.suffix == ".safetensors":
        values, ids = _read_safetensors(file)
    else:
        raise SampleFileError(
            file, [f"embeddings in {file.suffix or 'such'} files are not read; save .npy or .safetensors"]
        )
    if ids is None:
        names = f"{file.stem}.ids.txt (one a line) or {file.stem}.ids.json (a list)"
        raise SampleFileError(file, [f"the ids are missing; put them beside it as {names}"])
    problems = _problems(values, ids, unique_ids=unique_ids)
    if problems:
        raise SampleFileError(file, problems)
    return Precomputed(tuple(ids), unit_rows(values))


def unit_rows(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Scale rows to unit length, also those whose squares float32 cannot hold."""
    exact = values.astype(np.float64)
    unit: npt.NDArray[np.float32] = (exact / np.linalg.norm(exact, axis=1, keepdims=True)).astype(np.float32)
    return unit


def read_npy(file: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """Read an array, or map it, which reads only the rows that are looked at.

    Raises:
        SampleFileError: It is no array of numbers.
    """
    try:
        # Without pickle: an array of objects could run code when opened.
        values: npt.NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SampleFileError(file, [f"not a readable array of numbers ({error}); save it with numpy.save"]) from error
    return values


def _read_safetensors(file: Path) -> tuple[npt.NDArray[Any], list[str] | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as content:
            metadata, names = content.metadata() or {}, list(content.keys())
            name = "embeddings" if "embeddings" in names else names[0] if len(names) == 1 else None
            if name is None:
                listed = ", ".join(sorted(names)[:LISTED])
                raise SampleFileError(file, [f"which tensor? name one 'embeddings' (there are: {listed})"])
            values: npt.NDArray[Any] = content.get_tensor(name).float().numpy()
    except (SafetensorError, OSError) as error:
        raise SampleFileError(file, [f"not a readable safetensors file ({error})"]) from error
    if "ids" not in metadata:
        return values, _read_sidecar(file)
    return values, _parse_ids(file, metadata["ids"], "the metadata 'ids'")


def _read_sidecar(file: Path) -> list[str] | None:
    for suffix in (".ids.txt", ".ids.json"):
        sidecar = file.with_name(file.stem + suffix)
        if not sidecar.is_file():
            continue
        try:
            text = sidecar.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise SampleFileError(sidecar, [f"not UTF-8 ({error}); save it as UTF-8"]) from error
        return text.splitlines() if suffix == ".ids.txt" else _parse_ids(sidecar, text, "the file")
    return None


def _parse_ids(file: Path, text: str, where: str) -> list[str]:
    try:
        ids = json.loads(text)
    except json.JSONDecodeError as error:
        raise SampleFileError(file, [f"{where} is not JSON ({error})"]) from error
    if not isinstance(ids, list) or not all(isinstance(one, str | int) for one in ids):
        raise SampleFileError(file, [f"{where} must be a JSON list of strings"])
    return [str(one) for one in ids]


def shape_problems(values: npt.NDArray[Any]) -> list[str]:
    """Whether an array can hold embeddings at all."""
    if values.ndim != 2 or 0 in values.shape or not np.issubdtype(values.dtype, np.number):
        return [f"must hold numbers of shape (n, d), got {values.dtype} {values.shape}"]
    return ["must hold real numbers, got complex ones"] if np.iscomplexobj(values) else []


def row_problems(values: npt.NDArray[Any], first: int = 0) -> list[str]:
    """What is wrong with rows, of which the first has the number ``first`` in its file."""
    finite = np.isfinite(values).all(axis=1)
    zero = finite & ~values.any(axis=1)
    return [
        f"{rows.sum()} rows are {what} (rows {_listed(first + np.flatnonzero(rows))}); encode them again"
        for rows, what in ((~finite, "NaN or infinite"), (zero, "all zeros: they have no direction"))
        if rows.any()
    ]


def _problems(values: npt.NDArray[Any], ids: list[str], *, unique_ids: bool) -> list[str]:
    problems = shape_problems(values)
    if problems:
        return problems
    if len(ids) != len(values):
        problems.append(f"{len(ids)} ids for {len(values)} rows; there must be one for each")
    problems += row_problems(values)
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if unique_ids and repeated:
        problems.append(f"{len(repeated)} ids are there more than once ({_listed(repeated)})")
    if any(not name.strip() for name in ids):
        problems.append("some ids are empty")
    return problems


def _listed(items: Any) -> str:
    shown = ", ".join(str(item) for item in items[:LISTED])
    return f"{shown}, …" if len(items) > LISTED else shown
