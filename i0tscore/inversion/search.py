"""A search: queries, the gallery they are asked of, and what is relevant to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError, UsageError
from i0tscore.gap import GapStatistics, Standardizer, Statistics
from i0tscore.inversion.collection import Items, Kind
from i0tscore.results.retrieval import LabelRetrieval, Side, retrieve_by_label

TASKS: dict[str, tuple[Kind, Kind]] = {
    "image-text": ("image", "text"),
    "text-image": ("text", "image"),
    "image-image": ("image", "image"),
    "text-text": ("text", "text"),
}
"""Kinds of queries and of gallery by the name of the task."""

NOTHING_RELEVANT = (
    "no query has anything relevant in the gallery: images of one label are relevant to one another, and "
    "captions of one label or one image; give several of each: a folder with a sub-folder for each label, a "
    "table and --label COLUMN, or several captions an image"
)


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Queries and what they are to find.

    Attributes:
        task: One of ``TASKS``.
        queries: What is asked for.
        gallery: What is searched.
        own: Of each query its own row in the gallery (q,), which is left out; None where it has none.
        seed: Of the draw of the queries; None where all are asked.
    """

    task: str
    queries: Items
    gallery: Items
    own: NDArray[np.int64] | None
    seed: int | None = None

    @classmethod
    def of(cls, task: str, queries: Items, gallery: Items, *, count: int | None = None, seed: int = 12345) -> Search:
        """A search of a gallery by all queries, or by some of them drawn at random.

        Args:
            task: One of ``TASKS``.
            queries: The items that are queries.
            gallery: The items searched. The very same object as ``queries`` searches them among
                themselves: a query is then not in its own gallery.
            count: How many queries; all if None.
            seed: Of the draw.

        Raises:
            InputError: No query has anything relevant in the gallery, or embeddings differ in dimension.
        """
        own, theirs = queries.vectors.shape[1], gallery.vectors.shape[1]
        if own != theirs:
            raise InputError(
                f"the queries have {own} dimensions and what is searched {theirs}: give embeddings of one encoder"
            )
        rows = np.arange(len(queries))
        drawn = count is not None and count < len(rows)
        if drawn:
            rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
        among = rows if gallery is queries else None
        search = cls(task, queries.take(rows), gallery, among, seed if drawn else None)
        if not search._answerable().any():
            raise InputError(NOTHING_RELEVANT)
        return search

    def side(self, side: Side) -> Items:
        """The queries or the gallery."""
        return self.queries if side == "query" else self.gallery

    def found(self, vectors: NDArray[Any] | None = None, side: Side = "query") -> LabelRetrieval:
        """What is found natively, or with other vectors for one side."""
        x, y = self.queries.vectors, self.gallery.vectors
        if vectors is not None:
            x, y = (vectors, y) if side == "query" else (x, vectors)
        return self._compare(x, y)

    def standardized(self, standardizer: Standardizer, statistics: Statistics | None) -> LabelRetrieval:
        """What is found under a standardizer.

        Raises:
            UsageError: It compares images with captions only, and this is a search within a modality.
            StatisticsError: The statistics lack what it needs.
        """
        first, second = TASKS[self.task]
        if standardizer.spec.cross_modal_only and first == second:
            raise UsageError(f"{standardizer} compares images with captions only: leave it out of {self.task}")
        known = GapStatistics() if statistics is None else statistics.gap_statistics
        x, y = (
            standardizer.apply(items.vectors, known, "image" if kind == "image" else "caption")
            for kind, items in ((first, self.queries), (second, self.gallery))
        )
        return self._compare(x, y)

    def check(self, standardizer: Standardizer, statistics: Statistics | None) -> None:
        """Raise what ``standardized`` would, before anything takes long: one query is tried."""
        first = np.zeros(1, dtype=np.int64)
        tried = Search(self.task, self.queries.take(first), self.gallery.take(first), None)
        tried.standardized(standardizer, statistics)

    def _compare(self, x: NDArray[Any], y: NDArray[Any]) -> LabelRetrieval:
        return retrieve_by_label(x, y, self.queries.labels, self.gallery.labels, own=self.own)

    def _answerable(self) -> NDArray[np.bool_]:
        """Whether there is anything relevant to each query."""
        labels, counts = np.unique(self.gallery.labels, return_counts=True)
        there = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        least = 1 if self.own is None else 2
        return np.array([there.get(label, 0) >= least for label in self.queries.labels.tolist()])
