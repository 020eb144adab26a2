"""The rows of tables with ratings and scores: every cell checked, every problem listed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from i0tscore.samples.hub_datasets import EmbeddedImage
from i0tscore.samples.rating_rows import RatingScale
from i0tscore.samples.ratings import Labels
from i0tscore.samples.rows import (
    Diagnostics,
    Location,
    Records,
    UnusableError,
    checked_number,
    described,
    quote,
)

_Cell = TypeVar("_Cell")


class TableRows:
    """The rows of a table; what is wrong with them goes to the diagnostics.

    Args:
        records: The rows with their places.
        diagnostics: Takes the problems.
    """

    def __init__(self, records: Records, diagnostics: Diagnostics) -> None:
        self._rows = records
        self._diagnostics = diagnostics

    def scores(self, column: str, *, gaps: bool = False) -> list[float]:
        """The scores in a column, NaN where there is none; with ``gaps`` a cell may be empty."""

        def read(cell: object) -> float:
            empty = cell is None or (isinstance(cell, str) and not cell.strip())
            return float("nan") if gaps and empty else checked_number(cell, named(column))

        return self._column(column, read, float("nan"))

    def ratings(self, column: str, scale: RatingScale) -> list[float]:
        """The ratings in a column, NaN where there is none."""
        return self._column(column, scale.read, float("nan"))

    def labels(self, column: str) -> Labels:
        """The cells of a column as text, empty where there is none."""
        return tuple(self._column(column, lambda cell: _label(cell, column), ""))

    def _column(self, column: str, read: Callable[[object], _Cell], otherwise: _Cell) -> list[_Cell]:
        tried = (self._diagnostics.check(place, read, record.get(column)) for place, record in self._rows)
        return [otherwise if value is None else value for value in tried]

    def items(self, columns: Sequence[str]) -> NDArray[np.int64]:
        """Number the distinct combinations of the columns' cells (n,)."""
        known: dict[Hashable, int] = {}
        keys = zip(*(self.labels(column) for column in columns), strict=True)
        return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)

    def refuse_repeats(self, items: NDArray[np.int64], raters: Labels) -> None:
        """A rater rates an item once."""
        first: dict[Hashable, Location] = {}
        for (place, _), item, rater in zip(self._rows, items.tolist(), raters, strict=True):
            before = first.setdefault((item, rater), place)
            if before is not place:
                self._diagnostics.row_error(
                    place,
                    f"a rating of this item by {quote(rater)} stands at {before.label} already: remove one",
                )

    def refuse_differing(self, items: NDArray[np.int64], scores: Mapping[str, Sequence[float]]) -> None:
        """Rows of one item have one score; otherwise the items are not what was meant."""
        for name, values in scores.items():
            first: dict[int, tuple[Location, float]] = {}
            for (place, _), item, value in zip(self._rows, items.tolist(), values, strict=True):
                before, other = first.setdefault(item, (place, value))
                if value != other and value == value and other == other:
                    self._diagnostics.row_error(
                        place,
                        f"{named(name)} is {value:g}, and {other:g} at {before.label} for the same item: "
                        "correct it, or name other columns that tell items apart (--item COLUMN)",
                    )


def _label(cell: object, column: str) -> str:
    """A cell that tells rows apart, as text."""
    if isinstance(cell, EmbeddedImage):
        if cell.name.startswith("row "):
            raise UnusableError("the image has no name: name a column that tells images apart (--group COLUMN)")
        return cell.name
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise UnusableError(f"{named(column)} is missing: write it or remove the row")
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise UnusableError(f"{named(column)} is {described(cell)}: write text or a number")
    return str(cell)


def named(column: str) -> str:
    """A column's value, for messages."""
    return f"the value of {quote(column)}"
