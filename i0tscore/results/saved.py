"""Reads back what ``i0tscore score`` wrote: scores by metric, one a sample, with their signatures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import SampleFileError
from i0tscore.results.serialise import RESULT_SCHEMA
from i0tscore.results.signature import Signature
from i0tscore.samples.json_files import line_records
from i0tscore.samples.rows import Diagnostics, Location, Records, described, preview
from i0tscore.samples.text import BROKEN, read_json

_HEAD_BYTES = 1 << 16
_WRITTEN_BY = "`i0tscore score --format json` or `--format jsonl`"


@dataclass(frozen=True, slots=True, eq=False)
class RunScores:
    """Scores of one run, or of one system's captions in a run.

    Attributes:
        ids: Sample ids (n).
        values: By metric (n,), float64; NaN where undefined.
        signatures: By metric; empty where they are not known, as in JSON lines.
    """

    ids: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]
    signatures: dict[str, Signature]


def is_result_file(path: Path) -> bool:
    """Whether a file looks like a result rather than captions: by its schema, or its first line's scores."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace").lstrip()
    except OSError:
        return False  # told by whoever reads it
    if f'"{RESULT_SCHEMA.partition("/")[0]}/' in head[:200]:
        return True
    try:
        record = json.loads(head.partition("\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "id" in record and isinstance(record.get("scores"), dict)


def read_scores(path: Path) -> RunScores:
    """Read a result in JSON, or one sample a line.

    Raises:
        InputError: The file cannot be read.
        SampleFileError: Whatever is wrong with it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "a.jsonl")
        >>> _ = file.write_text('{"id": "dog", "scores": {"CLIPScore": {"value": 0.7}}}')
        >>> read_scores(file).values
        {'CLIPScore': array([0.7])}
    """
    diagnostics = Diagnostics()
    signatures: dict[str, Signature] = {}
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        records = line_records(path, diagnostics)
    else:
        records, signatures = _whole(path, diagnostics)
    if not records and not diagnostics.any:
        diagnostics.file_error("no samples in it")
    names = list(dict.fromkeys(name for _, record in records for name in _scores(record)))
    columns: dict[str, list[float]] = {name: [] for name in names}
    for place, record in records:
        if not isinstance(record.get("id"), str) or not _scores(record):
            diagnostics.row_error(place, f'no sample with "id" and "scores": is it from {_WRITTEN_BY}?')
            continue
        for name in names:
            columns[name].append(_value(_scores(record).get(name), place, name, diagnostics))
    if diagnostics.any:
        diagnostics.finish(path, [], skip=False)
    values = {name: np.array(column) for name, column in columns.items()}
    return RunScores(tuple(record["id"] for _, record in records), values, signatures)


def _whole(path: Path, diagnostics: Diagnostics) -> tuple[Records, dict[str, Signature]]:
    data = read_json(path, diagnostics)
    if data is BROKEN:
        return [], {}
    if not isinstance(data, dict) or data.get("schema") != RESULT_SCHEMA:
        diagnostics.file_error(f'no result of the schema "{RESULT_SCHEMA}": make it by {_WRITTEN_BY}')
        return [], {}
    samples = data.get("samples")
    if not isinstance(samples, list):
        raise SampleFileError(path, ["the samples were left out of it: score again without --no-per-sample"])
    odd = [str(i) for i, sample in enumerate(samples, start=1) if not isinstance(sample, dict)]
    if odd:
        diagnostics.file_error(f"samples that are no objects: {preview(odd)}")
        return [], {}
    records = [(Location(i, f"sample {i}"), sample) for i, sample in enumerate(samples, start=1)]
    signatures = {
        name: Signature.parse(str(metric["signature"]))
        for name, metric in _scores(data).items()
        if isinstance(metric, dict) and "signature" in metric
    }
    return records, signatures


def _scores(record: Mapping[str, Any]) -> Mapping[str, Any]:
    scores = record.get("scores")
    return scores if isinstance(scores, dict) else {}


def _value(score: object, place: Location, name: str, diagnostics: Diagnostics) -> float:
    value = score.get("value") if isinstance(score, dict) else score
    if isinstance(score, dict) and "value" in score and value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        diagnostics.row_error(place, f"{name} is {described(value)}: {_WRITTEN_BY} gives each score a value")
        return math.nan
    return float(value)
