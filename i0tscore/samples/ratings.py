"""Human ratings of captions as columns: one row is one rating, never an average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import SampleFileError
from i0tscore.samples.sample import Sample

Labels = tuple[str, ...]

AVERAGED = "the ratings of each item are averaged, which the published figures do not do"


@dataclass(frozen=True, slots=True, eq=False)
class RatingSet:
    """Ratings of captions, one a row.

    Attributes:
        name: Of the set, e.g. ``flickr8k_expert``.
        samples: The distinct rated items: image, caption, references.
        item: Position in ``samples`` of what each row rates, int64 (n,).
        rating: Higher is better, float64 (n,).
        clusters: Identity of the image of each row (n,); what is resampled for intervals.
        rater: Who rated (n,), or None where that is not told.
        groups: What is compared within for preference accuracy (n,), e.g. image and context, or None.
        categories: Part of the set each row belongs to (n,), or None.
        systems: What wrote the caption (n,), or None.
        counts: How much was read, by name; compared with what is known of the set.
        notes: What a reader should know.
    """

    name: str
    samples: tuple[Sample, ...]
    item: NDArray[np.int64]
    rating: NDArray[np.float64]
    clusters: Labels
    rater: Labels | None = None
    groups: Labels | None = None
    categories: Labels | None = None
    systems: Labels | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of ratings."""
        return len(self.rating)

    @property
    def several_raters(self) -> bool:
        """Whether some item has more than one rating."""
        return self.n > len(self.samples)

    def averaged(self) -> RatingSet:
        """One row an item with the mean of its ratings, for comparisons that name it as such.

        Averaging removes the raters' disagreement and raises every correlation, so that figures of
        averaged ratings cannot be set beside published ones of single ratings.

        Example:
            >>> import numpy as np
            >>> from pathlib import Path
            >>> dog = Sample("dog", Path("dog.jpg"), "A dog.")
            >>> ratings = RatingSet("demo", (dog,), np.array([0, 0]), np.array([1.0, 4.0]), ("dog", "dog"))
            >>> ratings.averaged().rating.tolist()
            [2.5]
        """
        first, means = item_means(self.item, self.rating)
        kept = self._rows(first)
        return replace(kept, rating=means, rater=None, notes=(*self.notes, AVERAGED))

    def limited(self, items: int) -> RatingSet:
        """The ratings of the first ``items`` items, with a note that says so."""
        kept = self._rows(np.flatnonzero(self.item < items))
        note = f"only the first {min(items, len(self.samples)):,} of {len(self.samples):,} items: not a result"
        return replace(kept, samples=self.samples[:items], notes=(*self.notes, note))

    def only(self, keep: NDArray[np.bool_]) -> RatingSet:
        """The rows of a mask (n,), with the items that they rate."""
        rows = self._rows(np.flatnonzero(keep))
        used, item = np.unique(rows.item, return_inverse=True)
        return replace(rows, samples=tuple(self.samples[i] for i in used), item=item.astype(np.int64))

    def _rows(self, rows: NDArray[np.int64]) -> RatingSet:
        return replace(
            self,
            item=self.item[rows],
            rating=self.rating[rows],
            clusters=picked(self.clusters, rows) or (),
            rater=picked(self.rater, rows),
            groups=picked(self.groups, rows),
            categories=picked(self.categories, rows),
            systems=picked(self.systems, rows),
        )


def picked(labels: Labels | None, rows: Iterable[int]) -> Labels | None:
    """The labels of some rows; None where there are none."""
    return None if labels is None else tuple(labels[row] for row in rows)


def item_means(items: NDArray[np.int64], ratings: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The first row of each item and the mean of its ratings, in the order of the items' numbers."""
    _, first, labels = np.unique(items, return_index=True, return_inverse=True)
    return first, np.bincount(labels, ratings) / np.bincount(labels)


def require_counts(
    path: object, found: Mapping[str, int], expected: Mapping[str, int], *, allow_others: bool = False
) -> tuple[str, ...]:
    """Compare what was read with what is known of a set.

    Args:
        path: What was read, for the message.
        found: Counts by name.
        expected: Known counts by name; those without a counterpart in ``found`` are not compared.
        allow_others: Return the differences as notes instead of refusing, e.g. for a subset.

    Raises:
        SampleFileError: A count differs; all that do are named.
    """
    differing = [
        f"{name}: {found[name]:,} where the set has {count:,}"
        for name, count in expected.items()
        if name in found and found[name] != count
    ]
    if differing and not allow_others:
        raise SampleFileError(
            path, [f"{line}: get the whole file, or allow other counts for a part" for line in differing]
        )
    return tuple(differing)


def without(references: Sequence[str], caption: str) -> tuple[str, ...]:
    """The references other than the rated caption, compared by text."""
    return tuple(reference for reference in references if reference != caption)
