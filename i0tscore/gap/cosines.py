"""Mean cosines and centroids of images and captions, from one sum an image, so that resampling is cheap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_MATCHED_DISTANCE = 1e-3
"""Floor of the matched distance in the relative gap, as in Schrodi et al.'s code."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairSums:
    """Unit embeddings of distinct images (m, d), and for each the sum of its captions' embeddings.

    Attributes:
        images: Shape (m, d), float64.
        captions: Sum of each image's unit caption embeddings (m, d), float64.
        counts: Captions of each image (m,), each at least 1.
    """

    images: _Floats
    captions: _Floats
    counts: _Floats

    @classmethod
    def of(cls, images: NDArray[Any], captions: NDArray[Any], image_of: NDArray[np.int64]) -> PairSums:
        """Sum captions (n, d) by image.

        Args:
            images: Unit embeddings of distinct images (m, d).
            captions: Unit embeddings (n, d).
            image_of: For each caption the row of its image (n,); every image has a caption.

        Raises:
            ValueError: An image has no caption.
        """
        counts = np.bincount(image_of, minlength=len(images))
        if len(counts) != len(images) or not counts.all():
            raise ValueError("every image needs a caption, and every caption an image")
        sums = np.zeros(images.shape)
        np.add.at(sums, image_of, captions)
        return cls(images.astype(np.float64), sums, counts.astype(np.float64))

    def measure(self, weights: NDArray[Any] | None = None) -> dict[str, _Floats]:
        """All measures that follow from means, for each row of weights.

        Pairs of one image are left out of the cosines within a modality and of the mismatched ones: an
        image with itself, and captions of one image with each other. So are copies that resampling makes.

        Args:
            weights: How often each image counts (r, m); once each if left out.

        Returns:
            Arrays (r,): ``centroid_distance``; ``matched``, ``mismatched``, ``image_image`` and
            ``caption_caption`` mean cosines, NaN with a single image; ``relative_gap`` (``relative_gap``
            below).

        Example:
            >>> import numpy as np
            >>> sums = PairSums.of(np.eye(2), np.eye(2), np.arange(2))
            >>> found = sums.measure()
            >>> float(found["matched"][0]), float(found["mismatched"][0]), float(found["image_image"][0])
            (1.0, 0.0, 0.0)
        """
        w = np.ones((1, len(self.images))) if weights is None else np.asarray(weights, dtype=np.float64)
        x, y, squared = w @ self.images, w @ self.captions, w * w
        n, k = w.sum(1), w @ self.counts
        own = (self.images * self.captions).sum(1)
        cosines = {
            "matched": (w @ own) / k,
            "mismatched": _mean((x * y).sum(1) - squared @ own, n * k - squared @ self.counts),
            "image_image": _mean((x * x).sum(1) - squared @ _squares(self.images), n * n - squared.sum(1)),
            "caption_caption": _mean(
                (y * y).sum(1) - squared @ _squares(self.captions), k * k - squared @ self.counts**2
            ),
        }
        distance = np.linalg.norm(x / n[:, None] - y / k[:, None], axis=1)
        gap = relative_gap(cosines["matched"], cosines["image_image"], cosines["caption_caption"])
        return {"centroid_distance": distance, **cosines, "relative_gap": gap}


def relative_gap(matched: _Floats, image_image: _Floats, caption_caption: _Floats) -> _Floats:
    """Relative modality gap (RMG, Schrodi et al. 2025): matched distance against distance within modalities.

    Args:
        matched: Mean cosine of matched pairs.
        image_image: Mean cosine of two different images.
        caption_caption: Mean cosine of two captions of different images.

    Returns:
        d_m / (d_m + ½(d_ii + d_cc)) with d = (1 − cos)/2 and d_m at least 0.001, in (0, 1]: near 0
        where an image is much nearer to its caption than to other images, ½ where it is not.

    Example:
        >>> round(float(relative_gap(np.array(0.2), np.array(0.6), np.array(0.6))), 4)
        0.6667
    """
    d_m = np.maximum((1 - matched) / 2, SMALLEST_MATCHED_DISTANCE)
    within = ((1 - image_image) / 2 + (1 - caption_caption) / 2) / 2
    result: _Floats = d_m / (d_m + within)
    return result


def _squares(vectors: _Floats) -> _Floats:
    squares: _Floats = (vectors * vectors).sum(1)
    return squares


def _mean(total: _Floats, count: _Floats) -> _Floats:
    """Total over count; NaN where there is nothing to average."""
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
