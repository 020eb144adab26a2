"""How well embeddings tell right pairs from wrong ones: retrieval, AUC, and the gap."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import POST, Moments, Reference, centroid_distance
from i0tscore.results.retrieval import recall

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
    means = Reference(image_mean.mean, caption_mean.mean)
    x, y = POST.images(images, means), POST.captions(captions, means)
    raw, post = recall(images, captions, (1,)), recall(x, y, (1,))
    return DevFigures(
        image_to_text=raw[0][0],
        text_to_image=raw[1][0],
        image_to_text_post=post[0][0],
        text_to_image_post=post[1][0],
        gap=centroid_distance(images, captions),
        gap_post=centroid_distance(x, y),
    )
