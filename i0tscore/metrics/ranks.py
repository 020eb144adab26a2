"""The place of each caption among all distinct captions of the run for its image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encoded import EncodedReferences, Index, Vectors
from i0tscore.metrics.metric import Metric

TIE = 1e-6
"""Scores closer than this are rounding apart and share a place."""

_CELLS = 4_000_000


def rank_captions(x: Vectors, y: Vectors, image_index: Index, text_index: Index) -> Index:
    """Rank by image–caption similarity, 1 for the best; 0 where the similarity is undefined.

    Args:
        x: Standardized distinct images (mi, d).
        y: Standardized distinct captions (mc, d).
        image_index: Image of each sample (n,).
        text_index: Caption of each sample (n,).
    """
    ranks = np.zeros(len(image_index), dtype=np.int64)
    order = np.argsort(image_index, kind="stable")
    step = max(1, _CELLS // max(len(y), 1))
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        images, local = np.unique(image_index[rows], return_inverse=True)
        table = x[images] @ y.T
        own = table[local, text_index[rows]]
        ranks[rows] = _place(table[local], own[:, None])
    return ranks


def rank_with_references(
    metric: Metric,
    x: Vectors,
    y: Vectors,
    references: EncodedReferences,
    image_index: Index,
    text_index: Index,
) -> Index:
    """The same for a Ref- metric, each image keeping the sample's own references."""
    ranks = np.zeros(len(image_index), dtype=np.int64)
    groups: dict[tuple[int, bytes], list[int]] = {}
    for i, image in enumerate(image_index):
        groups.setdefault((int(image), references.index[i].tobytes()), []).append(i)
    for (image, _), members in groups.items():
        nearest = (y @ references.vectors[references.index[members[0]]].T).max(axis=1)
        scores = metric.value(y @ x[image], nearest)
        ranks[members] = _place(scores[None], scores[text_index[members]][:, None])
    return ranks


def _place(scores: NDArray[Any], own: NDArray[Any]) -> Index:
    better = (scores > own + TIE).sum(axis=1)
    places: Index = np.where(np.isnan(own[:, 0]), 0, better + 1).astype(np.int64)
    return places
