"""The few array operations that numpy and torch share, so that every formula is written once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Array = NDArray[Any] | torch.Tensor

ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")
"""A numpy array or a torch tensor; functions return the type they are given."""

Vectors = NDArray[Any]
"""A numpy array of embeddings, shape (n, d), of any floating dtype."""

SMALLEST_NORM = 1e-6
"""Residuals of unit float32 vectors with a smaller norm are rounding errors, and their direction is undefined."""


CELLS = 4_000_000
"""Maximum number of similarities held in memory at once."""


class Rows(Protocol):
    """Embeddings (n, d) that are used in blocks: a numpy array, or rows that are computed when they are read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, d)``."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Return the rows of a slice or of an array of row numbers, as an array."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Rows of other rows, chosen and transformed when they are read, so that a large run is never held in memory.

    Attributes:
        source: The other rows.
        index: Row of ``source`` for each row (n,); None for all rows.
        transform: Function of a block of rows; None to leave them as they are.

    Examples:
        >>> View(np.eye(3), np.array([2, 0]), lambda block: 2 * block)[:1]
        array([[0., 0., 2.]])
    """

    source: Rows
    index: NDArray[np.int64] | None = None
    transform: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, d)``."""
        return len(self), *self[:0].shape[1:]

    def __len__(self) -> int:
        return len(self.source if self.index is None else self.index)

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        block: NDArray[Any] = self.source[rows if self.index is None else self.index[rows]]
        return block if self.transform is None else self.transform(block)


def chunks(count: int, size: int = 1024) -> Iterator[slice]:
    """Return slices of at most ``size`` rows, by default the embeddings to read at once, that cover ``count`` rows."""
    return (slice(start, start + size) for start in range(0, count, size))


def is_tensor(value: object) -> bool:
    """Return whether a value is a torch tensor, without importing torch: before it is imported, nothing is one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def namespace(array: Array) -> Any:
    """Return the module, numpy or torch, that has the functions for an array."""
    return np if isinstance(array, np.ndarray | np.generic) else sys.modules["torch"]


def normalize(vectors: ArrayT) -> ArrayT:
    """Divide each vector by its Euclidean norm.

    Args:
        vectors: Shape (…, d), any floating dtype, numpy or torch.

    Returns:
        Unit vectors of the same shape and type; NaN for vectors with a norm below ``SMALLEST_NORM``.

    Examples:
        >>> normalize(np.array([[3.0, 4.0]]))
        array([[0.6, 0.8]])
    """
    xp = namespace(vectors)
    norm = (vectors * vectors).sum(-1)[..., None] ** 0.5
    result: ArrayT = vectors / xp.where(norm > SMALLEST_NORM, norm, xp.full_like(norm, float("nan")))
    return result


def dot(first: ArrayT, second: ArrayT) -> ArrayT:
    """Return the dot products of matching rows, shape (…), for inputs of shape (…, d)."""
    result: ArrayT = (first * second).sum(-1)
    return result


def like(reference: ArrayT, values: Any) -> ArrayT:
    """Convert ``values`` to the type, dtype and device of ``reference``."""
    if isinstance(reference, np.ndarray | np.generic):
        return np.asarray(values, dtype=reference.dtype)
    return namespace(reference).as_tensor(values, dtype=reference.dtype, device=reference.device)  # type: ignore[no-any-return]
