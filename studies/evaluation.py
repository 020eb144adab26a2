"""How well embeddings tell right pairs from wrong ones and agree with experts, and their gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import POST, GapStatistics, Moments, centroid_distance, dot
from i0tscore.results.correlation import correlation
from i0tscore.results.retrieval import recall
from i0tscore.samples.flickr8k import read_flickr8k_expert

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DevFigures:
    """What a pair of heads does on held-out photographs.

    Attributes:
        image_to_text: R@1 in percent by cosine; a photograph's five captions all count.
        text_to_image: R@1 in percent by cosine.
        image_to_text_post: The same under ``post`` with the training means.
        text_to_image_post: The same.
        gap: Centroid distance.
        gap_post: Centroid distance under ``post``.
    """

    image_to_text: float
    text_to_image: float
    image_to_text_post: float
    text_to_image_post: float
    gap: float
    gap_post: float

    @property
    def criterion(self) -> float:
        """Mean of the four retrieval figures: what seeds and recipes are chosen by."""
        recalls = (
            self.image_to_text,
            self.text_to_image,
            self.image_to_text_post,
            self.text_to_image_post,
        )
        return sum(recalls) / len(recalls)

    def to_dict(self) -> dict[str, float]:
        """Plain data, criterion included."""
        return {**asdict(self), "criterion": self.criterion}


def dev_figures(images: Vectors, captions: Vectors, image_mean: Moments, caption_mean: Moments) -> DevFigures:
    """Measure embeddings of held-out photographs (n, d) and captions (5n, d) with training means."""
    means = GapStatistics(image_mean.mean, caption_mean.mean)
    x, y = POST.apply(images, means, "image"), POST.apply(captions, means, "caption")
    raw, post = recall(images, captions, (1,)), recall(x, y, (1,))
    return DevFigures(
        image_to_text=raw[0][0],
        text_to_image=raw[1][0],
        image_to_text_post=post[0][0],
        text_to_image_post=post[1][0],
        gap=centroid_distance(images, captions),
        gap_post=centroid_distance(x, y),
    )


@dataclass(frozen=True, slots=True, eq=False)
class ExpertRatings:
    """Flickr8k-Expert (Hodosh et al. 2013) on Flickr8k's test photographs.

    Attributes:
        images: Row of each rated pair's photograph in the test split (m,).
        captions: Caption of each rated pair (m).
        item: The pair that each single rating is of (r,).
        rating: The ratings, not averaged, 1 to 4 (r,).
    """

    images: NDArray[np.int64]
    captions: tuple[str, ...]
    item: NDArray[np.int64]
    rating: NDArray[np.float64]

    def tau_c(self, images: NDArray[Any], captions: NDArray[Any]) -> float:
        """Kendall τ-c × 100 of the pairs' dot products, from embeddings (m, d) of both sides; maybe NaN."""
        value = correlation("tau_c", dot(images, captions)[self.item], self.rating)
        return np.nan if value is None else 100.0 * value


def expert_ratings(data: Path, photographs: Sequence[Path]) -> ExpertRatings:
    """Read the ratings from ``data``/flickr8k; rows are those of ``photographs``, the test split's."""
    ratings = read_flickr8k_expert(data / "flickr8k", look_up=False)
    row_of = {path.name: row for row, path in enumerate(photographs)}
    rows = [row_of[Path(str(sample.image)).name] for sample in ratings.samples]
    captions = tuple(sample.caption for sample in ratings.samples)
    return ExpertRatings(np.array(rows), captions, ratings.item, ratings.rating)
