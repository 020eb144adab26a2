"""What a picture of the modality gap shows: embeddings on a sphere, and how cosines are spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap.vectors import dot, normalize

SHOWN = 400
"""Images of a picture, each with one caption."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One state of a corpus, before or after a standardizer.

    Attributes:
        images: Image embeddings on three directions, scaled to length 1 (k, 3).
        captions: The same of captions (k, 3).
        share: How much of the embeddings' squared length the three directions hold, in [0, 1].
        cosines: Of ``matched`` (k,) and of ``mismatched``, ``image_image`` and ``caption_caption`` pairs.
    """

    images: NDArray[np.float64]
    captions: NDArray[np.float64]
    share: float
    cosines: dict[str, NDArray[np.float64]]


def panel(images: NDArray[Any], captions: NDArray[Any], image_of: NDArray[np.int64], *, seed: int = 0) -> Panel:
    """Choose at most 400 images with their first caption, and project them for a picture.

    The three directions are those along which images and captions together have the largest mean square,
    not centred, so that cones and the gap between them stay visible.

    Args:
        images: Unit embeddings (m, d), d ≥ 3.
        captions: Unit embeddings (n, d).
        image_of: For each caption the row of its image (n,).
        seed: Of the choice.

    Raises:
        InputError: Fewer than three dimensions.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shown = panel(rng.normal(size=(9, 5)), rng.normal(size=(9, 5)), np.arange(9))
        >>> shown.images.shape, shown.cosines["image_image"].shape
        ((9, 3), (36,))
    """
    if images.shape[1] < 3:
        raise InputError(f"a picture needs embeddings of three dimensions or more, not {images.shape[1]}")
    owners, first = np.unique(image_of, return_index=True)
    chosen = np.random.default_rng(seed).permutation(len(owners))[:SHOWN]
    x, y = (v.astype(np.float64) for v in (images[owners[chosen]], captions[first[chosen]]))
    defined = ~(np.isnan(x).any(axis=1) | np.isnan(y).any(axis=1))
    x, y = x[defined], y[defined]
    both = np.concatenate([x, y])
    directions = np.linalg.eigh(both.T @ both)[1][:, :-4:-1]
    projected = both @ directions
    projected *= np.where(projected.sum(axis=0) < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
    share = float((projected**2).sum() / (both**2).sum())
    on_sphere = normalize(projected)
    above, apart = np.triu_indices(len(x), 1), ~np.eye(len(x), dtype=bool)
    cosines = {
        "matched": dot(x, y),
        "mismatched": (x @ y.T)[apart],
        "image_image": (x @ x.T)[above],
        "caption_caption": (y @ y.T)[above],
    }
    return Panel(on_sphere[: len(x)], on_sphere[len(x) :], share, cosines)
