"""Retrieval measures between images and captions and between items of one kind by label, and their report.

Embeddings are compared by dot product: pass unit vectors, or those of ``dn``, which are defined that way.
Among equally similar items, those that are not relevant come first, so that embeddings that have collapsed to one
point find nothing. Undefined similarities (NaN) come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean, format_estimate
from i0tscore.results.report import Part, Report, Signature, plain
from i0tscore.samples import Skipped

Side = Literal["query", "gallery"]

DEPTHS = (1, 5, 10)
LABEL_MEASURES = ("mAP", "mAP@R", "R-precision", *(f"R@{depth}" for depth in DEPTHS))

_CELLS = 4_000_000
"""Number of similarities in memory at once."""


@dataclass(frozen=True, slots=True)
class Method(Part):
    """Measures of one retrieval method.

    Attributes:
        measures: Estimates by name of ``LABEL_MEASURES``, in [0, 1].
        differences: Differences from the baseline, query by query; empty for the baseline.
    """

    measures: dict[str, Estimate]
    differences: dict[str, Estimate]


@dataclass(frozen=True, slots=True, repr=False)
class RetrievalReport(Report):
    """Measures of retrieval by several methods.

    Attributes:
        task: Name of the task, such as ``image-text``.
        queries: Number of queries.
        gallery: Number of items in the gallery.
        left_out: Number of queries that are excluded from every mean, because the gallery has no relevant item.
        baseline: Results with the embeddings themselves; ``native`` in JSON and CSV.
        methods: Results by standardizer, then by inversion: ``oti@17`` after 17 updates, ``oti`` at the end.
        inverted: The inverted side; None if there is none.
        cosine: Mean cosine of inverted features with their targets; None without inversion.
        signature: Every setting that the measures depend on.
        over: What was resampled for the intervals.
    """

    SCHEMA = "i0tscore.retrieval/1"

    task: str
    queries: int
    gallery: int
    left_out: int
    baseline: Method
    methods: dict[str, Method]
    inverted: Side | None
    cosine: float | None
    signature: Signature
    over: str
    resampling: Resampling
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def figures(self) -> dict[str, str]:
        """Return the number of queries, and the mean average precision by method."""
        methods = {"baseline": self.baseline, **self.methods}
        found = {f"mAP({name})": format_estimate(method.measures["mAP"]) for name, method in methods.items()}
        return {"task": self.task, "queries": str(self.queries), **found}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/retrieval.schema.json``; undefined values are None."""
        return {
            "schema": self.SCHEMA,
            "task": self.task,
            "queries": self.queries,
            "gallery": self.gallery,
            "left_out": self.left_out,
            "inverted": self.inverted,
            "cosine": self.cosine,
            "ways": plain({"native": self.baseline, **self.methods}),
            "resampling": {"over": self.over, **self.resampling.to_dict()},
            "signature": str(self.signature),
            "skipped": plain(self.skipped),
            "notes": list(self.notes),
        }


class Directions(NamedTuple):
    """An estimate for image-to-caption retrieval and one for caption-to-image retrieval."""

    to_caption: Estimate
    to_image: Estimate


class CrossModalRanks(NamedTuple):
    """Number of irrelevant items before the first relevant one, for each query.

    Attributes:
        to_caption: For each image (n,), int64: captions of other images at least as similar as the
            nearest of its own.
        to_image: For each caption (k·n,), int64: other images at least as similar as its own.
    """

    to_caption: NDArray[np.int64]
    to_image: NDArray[np.int64]

    def recall(self, depth: int, resampling: Resampling | None = None) -> Directions:
        """Return the share of queries with a relevant item among the ``depth`` most similar, in [0, 1].

        Intervals resample images, each with its captions, as queries; the gallery is not resampled.

        Args:
            depth: Number of items retrieved, k in R@k.
            resampling: Settings of the intervals; by default those of ``Resampling()``.
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
        captions: Shape (k·n, d), k captions of each image in turn. For the usual one-caption recall,
            pass the first of each image: ``captions[::k]``.

    Raises:
        ValueError: The number of captions is not a multiple of the number of images.

    Examples:
        >>> ranks = cross_modal_ranks(np.eye(2), np.eye(2)[[0, 0, 1, 0]])
        >>> ranks.to_caption.tolist(), ranks.to_image.tolist()
        ([1, 0], [0, 0, 0, 1])
        >>> ranks.recall(1).to_image.value
        0.75
    """
    if not len(images) or len(captions) % len(images) or not len(captions):
        raise ValueError(
            f"Expected the same number of captions for every image, got {len(captions)} captions and "
            f"{len(images)} images."
        )
    rows = np.arange(len(images))
    own = np.repeat(rows, len(captions) // len(images))
    return CrossModalRanks(_ranks(images, captions, rows, own), _ranks(captions, images, own, rows))


@dataclass(frozen=True, slots=True, eq=False)
class LabelRetrieval:
    """Measures of each query for retrieval of items with its label.

    Attributes:
        values: Values (n,) in [0, 1] by name of ``LABEL_MEASURES``; NaN for queries that are left out.
    """

    values: dict[str, NDArray[np.float64]]

    @property
    def left_out(self) -> int:
        """Number of queries that are excluded from every mean, because the gallery has no relevant item."""
        return int(np.isnan(self.values["mAP"]).sum())

    def estimates(
        self, clusters: Sequence[Any] | NDArray[Any] | None = None, resampling: Resampling | None = None
    ) -> dict[str, Estimate]:
        """Return means with intervals over queries, or over ``clusters`` (n,) of queries."""
        groups = np.arange(len(self.values["mAP"])) if clusters is None else np.asarray(clusters)
        return {name: _mean(values, groups, resampling) for name, values in self.values.items()}


def retrieve_by_label(
    queries: NDArray[Any],
    gallery: NDArray[Any],
    query_labels: Sequence[Any] | NDArray[Any],
    gallery_labels: Sequence[Any] | NDArray[Any],
    *,
    own: NDArray[np.int64] | None = None,
    unmatched: float = np.nan,
) -> LabelRetrieval:
    """Rank a gallery for each query; items with the query's label are relevant.

    With R relevant items, average precision is the mean of the precision at the rank of each. mAP@R sums the
    precision at the ranks up to R that hold a relevant item and divides by R. R-precision is the share of relevant
    items among the first R. R@1, R@5 and R@10 are 1 if any of the first k items is relevant. Negative similarities
    count like others (some versions of torchmetrics treat them as irrelevant, which favors spaces with a gap).

    Args:
        queries: Shape (n, d).
        gallery: Shape (m, d).
        query_labels: Labels (n,), of any type that can be compared.
        gallery_labels: Labels (m,).
        own: For each query, the row of the gallery that is the query itself (n,), which is left out for that
            query. ``np.arange(n)`` if both are the same items; None if no query is in the gallery.
        unmatched: Every measure of a query without a relevant item: NaN leaves it out of means, 0 counts it as a miss.

    Raises:
        ValueError: Arrays and labels differ in length.

    Source:
        mAP@R: Musgrave et al. 2020, "A Metric Learning Reality Check".

    Examples:
        >>> items = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
        >>> found = retrieve_by_label(items, items, list("aab"), list("aab"), own=np.arange(3))
        >>> found.values["R@1"].tolist(), found.left_out
        ([1.0, 0.0, nan], 1)
    """
    if len(queries) != len(query_labels) or len(gallery) != len(gallery_labels):
        raise ValueError(
            f"Expected one label per item, got {len(query_labels)} labels for {len(queries)} queries and "
            f"{len(gallery_labels)} labels for {len(gallery)} gallery items."
        )
    codes = np.unique([*query_labels, *gallery_labels], return_inverse=True)[1]
    query_codes, gallery_codes = codes[: len(queries)], codes[len(queries) :]
    parts = []
    for rows, similarity in _similarities(queries, gallery):
        relevant = query_codes[rows, None] == gallery_codes
        if own is not None:
            similarity[np.arange(len(similarity)), own[rows]] = -np.inf
            relevant[np.arange(len(similarity)), own[rows]] = False
        # Among equal similarities, irrelevant items come first. A query's own row is last and irrelevant.
        order = np.lexsort((relevant, -similarity), axis=1)
        parts.append(_label_measures(np.take_along_axis(relevant, order, axis=1), unmatched))
    stacked = np.concatenate(parts, axis=1) if parts else np.zeros((len(LABEL_MEASURES), 0))
    return LabelRetrieval(dict(zip(LABEL_MEASURES, stacked, strict=True)))


def _label_measures(relevant: NDArray[np.bool_], unmatched: float) -> NDArray[np.float64]:
    """Return the measures (6, c) of ranked lists (c, m), best first; ``unmatched`` for lists without relevant items."""
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
    return np.where(total > 0, sums / np.maximum(total, 1), unmatched)


def _ranks(
    queries: NDArray[Any], gallery: NDArray[Any], query_labels: NDArray[np.int64], gallery_labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each query how many items of other labels are at least as similar as the best of its own (n,)."""
    ranks = np.zeros(len(queries), dtype=np.int64)
    for rows, similarity in _similarities(queries, gallery):
        relevant = query_labels[rows, None] == gallery_labels
        best = np.where(relevant, similarity, -np.inf).max(axis=1)
        ranks[rows] = ((similarity >= best[:, None]) & ~relevant).sum(axis=1)
    return ranks


def _similarities(queries: NDArray[Any], gallery: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield dot products of some queries at a time with the gallery; undefined ones are −∞."""
    step = max(1, _CELLS // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ gallery.T
        similarity[np.isnan(similarity)] = -np.inf
        yield slice(start, start + len(similarity)), similarity


def _mean(values: NDArray[np.float64], clusters: NDArray[Any], resampling: Resampling | None) -> Estimate:
    """Return the mean of the defined values with its interval over clusters; undefined if there are none."""
    if np.isnan(values).all():
        return Estimate(None, None)
    return Estimate(float(np.nanmean(values)), bootstrap_mean(values, clusters, resampling))
