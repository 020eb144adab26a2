"""What the adapters to Hugging Face's evaluate and datasets share: cells in, columns of scores out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import lru_cache
from inspect import signature
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.encoders import DEFAULT_MODEL
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results.result import at

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.results import Result


def cached_scorer(
    model: str | Encoder = DEFAULT_MODEL,
    *,
    weights: str | PathLike[str] | None = None,
    precision: str = "fp32",
    device: str = "auto",
    offline: bool = False,
    **options: Any,
) -> I0TScorer:
    """A new scorer whose model this process loads once, however often it is asked for.

    Args:
        model: As for ``I0TScorer``, and so is everything else.
        weights: A file; one that was written anew is loaded anew.
        precision: See ``I0TScorer``.
        device: See ``I0TScorer``.
        offline: See ``I0TScorer``.
        **options: Anything else that ``I0TScorer`` takes.

    Raises:
        TypeError: It does not take one of them; said before a model is fetched.
    """
    signature(I0TScorer).bind(model, **options)
    if isinstance(model, str):
        file = None if weights is None else fspath(weights)
        model = _encoder(model, file, _state(file), precision, device, offline)
    return I0TScorer(model, **options)


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
