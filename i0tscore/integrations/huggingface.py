"""Shared by the adapters to Hugging Face's evaluate and datasets: cells of image columns in, columns of scores out."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.options import DEFAULT_MODEL, EncodeOptions
from i0tscore.metrics.metric import PREFIX
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
        TypeError: An option is unknown. No model is loaded before this check.
    """
    scorer = I0TScorer(model, **options)
    if not isinstance(model, str):
        return scorer
    loading = {name: options[name] for name in LOADING if name in options}
    version = None
    if loading.get("weights") is not None:
        loading["weights"] = fspath(loading["weights"])
        if Path(loading["weights"]).is_file():
            stat = Path(loading["weights"]).stat()
            version = stat.st_mtime_ns, stat.st_size
    return I0TScorer(_encoder(EncodeOptions(model, **loading), version), **options)


@lru_cache(maxsize=2)
def _encoder(options: EncodeOptions, version: tuple[int, int] | None) -> Encoder:
    """Load an encoder. The cache holds two, so that two models can be used in turn."""
    return RunEncoder(options, PREFIX).encoder


def models_loaded() -> int:
    """Return how many models ``cached_scorer`` has loaded in this process or in the one it was forked from."""
    return _encoder.cache_info().misses


def to_cell(image: Any) -> dict[str, Any]:
    """Return an image as a cell of an image column, with the same pixels.

    Paths and the bytes of files stay as they are. Anything else becomes a PNG, even if it was read from a JPEG file,
    since encoding it as JPEG again would change it.

    Raises:
        ImageError: The image is of no type that ``I0TScorer.score`` accepts.
    """
    from i0tscore.encoders.images import decode, from_cell

    content = from_cell(image)
    if isinstance(content, str | PathLike):
        return {"path": fspath(content), "bytes": None}
    if isinstance(content, bytes):
        return {"path": None, "bytes": content}
    buffer = io.BytesIO()
    decode(content).save(buffer, "PNG", compress_level=1)
    return {"path": None, "bytes": buffer.getvalue()}


def score_columns(result: Result, ids: Iterable[str]) -> dict[str, list[float | None]]:
    """Return a result's scores by metric, one per id; None where undefined or skipped."""
    rows = {name: row for row, name in enumerate(result.ids)}
    return {
        name: [at(metric.values, rows[id_]) if id_ in rows else None for id_ in ids] for name, metric in result.items()
    }
