"""Which columns of a table hold ratings, scores, and what tells rows apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from i0tscore.samples.rows import IMAGE_FIELDS, Diagnostics, preview, quote
from i0tscore.samples.tables import each_once

IMAGE_COLUMNS = (*IMAGE_FIELDS, "image_id")
"""Columns that rows are grouped by where none is named; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Which columns of a table hold what.

    Attributes:
        human: The rating.
        scores: The scores, by metric.
        group: The image; the first of ``IMAGE_COLUMNS`` if None.
        by_rows: Whether rows are taken for independent of each other, so that no group is needed.
        rater: Who rated; None where that is not told.
        items: What tells the rated item apart; image and caption if empty and needed.
        parts: What figures are to be broken down by.
        averaged: Whether ratings of one item will be averaged, which needs items.
        repeats: Whether rows may be equal in every column where raters are not told.
    """

    human: str
    scores: tuple[str, ...]
    group: str | None = None
    by_rows: bool = False
    rater: str | None = None
    items: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    averaged: bool = False
    repeats: bool = False

    @property
    def asked(self) -> tuple[str, ...]:
        """The columns that were named, once each."""
        single = (name for name in (self.human, self.group, self.rater) if name is not None)
        return tuple(dict.fromkeys((*single, *self.scores, *self.items, *self.parts)))

    @property
    def names(self) -> tuple[str, ...]:
        """Every column that is looked at."""
        return tuple(dict.fromkeys((*self.asked, *IMAGE_COLUMNS, "caption")))

    @property
    def image(self) -> tuple[str, ...]:
        """Columns that may hold images."""
        return IMAGE_COLUMNS

    @property
    def needs_items(self) -> bool:
        """Whether rows that rate the same thing must be told."""
        return bool(self.items or self.rater or self.averaged)

    def cluster_column(self, present: Sequence[str]) -> str | None:
        """The column that rows are grouped by; None where there is none."""
        return self.group or next((name for name in IMAGE_COLUMNS if name in present), None)

    def item_columns(self, present: Sequence[str]) -> tuple[str, ...]:
        """The columns that tell items apart; none where that cannot be told."""
        image = self.cluster_column(present)
        if self.items or image is None or "caption" not in present:
            return self.items
        return (image, "caption")

    def suffice(self, present: list[str], diagnostics: Diagnostics) -> bool:
        """Whether the columns are there; if not, the file is refused."""
        missing = [name for name in self.asked if name not in present]
        for name in missing:
            diagnostics.file_error(f"no column {quote(name)}: correct the name (found: {preview(present, 12)})")
        if self.group is None and not self.by_rows and self.cluster_column(present) is None:
            diagnostics.file_error(
                'no column "image": name the one that tells which rows share an image (--group COLUMN), or '
                "say that none do (--by-rows)"
            )
            missing.append("image")
        if self.needs_items and not self.item_columns(present):
            diagnostics.file_error(
                "which rows rate the same item cannot be told: name the columns that say so (--item COLUMN)"
            )
            missing.append("item")
        return not missing and each_once(self.names, present, diagnostics)
