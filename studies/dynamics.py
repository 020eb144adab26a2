"""Where inverted images are while they are optimised: their cosines, their loss and what they retrieve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.base import Encoder
from i0tscore.inversion.invert import invert_images
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean
from i0tscore.results.retrieval import retrieve_by_label

Row: TypeAlias = dict[str, Any]

CURVE = (0, 1, 2, 5, 10, 17, 20, 50, 100, 150)
TOKENS = (1, 2, 4)
QUANTILES = (5, 25, 50, 75, 95)

_SEED = 12345


def draw_queries(items: int, count: int) -> NDArray[np.int64]:
    """Rows of ``count`` of the items, or of all where there are fewer, drawn at random, in order."""
    rows: NDArray[np.int64] = np.sort(np.random.default_rng(_SEED).permutation(items)[:count])
    return rows


def inversion_dynamics(
    encoder: Encoder,
    images: NDArray[np.float32],
    labels: Sequence[str] | NDArray[Any],
    queries: NDArray[np.int64],
    *,
    tokens: Sequence[int] = TOKENS,
    curve: Sequence[int] = CURVE,
    resampling: Resampling | None = None,
) -> list[Row]:
    """Follow inverted images over the steps, as Figure 2 of Mistretta et al. does ("Cross the Gap").

    Args:
        encoder: The encoder that made the embeddings, a ``PseudoTokenEncoder``.
        images: Unit embeddings (n, d): the gallery.
        labels: Of each image (n,).
        queries: Rows of the images that are inverted (q,).
        tokens: The numbers of pseudo-tokens R.
        curve: The numbers of updates that are looked at; the last is how many are done.
        resampling: Of the intervals, over queries.

    Returns:
        One dict for each R and number of updates: ``tokens``, ``step``, the mean ``loss`` (1 − cosine with
        the own image), quantiles of the cosines with the ``own`` image and with all ``other`` images,
        and the ``mAP`` of image-to-image retrieval and its ``difference`` to that of the images themselves,
        as ``{"value", "interval"}``. The first row, with 0 tokens, is of the images themselves.

    Raises:
        ModelError: The encoder takes no pseudo-tokens.
        UsageError: The curve does not increase.
    """
    native = image_precisions(images[queries], images, labels, queries)

    def row(tokens: int, step: int, vectors: NDArray[Any]) -> Row:
        cosines = vectors @ images.T
        found = image_precisions(vectors, images, labels, queries)
        return {
            "tokens": tokens,
            "step": step,
            "loss": float(1 - cosines[np.arange(len(queries)), queries].mean()),
            **_own_and_other(cosines, queries),
            "mAP": mean_of(found, resampling).to_dict(),
            "difference": mean_of(found - native, resampling).to_dict(),
        }

    rows = [row(0, 0, images[queries])]
    ids = [str(query) for query in queries]
    for count in tokens:
        inverted = invert_images(
            encoder, images[queries], ids=ids, tokens=count, steps=max(curve), eval_steps=tuple(curve)
        )
        rows += [row(count, step, inverted.eval_vectors[:, place]) for place, step in enumerate(curve)]
    return rows


def image_precisions(
    vectors: NDArray[Any],
    images: NDArray[Any],
    labels: Sequence[str] | NDArray[Any],
    queries: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Average precision (q,) of query vectors (q, d) that stand for some rows of the images (n, d).

    Labels (n,) say what is relevant; a query's own image is left out.
    """
    return retrieve_by_label(vectors, images, np.asarray(labels)[queries], labels, own=queries).values["mAP"]


def mean_of(values: NDArray[np.float64], resampling: Resampling | None = None) -> Estimate:
    """Mean of values (q,) with its interval over them; those that are NaN are left out."""
    return Estimate(float(np.nanmean(values)), bootstrap_mean(values, np.arange(len(values)), resampling))


def cross_cosines(images: NDArray[Any], captions: NDArray[Any]) -> dict[str, dict[str, float]]:
    """Quantiles of the cosines of captions (k·n, d), k of each image in turn, with images (n, d).

    Returns:
        ``own``: with their images; ``other``: with all other images.

    Example:
        >>> cross_cosines(np.eye(2), np.eye(2))["own"]["50"]
        1.0
    """
    cosines = captions @ images.T
    own = np.repeat(np.arange(len(images)), len(captions) // len(images))
    return _own_and_other(cosines, own)


def _own_and_other(cosines: NDArray[Any], own: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Quantiles of the cosines (q, n) in the columns ``own`` (q,), and in the others."""
    mine = np.zeros(cosines.shape, dtype=bool)
    mine[np.arange(len(own)), own] = True
    return {
        name: dict(zip(map(str, QUANTILES), np.percentile(part, QUANTILES).tolist(), strict=True))
        for name, part in (("own", cosines[mine]), ("other", cosines[~mine]))
    }
