"""What the adapters to Hugging Face's evaluate and datasets share: cells in, columns of scores out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.encoders.options import DEFAULT_MODEL, EncodeOptions
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results.result import at

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.results import Result


LOADING = ("weights", "precision", "device", "offline")
"""Fields of ``EncodeOptions`` that concern loading the model."""


def cached_scorer(model: str | Encoder = DEFAULT_MODEL, **options: Any) -> I0TScorer:
    """Return a new scorer whose model is loaded once per process.

    Args:
        model: See ``I0TScorer``.
        **options: Other arguments of ``I0TScorer``. A weights file that has changed is loaded again.

    Raises:
        TypeError: An option is unknown. No model is loaded before.
    """
    scorer = I0TScorer(model, **options)
    if not isinstance(model, str):
        return scorer
    o = EncodeOptions(model, **{name: options[name] for name in LOADING if name in options})
    file = None if o.weights is None else fspath(o.weights)
    return I0TScorer(_encoder(model, file, _state(file), o.precision, o.device, o.offline), **options)


@lru_cache(maxsize=2)
def _encoder(model: str, weights: str | None, state: object, precision: str, device: str, offline: bool) -> Encoder:
    """Load an encoder; two are kept, so that two models can be used in turn."""
    from i0tscore import encoders

    return encoders.load_encoder(model, weights=weights, precision=precision, device=device, offline=offline)


def _state(file: str | None) -> tuple[int, int] | None:
    """What tells a file from an earlier one of that name."""
    if file is None or not Path(file).is_file():
        return None
    found = Path(file).stat()
    return found.st_mtime_ns, found.st_size


def models_loaded() -> int:
    """How many models this process, or the one it was forked from, has loaded by ``cached_scorer``."""
    return _encoder.cache_info().misses


def from_cell(cell: Any) -> Any:
    """What a cell of an image column holds: an undecoded image's bytes or path, or the cell itself."""
    if isinstance(cell, dict):
        return cell["path"] if cell.get("bytes") is None else cell["bytes"]
    return cell


def to_cell(image: Any) -> dict[str, Any]:
    """An image as a cell of an image column, with the pixels it has.

    Paths and the bytes of files stay as they are; anything else becomes a PNG, also where it says that it
    comes from a JPEG file, since storing it as one again would change it.

    Raises:
        ImageError: It is no kind of image that ``I0TScorer.score`` takes.
    """
    from i0tscore.encoders.images import decode

    content = from_cell(image)
    if isinstance(content, str | PathLike):
        return {"path": fspath(content), "bytes": None}
    if isinstance(content, bytes):
        return {"path": None, "bytes": content}
    buffer = io.BytesIO()
    decode(content).save(buffer, "PNG", compress_level=1)
    return {"path": None, "bytes": buffer.getvalue()}


def score_columns(result: Result, ids: Iterable[str]) -> dict[str, list[float | None]]:
    """A result's scores by metric, one for each id; None where undefined or left out."""
    places = {name: place for place, name in enumerate(result.ids)}
    return {
        name: [at(metric.values, places[id_]) if id_ in places else None for id_ in ids]
        for name, metric in result.items()
    }
