"""Signatures: one line with every setting a number depends on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import Standardizer, Statistics
from i0tscore.results.intervals import Resampling

if TYPE_CHECKING:
    from i0tscore.encoders.encoded import EncodedRun


@dataclass(frozen=True, slots=True)
class Signature:
    """A metric's name and every setting that its number depends on, in a fixed order.

    Same inputs and same signature, same number: to 1e-5 in fp32 across machines, exactly on one.

    Attributes:
        metric: The metric's name.
        fields: ``(key, value)`` pairs in the order shown.

    Example:
        >>> signature = Signature("CLIPScore", (("m", "lite"), ("n", "3")))
        >>> str(signature)
        'CLIPScore|m:lite|n:3'
        >>> Signature.parse(str(signature)) == signature
        True
    """

    metric: str
    fields: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [f"{key}:{_escape(value)}" for key, value in self.fields]
        return "|".join([self.metric, *parts])

    def __getitem__(self, key: str) -> str:
        return dict(self.fields)[key]

    def with_field(self, key: str, value: str) -> Signature:
        """The same signature with one value replaced."""
        return replace(self, fields=tuple((k, value if k == key else v) for k, v in self.fields))

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read what ``str`` wrote."""
        metric, *parts = text.split("|")
        pairs = (part.partition(":") for part in parts)
        return cls(metric, tuple((key, _unescape(value)) for key, _, value in pairs))


@dataclass(frozen=True, slots=True)
class SignatureFields:
    """Settings of a run that its signatures and intervals depend on.

    Attributes:
        encoder: Signature fields of the encoder, ``m``, ``act``, ``w``, ``prep``; empty for embeddings.
        encoding: Fields of the text encoding, ``prefix``, ``prec``, ``long``; empty for embeddings.
        resampling: Settings of the intervals.
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


def embeddings_fields(*vectors: NDArray[np.float32]) -> tuple[tuple[str, str], ...]:
    """Return the encoder fields of embeddings given without an encoder: a digest of their values."""
    digest = hashlib.sha256(b"".join(part.tobytes() for part in vectors))
    return (("m", "embeddings"), ("w", digest.hexdigest()[:12]))


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace("|", "%7C").replace("\n", "%0A")


def _unescape(value: str) -> str:
    return value.replace("%0A", "\n").replace("%7C", "|").replace("%25", "%")
