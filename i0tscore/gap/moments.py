"""Count and mean of a set of embeddings, mergeable so that shards can be fitted apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count and mean of unit embeddings of one modality.

    Attributes:
        count: Number of rows.
        mean: Shape (d,), float64.

    Example:
        >>> import numpy as np
        >>> rows = np.eye(4, dtype=np.float32)
        >>> whole = Moments.of(rows)
        >>> parts = Moments.of(rows[:1]).merge(Moments.of(rows[1:]))
        >>> bool(np.allclose(whole.mean, parts.mean)), parts.count
        (True, 4)
    """

    count: int
    mean: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Moments:
        """Moments of the rows of ``vectors``, shape (n, d) with n ≥ 1."""
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(f"moments need an array (n, d) with n ≥ 1, not shape {vectors.shape}")
        return cls(len(vectors), vectors.mean(axis=0, dtype=np.float64))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"cannot merge dimensions {self.mean.shape[0]} and {other.mean.shape[0]}")
        count = self.count + other.count
        share = other.count / count
        return Moments(count, self.mean + (other.mean - self.mean) * share)
