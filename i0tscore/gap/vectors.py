"""The few array operations that numpy and torch share, so that every formula is written once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Array = NDArray[Any] | torch.Tensor

ArrayT = TypeVar("ArrayT", NDArray[Any], "torch.Tensor")
"""A numpy array or a torch tensor: what goes in comes out."""

SMALLEST_NORM = 1e-6
"""Below this, a residual of unit float32 vectors is rounding error and its direction means nothing."""


def namespace(array: Array) -> Any:
    """Return the module, numpy or torch, whose functions take this array."""
    return np if isinstance(array, np.ndarray | np.generic) else sys.modules["torch"]


def normalize(vectors: ArrayT) -> ArrayT:
    """Divide each vector by its Euclidean norm.

    Args:
        vectors: Shape (…, d), any floating dtype, numpy or torch.

    Returns:
        The same shape and kind, each row of norm 1; rows of norm below ``SMALLEST_NORM`` have no
        direction and become NaN.

    Example:
        >>> import numpy as np
        >>> normalize(np.array([[3.0, 4.0]]))
        array([[0.6, 0.8]])
    """
    xp = namespace(vectors)
    norm = (vectors * vectors).sum(-1)[..., None] ** 0.5
    result: ArrayT = vectors / xp.where(norm > SMALLEST_NORM, norm, xp.full_like(norm, float("nan")))
    return result


def dot(first: ArrayT, second: ArrayT) -> ArrayT:
    """Dot product of matching rows: shapes (…, d) and (…, d) give (…)."""
    result: ArrayT = (first * second).sum(-1)
    return result


def like(reference: ArrayT, values: Any) -> ArrayT:
    """Convert ``values`` to the kind, dtype and device of ``reference``."""
    if isinstance(reference, np.ndarray | np.generic):
        return np.asarray(values, dtype=reference.dtype)
    return namespace(reference).as_tensor(values, dtype=reference.dtype, device=reference.device)  # type: ignore[no-any-return]
