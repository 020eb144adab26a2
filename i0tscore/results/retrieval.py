"""Retrieval measures: between images and captions, and between items of one kind by label. Arrays only.

Embeddings are compared by dot product: give unit vectors, or those of ``dn``, which are compared that way.
One rule for ties everywhere: of equally similar items those that are not relevant come first, so that
embeddings that have collapsed to one point find nothing. A similarity that is undefined (NaN) comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean

DEPTHS = (1, 5, 10)
LABEL_MEASURES = ("mAP", "mAP@R", "R-precision", *(f"R@{depth}" for depth in DEPTHS))

_CELLS = 4_000_000
"""Similarities held at once."""


class Directions(NamedTuple):
    """A figure of image-to-caption retrieval, and the same of caption-to-image retrieval."""

    to_caption: Estimate
    to_image: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class CrossModalRanks:
    """How many wrong items come before the first right one, for each query.

    Attributes:
        to_caption: Of each image (n,), int64: captions of other images at least as similar as the
            nearest of its own.
        to_image: Of each caption (k·n,), int64: other images at least as similar as its own.
    """

    to_caption: NDArray[np.int64]
    to_image: NDArray[np.int64]

    def recall(self, depth: int, resampling: Resampling | None = None) -> Directions:
        """Share of queries with a right item among the ``depth`` most similar, in [0, 1].

        Intervals resample images, each with its captions, as queries; the gallery stays whole.
        """
        images = np.arange(len(self.to_caption))
        own = np.repeat(images, len(self.to_image) // len(images))
        return Directions(
            _mean((self.to_caption < depth).astype(np.float64), images, resampling),
            _mean((self.to_image < depth).astype(np.float64), own, resampling),
        )


def cross_modal_ranks(images: NDArray[Any], captions: NDArray[Any]) -> CrossModalRanks:
    """Rank captions for each image and images for each caption, in bounded memory.

    Args:
        images: Shape (n, d).
        captions: Shape (k·n, d), k captions of each image in turn. For the usual one-caption figures
            give each image's first: ``captions[::k]``.

    Raises:
        ValueError: The captions are no multiple of the images.

    Example:
        >>> ranks = cross_modal_ranks(np.eye(2), np.eye(2)[[0, 0, 1, 0]])
        >>> ranks.to_caption.tolist(), ranks.to_image.tolist()
        ([1, 0], [0, 0, 0, 1])
        >>> ranks.recall(1).to_image.value
        0.75
    """
    if not len(images) or len(captions) % len(images) or not len(captions):
        raise ValueError(f"{len(captions)} captions cannot be shared out evenly among {len(images)} images")
    rows = np.arange(len(images))
    own = np.repeat(rows, len(captions) // len(images))
    return CrossModalRanks(_ranks(images, captions, rows, own), _ranks(captions, images, own, rows))


def recall(
    images: NDArray[Any], captions: NDArray[Any], depths: Sequence[int] = DEPTHS
) -> tuple[list[float], list[float]]:
    """Recall at several depths, image to text and text to image, in percent; as ``cross_modal_ranks``.

    Example:
        >>> recall(np.eye(2), np.eye(2)[[0, 0, 1, 0]], depths=(1, 2))
        ([50.0, 100.0], [75.0, 100.0])
    """
    ranks = cross_modal_ranks(images, captions)
    first, second = (
        [100.0 * float((side < depth).mean()) for depth in depths] for side in (ranks.to_caption, ranks.to_image)
    )
    return first, second


@dataclass(frozen=True, slots=True, eq=False)
class LabelRetrieval:
    """Retrieval of items with the query's label, query by query.

    Attributes:
        values: By name of ``LABEL_MEASURES``, (n,) in [0, 1]; NaN where the gallery has nothing relevant.
    """

    values: dict[str, NDArray[np.float64]]

    @property
    def left_out(self) -> int:
        """Queries without a relevant item: in no mean."""
        return int(np.isnan(self.values["mAP"]).sum())

    def estimates(
        self, clusters: Sequence[Any] | NDArray[Any] | None = None, resampling: Resampling | None = None
    ) -> dict[str, Estimate]:
        """Means with intervals over queries, or over ``clusters`` (n,) of them; the gallery stays whole."""
        groups = np.arange(len(self.values["mAP"])) if clusters is None else np.asarray(clusters)
        return {name: _mean(values, groups, resampling) for name, values in self.values.items()}


def retrieve_by_label(
    queries: NDArray[Any],
    gallery: NDArray[Any],
    query_labels: Sequence[Any] | NDArray[Any],
    gallery_labels: Sequence[Any] | NDArray[Any],
    *,
    own: NDArray[np.int64] | None = None,
) -> LabelRetrieval:
    """Rank a gallery for each query; what has the query's label is relevant.

    With R relevant items: average precision is the mean of the precision at the place of each; mAP@R sums
    the precision at the places up to R that hold one and divides by R (Musgrave et al. 2020, "A Metric
    Learning Reality Check"); R-precision is the share of relevant ones among the first R; R@1, R@5 and
    R@10 say whether any of the first so many is relevant. Negative similarities count as any other (some
    versions of torchmetrics take them for irrelevant, which would favour spaces with a gap).

    Args:
        queries: Shape (n, d).
        gallery: Shape (m, d).
        query_labels: Labels (n,), of any kind that can be compared.
        gallery_labels: Labels (m,).
        own: Of each query the row of the gallery that is the query itself (n,): it is left out for that
            query. ``np.arange(n)`` where both are the same items; None where no query is in the gallery.

    Raises:
        ValueError: Arrays and labels differ in length.

    Example:
        >>> items = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> found = retrieve_by_label(items, items, list("aab"), list("aab"), own=np.arange(3))
        >>> found.values["R@1"].tolist(), found.left_out
        ([1.0, 0.0, nan], 1)
    """
    if len(queries) != len(query_labels) or len(gallery) != len(gallery_labels):
        raise ValueError(
            f"{len(queries)} queries with {len(query_labels)} labels, "
            f"{len(gallery)} gallery items with {len(gallery_labels)}"
        )
    codes = np.unique([*query_labels, *gallery_labels], return_inverse=True)[1]
    wanted, there = codes[: len(queries)], codes[len(queries) :]
    parts = []
    for rows, similarity in _similarities(queries, gallery):
        relevant = wanted[rows, None] == there
        if own is not None:
            similarity[np.arange(len(similarity)), own[rows]] = -np.inf
            relevant[np.arange(len(similarity)), own[rows]] = False
        # By similarity; of equal ones the irrelevant come first. A query's own row is last and irrelevant.
        order = np.lexsort((relevant, -similarity), axis=1)
        parts.append(_label_measures(np.take_along_axis(relevant, order, axis=1)))
    stacked = np.concatenate(parts, axis=1) if parts else np.zeros((len(LABEL_MEASURES), 0))
    return LabelRetrieval(dict(zip(LABEL_MEASURES, stacked, strict=True)))


def _label_measures(relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The measures (6, c) of ranked lists (c, m), best first; NaN where a list has nothing relevant."""
    total = relevant.sum(axis=1)
    within = np.arange(relevant.shape[1]) < total[:, None]
    precision = relevant.cumsum(axis=1) / np.arange(1, relevant.shape[1] + 1)
    sums = np.stack(
        [
            (precision * relevant).sum(axis=1),
            (precision * (relevant & within)).sum(axis=1),
            (relevant & within).sum(axis=1),
            *(relevant[:, :depth].any(axis=1) * total for depth in DEPTHS),
        ]
    )
    return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def _ranks(
    queries: NDArray[Any],
    gallery: NDArray[Any],
    query_labels: NDArray[np.int64],
    gallery_labels: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For each query how many items of other labels are at least as similar as the best of its own (n,)."""
    ranks = np.zeros(len(queries), dtype=np.int64)
    for rows, similarity in _similarities(queries, gallery):
        right = query_labels[rows, None] == gallery_labels
        best = np.where(right, similarity, -np.inf).max(axis=1)
        ranks[rows] = ((similarity >= best[:, None]) & ~right).sum(axis=1)
    return ranks


def _similarities(queries: NDArray[Any], gallery: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Dot products of some queries at a time with the gallery, undefined ones −∞."""
    step = max(1, _CELLS // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ gallery.T
        similarity[np.isnan(similarity)] = -np.inf
        yield slice(start, start + len(similarity)), similarity


def _mean(values: NDArray[np.float64], clusters: NDArray[Any], resampling: Resampling | None) -> Estimate:
    """Mean of what is defined, with its interval over clusters; undefined where nothing is."""
    if np.isnan(values).all():
        return Estimate(None, None)
    return Estimate(float(np.nanmean(values)), bootstrap_mean(values, clusters, resampling))
