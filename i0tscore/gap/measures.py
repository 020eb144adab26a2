"""Measures of the modality gap between image and caption embeddings, and the data of its plots.

``images`` are unit image embeddings, shape (m, d), and ``captions`` unit caption embeddings, shape (n, d). Where
``image_of`` is an argument, it holds the row of each caption's image, shape (n,); elsewhere they are independent, or
row i of both is a pair. ``image_mean`` and ``caption_mean`` are means of unit embeddings, shape (d,).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap.vectors import CELLS, Rows, Vectors, chunks, dot, normalize

LOW_SEVERITY = 0.19
"""Centroid distance below which the gap is low (An et al. 2025)."""

PEAK = 0.1
"""A coordinate is a peak if the square of a mean's value there is at least this share of a unit vector's square."""

ZERO_MATCHED_DISTANCE = 1e-3
"""Stands for a matched distance of 0 or less in the relative gap, as in the code of Schrodi et al. 2025."""

TRAINED_SHARE = 0.7
"""Share of the pairs that the modality classifier is trained on."""

PLOTTED_IMAGES = 400
"""Maximum number of images in a plot, each with one caption."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class VectorSum:
    """Number and sum of vectors with a defined direction, which can be added up block by block."""

    count: int
    total: _Floats

    @classmethod
    def of(cls, vectors: Rows) -> VectorSum:
        """Sum the rows of ``vectors`` (n, d) without NaN."""
        found = cls(0, np.zeros(vectors.shape[1]))
        for part in chunks(len(vectors)):
            block = vectors[part]
            defined = block[~np.isnan(block).any(axis=1)]
            found = found.merge(cls(len(defined), defined.sum(axis=0, dtype=np.float64)))
        return found

    def merge(self, other: VectorSum) -> VectorSum:
        """Add the sum of other vectors."""
        return VectorSum(self.count + other.count, self.total + other.total)

    def distance(self, other: VectorSum) -> float | None:
        """Return the distance between both means; None if either has no vectors."""
        if not (self.count and other.count):
            return None
        difference = self.total / self.count - other.total / other.count
        return float(np.sqrt((difference * difference).sum()))


def centroid_distance(images: Vectors, captions: Vectors) -> float:
    """Return the distance between the mean image and the mean caption (Liang et al. 2022; CD in An et al. 2025).

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings (m, d).

    Returns:
        ‖mean(images) − mean(captions)‖, in [0, 2]. Rows with NaN are ignored.

    Raises:
        ValueError: Every row of a modality has NaN.

    Examples:
        >>> centroid_distance(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
        1.4142135623730951
    """
    distance = VectorSum.of(images).distance(VectorSum.of(captions))
    if distance is None:
        raise ValueError("Expected at least one embedding without NaN, got none.")
    return distance


def severity(distance: float) -> Literal["low", "moderate", "severe"]:
    """Return the severity of a centroid distance (An et al. 2025): low below .19, severe from .63.

    Args:
        distance: Centroid distance, in [0, 2].

    Examples:
        >>> severity(0.0102), severity(0.4795), severity(0.7642)
        ('low', 'moderate', 'severe')
    """
    return "low" if distance < LOW_SEVERITY else "moderate" if distance < 0.63 else "severe"


def minimum_cosine_distance(images: Vectors, captions: Vectors) -> float:
    """Return the smallest cosine distance between any image and any caption (MCD in An et al. 2025).

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings (m, d).

    Returns:
        1 − max x·y, in [0, 2]. At most 32 MB are used for similarities.
    """
    parts = chunks(len(images), max(1, CELLS // max(1, len(captions))))
    return 1.0 - max(float((images[part] @ captions.T).max()) for part in parts)


class Peak(NamedTuple):
    """A coordinate, both modalities' means there, and its share of the squared centroid distance."""

    coordinate: int
    image_mean: float
    caption_mean: float
    share: float


@dataclass(frozen=True, slots=True)
class Peaks:
    """The coordinates that carry the gap.

    Attributes:
        largest: Coordinates with the largest shares of the squared centroid distance, in descending order.
        peaks: Coordinates where the square of either mean is at least 0.1 of a unit vector's square.
        ceiling: Largest possible cosine of an image and a caption that have the means' values in ``peaks``.
    """

    largest: tuple[Peak, ...]
    peaks: tuple[int, ...]
    ceiling: float


def peak_coordinates(image_mean: NDArray[Any], caption_mean: NDArray[Any], *, count: int = 5) -> Peaks:
    """Find the coordinates that carry the gap and the largest cosine they allow (An et al. 2025).

    An image with the values p in the peaks and a caption with the values q have a cosine of at most
    p·q + √((1 − ‖p‖²)(1 − ‖q‖²)). If each peak belongs to one modality and the other modality is 0 there, this is
    the paper's √((1 − p²)(1 − 2q²)): .76 for its p = −1/2 and q = 1/3.

    Args:
        image_mean: Mean of the images' unit embeddings (d,).
        caption_mean: Mean of the captions' unit embeddings (d,).
        count: Number of coordinates to list.

    Examples:
        >>> found = peak_coordinates(np.array([-0.5, 0, 0, 0]), np.array([0, 1/3, 1/3, 0]))
        >>> found.peaks, round(found.ceiling, 2)
        ((0, 1, 2), 0.76)
    """
    x, y = np.asarray(image_mean, dtype=np.float64), np.asarray(caption_mean, dtype=np.float64)
    squares = (x - y) ** 2
    order = np.argsort(-squares, kind="stable")[:count]
    total = float(squares.sum()) or 1.0
    largest = tuple(Peak(int(j), float(x[j]), float(y[j]), float(squares[j] / total)) for j in order)
    peaks = np.flatnonzero(np.maximum(x * x, y * y) >= PEAK)
    p, q = x[peaks], y[peaks]
    remaining = max(1.0 - float(p @ p), 0.0) * max(1.0 - float(q @ q), 0.0)
    return Peaks(largest, tuple(peaks.tolist()), float(p @ q) + remaining**0.5)


def expected_residual_gap(matched_score: float, count: int) -> float:
    """Estimate the centroid distance on new data after ``post`` with means from ``count`` pairs.

    The mean of n standardized unit residuals has an error of about √(1/n) per modality. The errors of matched
    images and captions are correlated by their mean score, which gives √(2·(1 − score)/n). For a score of .44 this
    is .19 with 32 pairs and .094 with 128; An et al. 2025 measured .188 and .099 (Table 3).

    Args:
        matched_score: Mean I0TScore of the matched pairs.
        count: Number of pairs behind the means, ≥ 1.

    Examples:
        >>> round(expected_residual_gap(0.44, 32), 2)
        0.19
    """
    return float(np.sqrt(2.0 * max(1.0 - matched_score, 0.0) / count))


def pair_measures(
    images: Vectors, captions: Vectors, image_of: NDArray[np.int64], weights: Iterable[NDArray[Any] | None] = (None,)
) -> Iterator[dict[str, _Floats]]:
    """Compute the measures that follow from means, for batches of resampling weights.

    The cosines within a modality and of mismatched pairs exclude pairs from one image: an image with itself and its
    captions with each other. They also exclude the copies that resampling creates. The images must be distinct and
    have at least one caption each. ``weights`` are batches of how often each image counts, each of shape (r, m); None
    for once each.

    Yields:
        For each batch, arrays of shape (r,): ``centroid_distance``; the mean cosines ``matched``, ``mismatched``,
        ``image_image`` and ``caption_caption``, NaN with a single image; and ``relative_gap``, the RMG of Schrodi et
        al. 2025: d_m / (d_m + ½(d_ii + d_cc)) with d = (1 − cosine)/2, in (0, 1]. As in their code, d_cc includes
        pairs of captions of one image, and a d_m of 0 or less counts as 0.001. It is near 0 if an image is much
        closer to its caption than to other images, ½ if it is as close.

    Examples:
        >>> found = next(pair_measures(np.eye(2), np.eye(2), np.arange(2)))
        >>> float(found["matched"][0]), float(found["mismatched"][0]), float(found["image_image"][0])
        (1.0, 0.0, 0.0)
    """
    images, counts = images.astype(np.float64), np.bincount(image_of).astype(np.float64)
    sums = np.zeros(images.shape)
    np.add.at(sums, image_of, captions)
    own, own_images, own_captions = ((a * b).sum(1) for a, b in ((images, sums), (images, images), (sums, sums)))
    siblings = own_captions - np.bincount(image_of, (captions.astype(np.float64) ** 2).sum(1))
    for batch in weights:
        w = np.ones((1, len(images))) if batch is None else np.asarray(batch, dtype=np.float64)
        x, y, squared = w @ images, w @ sums, w * w
        n, k = w.sum(1), w @ counts
        totals = {
            "mismatched": ((x * y).sum(1) - squared @ own, n * k - squared @ counts),
            "image_image": ((x * x).sum(1) - squared @ own_images, n * n - squared.sum(1)),
            "caption_caption": ((y * y).sum(1) - squared @ own_captions, k * k - squared @ counts**2),
        }
        found = {
            "centroid_distance": np.linalg.norm(x / n[:, None] - y / k[:, None], axis=1),
            "matched": (w @ own) / k,
        }
        for name, (total, pairs) in totals.items():
            found[name] = np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0)
        between, pairs = totals["caption_caption"]
        all_captions = (between + w @ siblings) / (pairs + w @ (counts**2 - counts))
        d_m = (1 - found["matched"]) / 2
        d_m = np.where(d_m > 0, d_m, ZERO_MATCHED_DISTANCE)
        found["relative_gap"] = d_m / (d_m + (2 - found["image_image"] - all_captions) / 4)
        yield found


@dataclass(frozen=True, slots=True, eq=False)
class Separability:
    """Result of a linear regression of the modality (images 0, captions 1) on held-out pairs.

    Attributes:
        pairs: Held-out pairs, as row numbers of the input, shape (t,), int64.
        squared_errors: Of each pair's image and caption, shape (t, 2).
        correct: Whether the predictions are on their modality's side of ½, shape (t, 2), bool.
        fitted_rows: Number of rows the regression was fitted to, two per pair.
        without_gap: Expected ``linear_separability`` of modalities that do not differ.
    """

    pairs: NDArray[np.int64]
    squared_errors: _Floats
    correct: NDArray[np.bool_]
    fitted_rows: int
    without_gap: float

    @property
    def linear_separability(self) -> float:
        """1 − mean squared error: 1 if the modalities separate; can be negative for small n/d."""
        return 1.0 - float(self.squared_errors.mean())

    @property
    def accuracy(self) -> float:
        """Share of held-out rows whose modality is predicted correctly; ½ by chance."""
        return float(self.correct.mean())


def separability(images: Vectors, captions: Vectors, *, seed: int = 0) -> Separability:
    """Measure how well a linear function separates images from captions (LS in An et al. 2025).

    Fits ordinary least squares with an intercept to 70% of the pairs and predicts the other 30%, with as many images
    as captions in both parts. The paper, which follows Fahim et al. 2024, gives neither
    labels nor split; labels of 0 and 1 fit its figures (with ±1, I0T_post's .54 would be −.85). The value depends on
    n/d: compare it only at equal n and d, and with ``without_gap``.

    Args:
        images: Unit embeddings (n, d).
        captions: Unit embeddings (m, d).
        seed: Seed of the split.

    Raises:
        InputError: Too few pairs to fit: 2 · 0.7 · n ≤ d + 2.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> found = separability(rng.normal(1, 1, (200, 4)), rng.normal(-1, 1, (200, 4)))
        >>> found.accuracy > 0.9, found.linear_separability > found.without_gap
        (True, True)
    """
    count, d = images.shape
    train, test = np.split(np.random.default_rng(seed).permutation(count), [int(TRAINED_SHARE * count)])
    n = 2 * len(train)
    if n <= d + 2 or not len(test):
        raise InputError(
            f"Linear separability needs more than {d + 2} rows to fit, but 70% of {count} pairs are only {n} rows."
        )
    labels = np.array([0.0, 1.0])
    x, y = (np.pad(v.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0) for v in (images, captions))
    solution = np.linalg.lstsq(np.concatenate([x[train], y[train]]), labels.repeat(len(train)), rcond=None)[0]
    predicted = np.stack([x[test] @ solution, y[test] @ solution], axis=1)
    correct = (predicted > 0.5) == (labels > 0.5)
    # The expected squared error on new rows, for n normal vectors independent of a label of variance ¼.
    without_gap = 1.0 - 0.25 * (n + 1) * (n - 2) / (n * (n - d - 2))
    return Separability(test, (predicted - labels) ** 2, correct, n, without_gap)


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One panel of a gap plot: a corpus under one standardizer.

    Attributes:
        images: Image embeddings projected to three directions and scaled to unit length, shape (k, 3).
        captions: Caption embeddings, projected likewise, shape (k, 3).
        share: Share of the embeddings' squared length in the three directions, in [0, 1].
        cosines: Cosines of the ``matched`` (k,), ``mismatched``, ``image_image`` and ``caption_caption`` pairs.
    """

    images: _Floats
    captions: _Floats
    share: float
    cosines: dict[str, _Floats]


def plot_panel(images: Vectors, captions: Vectors, image_of: NDArray[np.int64], *, seed: int = 0) -> Panel:
    """Sample at most 400 images with their first captions and project them to three dimensions.

    The directions are those with the largest mean square over images and captions together. The embeddings are not
    centered first, so the cones and the gap between them stay visible. ``seed`` is that of the sample.

    Raises:
        InputError: d < 3.
    """
    if images.shape[1] < 3:
        raise InputError(f"A gap plot needs embeddings of at least three dimensions, got {images.shape[1]}.")
    owners, first = np.unique(image_of, return_index=True)
    chosen = np.random.default_rng(seed).permutation(len(owners))[:PLOTTED_IMAGES]
    x, y = (v.astype(np.float64) for v in (images[owners[chosen]], captions[first[chosen]]))
    defined = ~(np.isnan(x).any(axis=1) | np.isnan(y).any(axis=1))
    x, y = x[defined], y[defined]
    both = np.concatenate([x, y])
    directions = np.linalg.eigh(both.T @ both)[1][:, :-4:-1]
    projected = both @ directions
    projected *= np.where(projected.sum(axis=0) < 0, -1.0, 1.0)  # the sign of an eigenvector is arbitrary
    share = float((projected**2).sum() / (both**2).sum())
    on_sphere = normalize(projected)
    upper, off_diagonal = np.triu_indices(len(x), 1), ~np.eye(len(x), dtype=bool)
    cosines = {
        "matched": dot(x, y),
        "mismatched": (x @ y.T)[off_diagonal],
        "image_image": (x @ x.T)[upper],
        "caption_caption": (y @ y.T)[upper],
    }
    return Panel(on_sphere[: len(x)], on_sphere[len(x) :], share, cosines)
