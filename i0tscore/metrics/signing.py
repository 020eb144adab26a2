"""How a number of an encoded run is signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encoded import EncodedRun
from i0tscore.gap import Standardizer, Statistics
from i0tscore.results import Resampling, Signature


@dataclass(frozen=True, slots=True)
class SignatureFields:
    """What a signature says besides the metric and the counts.

    Attributes:
        encoder: Signature fields of the encoder, ``m``, ``act``, ``w``, ``prep``; empty for embeddings.
        encoding: Fields of how texts were encoded, ``prefix``, ``prec``, ``long``; empty for embeddings.
        resampling: Of the intervals.
        ranks: Whether to rank captions.
    """

    encoder: tuple[tuple[str, str], ...]
    encoding: tuple[tuple[str, str], ...]
    resampling: Resampling
    ranks: bool = True


def sign(
    name: str,
    run: EncodedRun,
    standardizer: Standardizer,
    statistics: Statistics | None,
    settings: SignatureFields,
    *own: tuple[str, str],
) -> Signature:
    """The signature of a number that comes from a run under a standardizer, with fields of its ``own``."""
    stats = "none"
    if standardizer.need is not None and statistics is not None:
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


def embeddings_fields(*vectors: NDArray[np.float32]) -> tuple[tuple[str, str], ...]:
    """What a signature says of given embeddings, whose encoder nobody knows."""
    digest = hashlib.sha256(b"".join(part.tobytes() for part in vectors))
    return (("m", "embeddings"), ("w", digest.hexdigest()[:12]))
