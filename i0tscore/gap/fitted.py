"""State that standardizers need beyond means and covariances: trained normalizations and hubness banks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError
from i0tscore.gap.vectors import ArrayT, like, namespace, normalize

NEAREST = 256
"""Default number of neighbors k, as in the code of NNN."""

_ARRAYS = ("mean", "variance", "weight", "bias")
_CELLS = 4_000_000
"""Maximum number of similarities held in memory at once."""


class FittedState:
    """State of a standardizer that ``Statistics`` fits, stores, merges and digests through these methods.

    Attributes:
        header_key: Key of the JSON field in a statistics file that shows that the file has this state.
    """

    header_key: ClassVar[str]

    @classmethod
    def fit(cls, images: NDArray[Any], captions: NDArray[Any]) -> Self | None:
        """Fit to unit embeddings of pairs, (n, d) each; None if the state needs training or options."""
        return None

    def to_file(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return the value of the JSON field and the arrays (…, d) to store in a statistics file, by key."""
        raise NotImplementedError

    @classmethod
    def from_file(cls, header: Any, tensors: dict[str, NDArray[Any]]) -> Self:
        """Read the state from the JSON field and the arrays of a statistics file."""
        raise NotImplementedError

    def digest_arrays(self) -> Iterable[Any]:
        """Return every value that scores depend on, as arrays or numpy scalars."""
        return self.to_file()[1].values()

    def merge(self, other: Self) -> Self | None:
        """Return the state of both corpora together; None if states cannot be merged."""
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """BatchNorm1d in evaluation mode followed by scaling to unit length (I0T_async, An et al. 2025).

    Attributes:
        mean: Running mean, shape (d,), float64.
        variance: Running variance, shape (d,), float64, ≥ 0.
        weight: Learned scale, shape (d,), float64.
        bias: Learned shift, shape (d,), float64.
        eps: Added to the variance, > 0.

    Raises:
        ValueError: The arrays are not finite or not of one shape (d,), or a variance is negative.

    Example:
        >>> identity = Normalization(np.zeros(2), np.ones(2), np.ones(2), np.zeros(2))
        >>> identity(np.array([[3.0, 4.0]])).round(6)
        array([[0.6, 0.8]])
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        arrays = self.arrays()
        if self.mean.ndim != 1 or len({array.shape for array in arrays}) > 1:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(_ARRAYS, arrays, strict=True))
            raise ValueError(f"Expected four arrays of one shape (d,), got {shapes}.")
        if not all(np.isfinite(array).all() for array in arrays) or (self.variance < 0).any() or not self.eps > 0:
            raise ValueError("A normalization must be finite, with variances ≥ 0 and eps > 0.")

    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        """Return mean, variance, weight and bias, each of shape (d,)."""
        return self.mean, self.variance, self.weight, self.bias

    def __call__(self, vectors: ArrayT) -> ArrayT:
        """Return n((v − mean) / √(variance + eps) · weight + bias) of unit embeddings (…, d), numpy or torch."""
        scale = like(vectors, self.weight / np.sqrt(self.variance + self.eps))
        return normalize((vectors - like(vectors, self.mean)) * scale + like(vectors, self.bias))


@dataclass(frozen=True, slots=True, eq=False)
class NormalizationPair(FittedState):
    """The trained normalizations of both modalities, for ``async``."""

    image: Normalization
    caption: Normalization

    header_key = "normalization_eps"

    def to_file(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Store the arrays as ``normalization/image/mean`` etc."""
        sides = (("image", self.image), ("caption", self.caption))
        arrays = {f"normalization/{k}/{a}": getattr(side, a) for k, side in sides for a in _ARRAYS}
        return [self.image.eps, self.caption.eps], arrays

    @classmethod
    def from_file(cls, header: Any, tensors: dict[str, NDArray[Any]]) -> Self:
        """Read what ``to_file`` stored."""
        arrays = ({a: tensors[f"normalization/{kind}/{a}"] for a in _ARRAYS} for kind in ("image", "caption"))
        return cls(*(Normalization(**side, eps=float(eps)) for side, eps in zip(arrays, header, strict=True)))

    def digest_arrays(self) -> Iterable[Any]:
        """Return the arrays and ``eps`` of both normalizations."""
        return [a for n in (self.image, self.caption) for a in (*n.arrays(), np.float64(n.eps))]


@dataclass(frozen=True, slots=True, eq=False)
class HubnessBank(FittedState):
    """Reference bank for hubness correction, for ``nnn`` (Chowdhury et al., EMNLP 2024).

    Attributes:
        images: Unit image embeddings, shape (n, d), float16.
        captions: Unit caption embeddings, shape (m, d), float16.
        nearest: Number of nearest neighbors k whose mean similarity measures hubness, at most n and m.

    Raises:
        ValueError: The arrays are not two finite matrices of one width, or k is out of range.
    """

    images: NDArray[np.float16]
    captions: NDArray[np.float16]
    nearest: int = NEAREST

    header_key = "bank_nearest"

    def __post_init__(self) -> None:
        for name in ("images", "captions"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float16))
        shapes = self.images.shape, self.captions.shape
        if len(shapes[0]) != 2 or shapes[0][1:] != shapes[1][1:]:
            raise ValueError(f"Expected bank arrays of shapes (n, d) and (m, d), got {shapes[0]} and {shapes[1]}.")
        if not (np.isfinite(self.images).all() and np.isfinite(self.captions).all()):
            raise ValueError("A bank must be finite.")
        if not 1 <= self.nearest <= min(len(self.images), len(self.captions)):
            raise ValueError(
                f"Expected k between 1 and the bank's size, got k = {self.nearest} for {len(self.images)} images "
                f"and {len(self.captions)} captions."
            )

    @classmethod
    def sample(
        cls, images: NDArray[Any], captions: NDArray[Any], size: int, *, nearest: int = NEAREST, seed: int = 12345
    ) -> HubnessBank:
        """Sample a bank from distinct images (n, d) and distinct captions (m, d), all unit embeddings.

        Args:
            images: Image embeddings.
            captions: Caption embeddings.
            size: Number of images and captions to keep.
            nearest: k, reduced to ``size`` if larger.
            seed: Seed of the sample.

        Raises:
            StatisticsError: There are fewer than ``size`` images or captions.
        """
        available = min(len(images), len(captions))
        if not 1 <= size <= available:
            raise StatisticsError(
                f"A bank of {size} needs as many distinct images and captions, but there are {available}. "
                "Use a smaller bank or more samples."
            )
        generator = np.random.default_rng(seed)
        rows = [np.sort(generator.choice(len(side), size, replace=False)) for side in (images, captions)]
        return cls(images[rows[0]], captions[rows[1]], min(nearest, size))

    def hubness(self, vectors: ArrayT, bank: NDArray[np.float16]) -> ArrayT:
        """Return the mean similarity (n,) of unit vectors (n, d) with their k nearest rows of ``bank``, one side."""
        rows = like(vectors, bank).T
        step = max(1, _CELLS // len(bank))
        means: list[Any] = []
        for start in range(0, len(vectors), step):
            similarities: Any = vectors[start : start + step] @ rows
            if isinstance(similarities, np.ndarray):
                nearest = np.partition(similarities, -self.nearest, axis=-1)[:, -self.nearest :]
            else:
                nearest = similarities.topk(self.nearest, dim=-1).values
            means.append(nearest.mean(-1))
        result: ArrayT = namespace(vectors).concatenate(means) if means else vectors.sum(-1)
        return result

    def to_file(self) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Store the embeddings as ``bank/image`` and ``bank/caption``."""
        return self.nearest, {"bank/image": self.images, "bank/caption": self.captions}

    @classmethod
    def from_file(cls, header: Any, tensors: dict[str, NDArray[Any]]) -> Self:
        """Read what ``to_file`` stored."""
        return cls(tensors["bank/image"], tensors["bank/caption"], int(header))

    def digest_arrays(self) -> Iterable[Any]:
        """Return the embeddings and k."""
        return self.images, self.captions, np.int64(self.nearest)

    def merge(self, other: Self) -> Self:
        """Join the rows of both banks and keep the larger k."""
        return type(self)(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.captions, other.captions]),
            max(self.nearest, other.nearest),
        )
