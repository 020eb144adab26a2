"""Reference statistics: the two means and where scores usually lie, fitted, merged, saved and loaded.

A statistics file is safetensors: ``image_mean`` and ``caption_mean`` (d,), and for each standardizer
quantiles of matched and mismatched scores; what the numbers belong to stands in its metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError
from i0tscore.gap.moments import Moments
from i0tscore.gap.reference import ReferenceDistribution
from i0tscore.gap.standardizers import Standardizer
from i0tscore.gap.vectors import dot

SCHEMA = "i0tscore.statistics/1"
REFERENCE_STANDARDIZERS = ("none", "post", "dn(0.25)")
MISMATCHES_PER_PAIR = 20


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Means of both modalities in one embedding space, with a reference distribution where there is one.

    Attributes:
        name: Short name, shown in signatures.
        encoder: Name of the encoder, as shown.
        space: Identity of its embedding space (``Fingerprint.space``); empty for unnamed embeddings.
        prefix: Text put before every caption.
        image: Count and mean of the image embeddings.
        caption: Count and mean of the caption embeddings.
        reference: Reference distribution by standardizer, e.g. ``{"post": …}``; may be empty.
        source: What data the numbers come from, in words.
    """

    name: str
    encoder: str
    space: str
    prefix: str
    image: Moments
    caption: Moments
    reference: dict[str, ReferenceDistribution] = field(default_factory=dict)
    source: str = ""

    @property
    def digest(self) -> str:
        """First 8 hex digits of the SHA-256 over both means."""
        means = self.image.mean.tobytes() + self.caption.mean.tobytes()
        return hashlib.sha256(means).hexdigest()[:8]

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both corpora together.

        The means merge exactly. The reference distribution is dropped, since scores depend on the
        merged means: call ``with_reference`` on held-out pairs to have one again.

        Raises:
            StatisticsError: The two are of different encoders or prefixes.
        """
        for what, mine, theirs in (
            ("encoder", f"{self.encoder} [{self.space}]", f"{other.encoder} [{other.space}]"),
            ("prefix", self.prefix, other.prefix),
        ):
            if mine != theirs:
                raise StatisticsError(f"statistics of {what} {mine!r} and of {theirs!r} cannot be merged")
        return replace(
            self,
            name=self.name if self.name == other.name else f"{self.name}+{other.name}",
            image=self.image.merge(other.image),
            caption=self.caption.merge(other.caption),
            reference={},
        )

    def with_reference(
        self,
        images: NDArray[Any],
        captions: NDArray[Any],
        groups: Sequence[Any] | NDArray[Any] | None = None,
        *,
        seed: int = 12345,
    ) -> Statistics:
        """Add the reference distribution of matched pairs, mismatching each with other images' captions.

        Args:
            images: Unit image embeddings (n, d), row i matching caption i.
            captions: Unit caption embeddings (n, d).
            groups: Image identity of each row (n,); pairs within a group are not mismatches.
            seed: Of the choice of mismatched pairs, at most 20 a row.

        Raises:
            StatisticsError: There are not two different images.
        """
        rows, others = _mismatches(groups if groups is not None else range(len(images)), seed)
        reference = {}
        for text in REFERENCE_STANDARDIZERS:
            x, y = self.standardize(Standardizer.parse(text), images, captions)
            reference[text] = ReferenceDistribution.fit(dot(x, y), _dot_rows(x, y, rows, others))
        return replace(self, reference=reference)

    def standardize(
        self, standardizer: Standardizer, images: NDArray[Any], captions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both modalities (n, d) and (m, d) under ``standardizer`` with these means."""
        means = self.image.mean, self.caption.mean
        return standardizer.images(images, *means), standardizer.captions(captions, *means)

    def require(self, encoder: str, space: str, prefix: str) -> Statistics:
        """Return self if it belongs to this encoder and prefix; an empty ``space`` is not checked.

        Raises:
            StatisticsError: It does not; the message names both.
        """
        if self.space and space and self.space != space:
            raise StatisticsError(
                f"statistics {self.name!r} belong to {self.encoder} [{self.space}], not to {encoder} "
                f"[{space}]; fit new ones with `i0tscore fit`"
            )
        if self.prefix != prefix:
            raise StatisticsError(
                f"statistics {self.name!r} were fitted with the prefix {self.prefix!r}, not {prefix!r}; "
                "score with that prefix or fit new ones with `i0tscore fit`"
            )
        return self

    def save(self, path: str | Path) -> None:
        """Write a safetensors file.

        Raises:
            StatisticsError: The file cannot be written.
        """
        from safetensors.numpy import save

        tensors = {"image_mean": self.image.mean, "caption_mean": self.caption.mean}
        header: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "encoder": self.encoder,
            "space": self.space,
            "prefix": self.prefix,
            "source": self.source,
            "counts": [self.image.count, self.caption.count],
            "calibration": {k: [r.slope, r.intercept] for k, r in self.reference.items()},
        }
        for key, reference in self.reference.items():
            tensors[f"{key}/matched"] = reference.matched
            tensors[f"{key}/mismatched"] = reference.mismatched
        try:
            Path(path).write_bytes(save(tensors, {"i0tscore": json.dumps(header, ensure_ascii=False)}))
        except OSError as error:
            raise StatisticsError(f"statistics cannot be written to {path}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read a file that ``save`` wrote.

        Raises:
            StatisticsError: The file is missing, damaged, or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                header = json.loads((file.metadata() or {})["i0tscore"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if header["schema"] != SCHEMA:
                raise StatisticsError(f"{path}: schema {header['schema']!r}, this version reads {SCHEMA!r}")
            return cls._from_parts(header, tensors)
        except FileNotFoundError:
            raise StatisticsError(f"no statistics file {path}; make one with `i0tscore fit`") from None
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise StatisticsError(
                f"{path} is not a statistics file of i0tscore ({type(error).__name__}: {error}); "
                "make one with `i0tscore fit`"
            ) from error

    @classmethod
    def _from_parts(cls, header: dict[str, Any], tensors: dict[str, NDArray[np.float64]]) -> Statistics:
        image, caption = tensors["image_mean"], tensors["caption_mean"]
        if image.ndim != 1 or image.shape != caption.shape or not np.isfinite([image, caption]).all():
            raise ValueError("the two means must be finite vectors of one length")
        reference = {
            key: ReferenceDistribution(tensors[f"{key}/matched"], tensors[f"{key}/mismatched"], *calibration)
            for key, calibration in header["calibration"].items()
        }
        counts = header["counts"]
        return cls(
            name=header["name"],
            encoder=header["encoder"],
            space=header["space"],
            prefix=header["prefix"],
            image=Moments(int(counts[0]), image),
            caption=Moments(int(counts[1]), caption),
            reference=reference,
            source=header["source"],
        )


def _mismatches(
    groups: Sequence[Any] | NDArray[Any], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and other-row indices of pairs from different groups, drawn at random."""
    _, labels = np.unique(np.asarray(groups), return_inverse=True)
    if len(labels) < 2 or labels.max() == 0:
        raise StatisticsError("a reference distribution needs at least two different images")
    generator = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(labels)), MISMATCHES_PER_PAIR)
    others = generator.integers(0, len(labels), len(rows))
    keep = labels[rows] != labels[others]
    return rows[keep], others[keep]


def _dot_rows(
    x: NDArray[Any], y: NDArray[Any], rows: NDArray[np.int64], others: NDArray[np.int64], chunk: int = 16384
) -> NDArray[Any]:
    """Dot products of x[rows] and y[others] in bounded memory."""
    starts = range(0, len(rows), chunk)
    return np.concatenate([dot(x[rows[s : s + chunk]], y[others[s : s + chunk]]) for s in starts])
