"""A trained normalization of one modality: what I0T_async puts behind a frozen encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap.vectors import ArrayT, like, normalize

ARRAYS = ("mean", "variance", "weight", "bias")
"""The arrays of a ``Normalization``, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """A BatchNorm1d in evaluation, then unit length (An et al. 2025, I0T_async).

    Attributes:
        mean: Running mean, shape (d,), float64.
        variance: Running variance (d,), float64, ≥ 0.
        weight: Learned scale (d,), float64.
        bias: Learned shift (d,), float64.
        eps: Added to the variance, > 0.

    Raises:
        ValueError: The arrays are not finite, of one shape (d,), and with variances ≥ 0.

    Example:
        >>> import numpy as np
        >>> plain = Normalization(np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
        >>> plain(np.array([[3.0, 4.0]])).round(6)
        array([[0.6, 0.8]])
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Hold the arrays in float64 and refuse what is no normalization."""
        for name in ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        arrays = list(self.arrays())
        if self.mean.ndim != 1 or any(a.shape != self.mean.shape for a in arrays):
            shapes = ", ".join(f"{f.name} {np.shape(getattr(self, f.name))}" for f in fields(self)[:4])
            raise ValueError(f"a normalization needs four arrays of one shape (d,), not {shapes}")
        if not all(np.isfinite(a).all() for a in arrays) or (self.variance < 0).any() or not self.eps > 0:
            raise ValueError("a normalization must be finite, with variances ≥ 0 and eps > 0")

    def arrays(self) -> Iterator[NDArray[np.float64]]:
        """Mean, variance, weight and bias, each (d,)."""
        return (getattr(self, name) for name in ARRAYS)

    def __call__(self, vectors: ArrayT) -> ArrayT:
        """Normalize.

        Args:
            vectors: Unit embeddings (…, d), numpy or torch.

        Returns:
            n((v − mean) / √(variance + eps) · weight + bias), of the same shape, dtype and kind.
        """
        scale = like(vectors, self.weight / np.sqrt(self.variance + self.eps))
        return normalize((vectors - like(vectors, self.mean)) * scale + like(vectors, self.bias))
