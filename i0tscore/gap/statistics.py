"""Reference statistics: the moments of both modalities and where scores usually lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError
from i0tscore.gap.bank import HubnessBank
from i0tscore.gap.formulas import GapStatistics
from i0tscore.gap.moments import Moments
from i0tscore.gap.normalization import Normalization
from i0tscore.gap.reference import ReferenceDistribution
from i0tscore.gap.standardizers import Standardizer
from i0tscore.gap.vectors import dot

REFERENCE_STANDARDIZERS = ("none", "post", "dn(0.25)", "color(0.2)", "async", "nnn(0.5)")
MISMATCHES_PER_PAIR = 20


@dataclass(frozen=True, eq=False)
class Statistics:
    """Moments of both modalities in one embedding space, with a reference distribution where there is one.

    Attributes:
        name: Short name, shown in signatures.
        encoder: Name of the encoder, as shown.
        space: Identity of its embedding space (``Fingerprint.space``); empty for unnamed embeddings.
        prefix: Text put before every caption.
        image: Of the image embeddings.
        caption: Of the caption embeddings.
        reference: Reference distribution by standardizer, e.g. ``{"post": …}``; may be empty.
        source: What data the numbers come from, in words.
        normalization: Trained normalizations of images and of captions, for ``async``, or None.
        bank: Some of the embeddings, for ``nnn``, or None.
    """

    name: str
    encoder: str
    space: str
    prefix: str
    image: Moments
    caption: Moments
    reference: dict[str, ReferenceDistribution] = field(default_factory=dict)
    source: str = ""
    normalization: tuple[Normalization, Normalization] | None = None
    bank: HubnessBank | None = None

    @cached_property
    def known(self) -> GapStatistics:
        """What standardizers use of the statistics."""
        covariance = self.image.covariance + self.caption.covariance
        return GapStatistics(self.image.mean, self.caption.mean, covariance, self.normalization, self.bank)

    @property
    def digest(self) -> str:
        """First 8 hex digits of the SHA-256 over both means and covariances."""
        moments = (self.image, self.caption)
        arrays = [a for m in moments for a in (m.mean, m.covariance.astype(np.float32))]
        return _digest(arrays)

    def digest_of(self, standardizer: Standardizer) -> str:
        """Identifies what a standardizer uses: the moments as ``digest`` does, or what it has instead."""
        if standardizer.need == "normalization" and self.normalization is not None:
            return _digest(a for n in self.normalization for a in (*n.arrays(), np.float64(n.eps)))
        if standardizer.need == "bank" and self.bank is not None:
            return _digest((self.bank.images, self.bank.captions, np.int64(self.bank.nearest)))
        return self.digest

    def merge(self, other: Statistics) -> Statistics:
        """Statistics of both corpora together.

        The moments merge exactly. The reference distribution is dropped, since scores depend on the
        merged means: call ``with_reference`` on held-out pairs to have one again. A normalization is
        dropped too: it was trained on one corpus. Banks are joined where both have one, else dropped.

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
            normalization=None,
            bank=self.bank.merge(other.bank) if self.bank is not None and other.bank is not None else None,
        )

    def with_bank(self, images: NDArray[Any], captions: NDArray[Any], size: int) -> Statistics:
        """Add a bank of ``size`` images and captions, drawn from distinct unit embeddings (n, d), (m, d).

        Call ``with_reference`` after it for percentiles under ``nnn(0.5)``.

        Raises:
            StatisticsError: There are fewer than ``size``.
        """
        return replace(self, bank=HubnessBank.draw(images, captions, size))

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
        for standardizer in map(Standardizer.parse, REFERENCE_STANDARDIZERS):
            if not self.known.has(standardizer.need):
                continue
            x, y = self.standardize(standardizer, images, captions)
            matched, mismatched = dot(x, y), _dot_rows(x, y, rows, others)
            if np.isnan(matched).all() or np.isnan(mismatched).all():
                raise StatisticsError(
                    "all images or all captions are alike: nothing of them is left once their mean is taken "
                    "away; fit on different images with their own captions"
                )
            reference[str(standardizer)] = ReferenceDistribution.fit(matched, mismatched)
        return replace(self, reference=reference)

    def standardize(
        self, standardizer: Standardizer, images: NDArray[Any], captions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both modalities (n, d) and (m, d) under ``standardizer``.

        Raises:
            StatisticsError: The statistics lack what the standardizer needs.
        """
        return standardizer.images(images, self.known), standardizer.captions(captions, self.known)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file.

        Raises:
            StatisticsError: The file cannot be written.
        """
        from i0tscore.gap.statistics_file import write_statistics

        write_statistics(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read a file that ``save`` wrote.

        Raises:
            StatisticsError: The file is missing, damaged, or something else.
        """
        from i0tscore.gap.statistics_file import read_statistics

        return read_statistics(Path(path))

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


def _digest(arrays: Iterable[Any]) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:8]


def _mismatches(groups: Sequence[Any] | NDArray[Any], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
