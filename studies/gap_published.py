"""Figures of An et al. 2025 on the modality gap and what follows from it: theirs, not measured here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

STAGE_1 = "CLIP ViT-B/32 fine-tuned on COCO with long captions (LCCOM)"
CLIP = "CLIP ViT-B/32"
RN50 = "CLIP RN50"
CONDITIONS = (
    "Centroid distance, LS and R@1 on Flickr30k's 1,000 test images with one caption each; class-balanced "
    "accuracy on CIFAR-100; Kendall τ × 100 on Flickr8k-Expert, which τ is not said, most likely τ-b of "
    "scores clipped at 0. Means of I0T_post over the test set itself (in-sample). No intervals are published."
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of their tables.

    Attributes:
        name: As they call it.
        table: Where it stands.
        model: What was changed.
        centroid_distance: CD.
        linear_separability: LS, 1 − MSE.
        to_caption: R@1 from image to caption in percent, one caption an image.
        to_image: R@1 from caption to image in percent.
        accuracy: On CIFAR-100 in percent.
        expert: τ × 100 on Flickr8k-Expert.
    """

    name: str
    table: str
    model: str
    centroid_distance: float
    linear_separability: float
    to_caption: float
    to_image: float
    accuracy: float | None = None
    expert: float | None = None


ROWS = (
    Row("LCCOM", "1", STAGE_1, 0.9682, 0.9998, 73.70, 74.60, 64.17, 54.55),
    Row("LCCOM + LN*", "1", STAGE_1, 0.9696, 0.9998, 73.60, 74.10, 64.36, 54.52),
    Row("I0T_async", "1, 2", STAGE_1, 0.4795, 0.9960, 72.50, 73.80, 62.97, 53.33),
    Row("I0T_async without MCSIE", "8", STAGE_1, 0.442, 0.999, 70.9, 72.3),
    Row("I0T_post", "2", STAGE_1, 0.0102, 0.5374, 73.30, 76.30, 63.07, 53.97),
    Row("CLIP", "2", CLIP, 0.7642, 0.9985, 69.60, 67.10, 65.05, 51.00),
    Row("MG λ=.375", "2", CLIP, 0.0291, 0.5632, 45.40, 54.40, 43.26, 42.84),
    Row("MG λ=.5", "2", CLIP, 0.2493, 0.9858, 38.10, 46.50, 44.13, 39.70),
    Row("MG λ=−.5", "2", CLIP, 1.3799, 0.9998, 45.20, 54.40, 9.52),
    Row("CLIP RN50", "9", RN50, 0.7647, 0.9964, 71.30, 67.20),
    Row("CLIP RN50 + post", "9", RN50, 0.0097, -1.8497, 68.00, 70.30),
)
"""Tables 1, 2, 8 and 9."""

SAMPLE_SIZES = {
    32: (0.1880, 70.30, 73.00),
    64: (0.1387, 71.50, 73.30),
    128: (0.0986, 71.90, 73.90),
    256: (0.0710, 72.30, 73.70),
    512: (0.0542, 72.00, 74.00),
    1000: (0.0102, 73.30, 76.30),
}
"""Table 3: pairs behind the means of I0T_post; centroid distance, R@1 to captions, R@1 to images. The
1,000 are the test set itself."""

TASKS = ("to_caption", "to_image", "accuracy", "expert")


@dataclass(frozen=True, slots=True)
class Change:
    """What a standardizer changed, by their tables, in points.

    Attributes:
        standardizer: Its name here.
        after: With it.
        before: The same model without.
    """

    standardizer: str
    after: Row
    before: Row

    @property
    def said(self) -> str:
        """Both rows by name."""
        return f"{self.after.name} − {self.before.name}"

    def points(self) -> Iterator[tuple[str, float]]:
        """The change of each task that both rows have, by name of ``TASKS``."""
        for field in fields(Row):
            after, before = getattr(self.after, field.name), getattr(self.before, field.name)
            if field.name in TASKS and after is not None and before is not None:
                yield field.name, round(after - before, 2)


_BY_NAME = {row.name: row for row in ROWS}
CHANGES = tuple(
    Change(standardizer, _BY_NAME[after], _BY_NAME[before])
    for standardizer, after, before in (
        ("post", "I0T_post", "LCCOM"),
        ("post", "CLIP RN50 + post", "CLIP RN50"),
        ("async", "I0T_async", "LCCOM"),
        ("shift(0.375)", "MG λ=.375", "CLIP"),
        ("shift(0.5)", "MG λ=.5", "CLIP"),
        ("shift(-0.5)", "MG λ=−.5", "CLIP"),
    )
)
"""What can be tried here too."""
