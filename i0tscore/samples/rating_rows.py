"""From ratings as they are written to a rating set: every value checked, every problem listed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from i0tscore.samples.assemble import checked_references
from i0tscore.samples.images import ImageFolder, image_source, without_suffix
from i0tscore.samples.ratings import Labels, RatingSet
from i0tscore.samples.rows import (
    Diagnostics,
    Location,
    UnusableError,
    checked_number,
    checked_text,
    preview,
    quote,
)
from i0tscore.samples.sample import ImageSource, Sample


@dataclass(frozen=True, slots=True)
class RatingScale:
    """What a rating may be.

    Attributes:
        low: Least rating.
        high: Greatest rating.
        whole: Whether only whole numbers are ratings; anything between them is an average.
        words: Ratings by what is written in their stead, in small letters.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    words: Mapping[str, float] = field(default_factory=dict)

    def read(self, written: object) -> float:
        """Return the rating, or raise ``UnusableError``."""
        if isinstance(written, str) and self.words:
            if (word := " ".join(written.split()).lower()) in self.words:
                return self.words[word]
            raise UnusableError(f"the rating {quote(written)} is none of {preview(self.words, 8)}: correct it")
        number = checked_number(written, "the rating")
        if not self.low <= number <= self.high:
            raise UnusableError(f"the rating {number:g} is outside {self.low:g} to {self.high:g}: correct or remove it")
        if self.whole and number != round(number):
            raise UnusableError(f"the rating {number:g} is an average: this set has each rating by itself")
        return number


@dataclass(frozen=True, slots=True)
class Rated:
    """One rating as it is written, its values unchecked.

    Attributes:
        place: Where it stands.
        image: Name, path or source of the image.
        caption: The rated caption.
        rating: The rating.
        references: Human captions of the image; None where there are none.
        cluster: Identity of the image; its name if None.
        rater: Who rated; None where that is not told.
        group: What the caption is compared within; None where that is not told.
        category: Part of the set; None where there are none.
        system: What wrote the caption; None where that is not told.
    """

    place: Location
    image: object
    caption: object
    rating: object
    references: object = None
    cluster: str | None = None
    rater: object = None
    group: str | None = None
    category: object = None
    system: object = None


class RatingAssembler:
    """Makes a rating set of rows; whatever is wrong goes to the diagnostics.

    Args:
        folder: The images' folder; None to take their names without looking for the files.
        diagnostics: Takes the problems.
        scale: What a rating may be.
        once: Whether each image and caption may have one rating only.
    """

    def __init__(
        self, folder: ImageFolder | None, diagnostics: Diagnostics, scale: RatingScale, *, once: bool = False
    ) -> None:
        self._folder = folder
        self._diagnostics = diagnostics
        self._scale = scale
        self._once = once
        self._images: dict[str, ImageSource | UnusableError] = {}
        self._items: dict[tuple[str, str | None, str], int] = {}
        self._samples: list[Sample] = []
        self._seen: dict[tuple[int, object], Location] = {}
        self._rows: list[tuple[int, float, str, Rated]] = []

    def assemble(
        self, path: Path, name: str, rows: Sequence[Rated], counts: Mapping[str, int] | None = None
    ) -> RatingSet:
        """Make the set, or raise ``SampleFileError`` with every problem.

        Args:
            path: The file, for the message.
            name: Of the set.
            rows: In the order of the file.
            counts: What else was counted.
        """
        for row in rows:
            self._add(row)
        self._diagnostics.finish(path, self._samples, skip=False)
        clusters = tuple(cluster for _, _, cluster, _ in self._rows)
        if self._folder is None and any(isinstance(sample.image, Path) for sample in self._samples):
            self._diagnostics.notes.append("images are named but were not looked for")
        return RatingSet(
            name,
            tuple(self._samples),
            np.array([item for item, _, _, _ in self._rows], dtype=np.int64),
            np.array([rating for _, rating, _, _ in self._rows]),
            clusters,
            self._labels("rater"),
            self._labels("group"),
            self._labels("category"),
            self._labels("system"),
            {
                **(counts or {}),
                "items": len(self._samples),
                "ratings": len(clusters),
                "images": len(set(clusters)),
            },
            tuple(self._diagnostics.notes),
        )

    def _labels(self, attribute: str) -> Labels | None:
        written = [getattr(row, attribute) for _, _, _, row in self._rows]
        if all(label is None for label in written):
            return None
        return tuple("" if label is None else str(label) for label in written)

    def _add(self, row: Rated) -> None:
        tried, place = self._diagnostics.check, row.place
        image = tried(place, self._image, row.image)
        caption = tried(place, checked_text, row.caption, "the caption")
        rating = tried(place, self._scale.read, row.rating)
        references = tried(place, checked_references, row.references)
        if image is None or caption is None or rating is None or references is None:
            return
        cluster = row.cluster or image.name
        item = self._items.setdefault((cluster, row.group, caption), len(self._samples))
        if item == len(self._samples):
            self._samples.append(Sample(without_suffix(image.name), image, caption, references))
        if not self._repeated(item, row):
            self._rows.append((item, rating, cluster, row))

    def _repeated(self, item: int, row: Rated) -> bool:
        """Whether this rating was read before; where raters are not told, several may be alike."""
        if row.rater is None and not self._once:
            return False
        before = self._seen.setdefault((item, row.rater), row.place)
        if before is row.place:
            return False
        whose = "this image and caption" if row.rater is None else f"rater {quote(row.rater)}'s of this caption"
        self._diagnostics.row_error(row.place, f"a rating of {whose} stands at {before.label} already: remove one")
        return True

    def _image(self, written: object) -> ImageSource:
        if written is None:
            raise UnusableError("the image is missing: name it")
        return image_source(written, self._found)

    def _found(self, name: str) -> ImageSource:
        if name not in self._images:
            try:
                self._images[name] = Path(name) if self._folder is None else find_image(self._folder, name)
            except UnusableError as problem:
                self._images[name] = problem
        found = self._images[name]
        if isinstance(found, UnusableError):
            raise UnusableError(str(found))
        return found


def find_image(folder: ImageFolder, name: str) -> Path:
    """The image of a path as rating files have them: as it is written, or its last part in the folder."""
    try:
        return folder.find(name)
    except UnusableError:
        last = name.replace("\\", "/").rpartition("/")[2]
        if last in ("", name):
            raise
        return folder.find(last)
