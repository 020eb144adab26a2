"""Count, mean and covariance of a set of embeddings, mergeable so that shards can be fitted apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, mean and covariance of unit embeddings of one modality.

    Attributes:
        count: Number of rows.
        mean: Shape (d,), float64.
        covariance: Shape (d, d), float64, of the population (divided by ``count``).

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
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Moments:
        """Moments of the rows of ``vectors``, shape (n, d) with n ≥ 1."""
        if vectors.ndim != 2 or not len(vectors):
            raise ValueError(f"moments need an array (n, d) with n ≥ 1, not shape {vectors.shape}")
        mean = vectors.mean(axis=0, dtype=np.float64)
        scatter = np.zeros((len(mean), len(mean)))
        for start in range(0, len(vectors), _CHUNK):
            residuals = vectors[start : start + _CHUNK] - mean
            scatter += residuals.T @ residuals
        return cls(len(vectors), mean, scatter / len(vectors))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows together."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"cannot merge dimensions {self.mean.shape[0]} and {other.mean.shape[0]}")
        count = self.count + other.count
        share = other.count / count
        apart = other.mean - self.mean
        within = (1 - share) * self.covariance + share * other.covariance
        between = share * (1 - share) * np.outer(apart, apart)
        return Moments(count, self.mean + share * apart, within + between)
