"""Signing of numbers computed from a run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from i0tscore.gap import Standardizer, Statistics
from i0tscore.gap.vectors import Rows, chunks
from i0tscore.results.intervals import Resampling
from i0tscore.results.report import Signature

if TYPE_CHECKING:
    from i0tscore.encoders.encode import EncodedRun


@dataclass(frozen=True, slots=True)
class SignatureFields:
    """Settings of a run that its signatures and intervals depend on.

    Attributes:
        encoder: Signature fields of the encoder, ``m``, ``act``, ``w``, ``prep``; empty for embeddings.
        encoding: Fields of the text encoding, ``prefix``, ``prec``, ``long``; empty for embeddings.
        resampling: Settings of the intervals.
        ranks: Whether to rank captions; None to do so unless there are too many.
    """

    encoder: tuple[tuple[str, str], ...]
    encoding: tuple[tuple[str, str], ...]
    resampling: Resampling
    ranks: bool | None = None


def sign(
    name: str,
    run: EncodedRun,
    standardizer: Standardizer,
    statistics: Statistics | None,
    settings: SignatureFields,
    *own: tuple[str, str],
) -> Signature:
    """Return the signature of a number computed from a run, with the metric's ``own`` fields."""
    stats = "none"
    if standardizer.spec.need is not None and statistics is not None:
        stats = f"{statistics.name}-{statistics.digest_of(standardizer)[:4]}"
    bootstrap = settings.resampling
    fields = [
        *(settings.encoder or embeddings_fields(run.images, run.texts)),
        ("std", str(standardizer)),
        ("stats", stats),
        *own,
        ("n", str(run.n)),
        ("skipped", str(len(run.skipped))),
        *settings.encoding,
        *([("bs", str(bootstrap.resamples)), ("seed", str(bootstrap.seed))] if bootstrap.resamples else []),
        ("v", version("i0tscore")),
    ]
    return Signature(name, tuple(fields))


def embeddings_fields(*vectors: Rows) -> tuple[tuple[str, str], ...]:
    """Return the encoder fields of embeddings given without an encoder: a digest of their values."""
    digest = hashlib.sha256()
    for side in vectors:
        for part in chunks(len(side)):
            digest.update(np.ascontiguousarray(side[part]).data)
    return (("m", "embeddings"), ("w", digest.hexdigest()[:12]))
