"""The few array operations that numpy and torch share, so that every formula is written once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

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


def chunks(count: int, size: int) -> Iterator[slice]:
    """Return slices of at most ``size`` rows that cover ``count`` rows."""
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

    Example:
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
