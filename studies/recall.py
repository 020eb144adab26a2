"""Recall of image–text retrieval in percent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from i0tscore.results.retrieval import DEPTHS, cross_modal_ranks


def recall(
    images: NDArray[Any], captions: NDArray[Any], depths: Sequence[int] = DEPTHS
) -> tuple[list[float], list[float]]:
    """Return recall at several depths, image to text and text to image, in percent.

    Args:
        images: Shape (n, d).
        captions: Shape (k·n, d), as for ``cross_modal_ranks``.
        depths: Number of most similar items to look at.

    Example:
        >>> import numpy as np
        >>> recall(np.eye(2), np.eye(2)[[0, 0, 1, 0]], depths=(1, 2))
        ([50.0, 100.0], [75.0, 100.0])
    """
    ranks = cross_modal_ranks(images, captions)
    first, second = (
        [100.0 * float((side < depth).mean()) for depth in depths] for side in (ranks.to_caption, ranks.to_image)
    )
    return first, second
