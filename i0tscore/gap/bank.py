"""A bank of images and captions: what is near to everything is known by what it is near to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError
from i0tscore.gap.vectors import ArrayT, like, namespace

NEAREST = 256
"""k of NNN's code."""

_CELLS = 4_000_000
"""Similarities held at once."""


@dataclass(frozen=True, slots=True, eq=False)
class HubnessBank:
    """Some unit embeddings of both modalities, for ``nnn`` (Chowdhury et al., EMNLP 2024).

    Attributes:
        images: Shape (n, d), float16.
        captions: Shape (m, d), float16.
        nearest: k, how many of them a hub is judged by; at most n and m.

    Raises:
        ValueError: The arrays are not two matrices of finite numbers, or k does not fit them.
    """

    images: NDArray[np.float16]
    captions: NDArray[np.float16]
    nearest: int = NEAREST

    def __post_init__(self) -> None:
        """Hold the arrays in float16 and refuse what is no bank."""
        for name in ("images", "captions"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float16))
        shapes = self.images.shape, self.captions.shape
        if len(shapes[0]) != 2 or shapes[0][1:] != shapes[1][1:]:
            raise ValueError(f"a bank needs arrays (n, d) and (m, d), not {shapes[0]} and {shapes[1]}")
        if not (np.isfinite(self.images).all() and np.isfinite(self.captions).all()):
            raise ValueError("a bank must be finite")
        if not 1 <= self.nearest <= min(len(self.images), len(self.captions)):
            raise ValueError(f"k = {self.nearest} of a bank with {len(self.images)} images")

    @classmethod
    def draw(
        cls,
        images: NDArray[Any],
        captions: NDArray[Any],
        size: int,
        *,
        nearest: int = NEAREST,
        seed: int = 12345,
    ) -> HubnessBank:
        """Draw a bank at random from distinct images and distinct captions.

        Args:
            images: Unit embeddings (n, d).
            captions: Unit embeddings (m, d).
            size: Rows to draw of each.
            nearest: k; all rows where the bank has fewer.
            seed: Of the choice.

        Raises:
            StatisticsError: There are fewer images or captions than ``size``.

        Example:
            >>> import numpy as np
            >>> HubnessBank.draw(np.eye(5), np.eye(5), 3).images.shape
            (3, 5)
        """
        available = min(len(images), len(captions))
        if not 1 <= size <= available:
            raise StatisticsError(
                f"a bank of {size} needs as many different images and captions; there are {available}"
            )
        generator = np.random.default_rng(seed)
        rows = [np.sort(generator.choice(len(side), size, replace=False)) for side in (images, captions)]
        return cls(images[rows[0]], captions[rows[1]], min(nearest, size))

    def merge(self, other: HubnessBank) -> HubnessBank:
        """The rows of both banks, and the larger k."""
        return HubnessBank(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.captions, other.captions]),
            max(self.nearest, other.nearest),
        )

    def hubness(self, vectors: ArrayT, bank: NDArray[np.float16]) -> ArrayT:
        """Mean similarity of each vector (n, d) with its ``nearest`` nearest rows of one side: shape (n,)."""
        xp, rows = namespace(vectors), like(vectors, bank).T
        step = max(1, _CELLS // len(bank))
        parts = [self._nearest_mean(vectors[s : s + step] @ rows) for s in range(0, len(vectors), step)]
        result: ArrayT = xp.concatenate(parts) if parts else vectors.sum(-1)
        return result

    def _nearest_mean(self, similarities: Any) -> Any:
        if isinstance(similarities, np.ndarray):
            return np.partition(similarities, -self.nearest, axis=-1)[:, -self.nearest :].mean(-1)
        return similarities.topk(self.nearest, dim=-1).values.mean(-1)
