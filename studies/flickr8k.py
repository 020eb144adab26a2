"""Flickr8k: splits, expert ratings, and classes read off the captions.

An image belongs to a class if at least ``AGREEING`` of its five captions name the class and no other class is named
by ``OTHERS`` or more; most images belong to none. People are no class, since they are in nearly every image without a
dog. Labeled images by split:

================================  =====  ====  =====
class                             train   dev   test
================================  =====  ====  =====
a dog                              1344   208    197
a bicycle                           204    45     29
a motorcycle                         64     9     16
a skateboard                        139    24     16
skiing, snowboarding or sledding    132    20     25
surfing or wakeboarding              57     6     14
soccer                               73    10     10
American football                    64     8     11
basketball                           50     9     15
a pool                               79    13     12
rock climbing                       116    16     21
a boat                               79    18     12
a beach                             104    23     23
a car                                70    11      9
none                               3425   580    590
================================  =====  ====  =====

The labels are what people wrote, not what is visible: an image whose captions do not mention a dog has no dog. Nobody
has checked them by eye.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap import dot
from i0tscore.results.correlation import correlation
from i0tscore.samples.flickr8k import read_flickr8k_expert

if TYPE_CHECKING:
    from studies.embedder import Embedder

Split = Literal["train", "dev", "test"]
CAPTIONS_PER_IMAGE = 5

AGREEING = 3
OTHERS = 2
CLASSES = {
    "a dog": r"dogs?|pupp(y|ies)|greyhounds?",
    "a bicycle": r"(?<!dirt )(?<!motor )(bikes?|bikers?|biking)|bicycl\w+|cyclists?|bmx",
    "a motorcycle": r"motorcycl\w+|motorbik\w+|motocross|(dirt|motor) ?bik\w+",
    "a skateboard": r"skateboard\w*|skaters?",
    "skiing, snowboarding or sledding": r"ski|skis|skiers?|skiing|snowboard\w*|sleds?|sledding",
    "surfing or wakeboarding": r"surf\w*|wakeboard\w*",
    "soccer": r"soccer",
    "American football": r"football",
    "basketball": r"basketball",
    "a pool": r"pools?",
    "rock climbing": r"climb\w*|rappel\w*",
    "a boat": r"boats?|kayak\w*|canoe\w*|raft\w*|sailboats?",
    "a beach": r"beach|ocean",
    "a car": r"cars?(?! seat)|trucks?",
}
"""Pattern of the words that name a class, by its name within a sentence."""
TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a scene with {}", "a close-up of {}")
"""Prompts for zero-shot classification."""

CLASSES_NOTE = (
    f"classes: {len(CLASSES)}, read off the captions (studies/flickr8k.py): an image belongs to a class that at least "
    f"{AGREEING} of its captions name if no other class is named by {OTHERS} or more; {len(TEMPLATES)} templates per "
    "class, averaged"
)
"""Note for reports that use the classes."""

_PATTERNS = {name: re.compile(rf"\b({words})\b", re.IGNORECASE) for name, words in CLASSES.items()}


class Flickr8kSplit(NamedTuple):
    """One split, in the order of its list of names.

    Attributes:
        images: Paths of the images (n).
        captions: Captions, five per image in turn (5n).
    """

    images: tuple[Path, ...]
    captions: tuple[str, ...]


def read_split(data: Path, split: Split) -> Flickr8kSplit:
    """Read a split of Flickr8k.

    Args:
        data: Folder that holds ``flickr8k/`` with the list of names, ``Flickr8k.token.txt`` and ``images_224/``.
        split: Name of the split.

    Raises:
        InputError: A file is missing, or an image does not have five captions.
    """
    folder = data / "flickr8k"
    names = _lines(folder / f"Flickr_8k.{split}Images.txt")
    by_image: dict[str, list[str]] = {}
    for line in _lines(folder / "Flickr8k.token.txt"):
        key, _, caption = line.partition("\t")
        by_image.setdefault(key.rpartition("#")[0], []).append(caption.strip())
    for name in names:
        if (count := len(by_image.get(name, ()))) != CAPTIONS_PER_IMAGE:
            raise InputError(
                f"{folder}: expected {CAPTIONS_PER_IMAGE} captions of {name}, got {count}. Download the files again."
            )
    captions = tuple(caption for name in names for caption in by_image[name])
    return Flickr8kSplit(tuple(folder / "images_224" / name for name in names), captions)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Try --data with the folder that holds flickr8k/.") from None


def label_of(captions: Sequence[str]) -> str | None:
    """Return the class of an image with these captions, or None.

    Example:
        >>> label_of(["A dog runs.", "The brown dog.", "Dogs play.", "An animal.", "It rides in a car."])
        'a dog'
        >>> label_of(["A dog in a car.", "The car has a dog.", "A dog.", "A pet.", "A pet."]) is None
        True
    """
    named = {name: sum(bool(pattern.search(caption)) for caption in captions) for name, pattern in _PATTERNS.items()}
    most = max(named, key=lambda name: named[name])
    alone = all(count < OTHERS for name, count in named.items() if name != most)
    return most if alone and named[most] >= AGREEING else None


def labels_of(captions: Sequence[str]) -> list[str | None]:
    """Return the class of each image, or None, from five captions per image in turn."""
    starts = range(0, len(captions), CAPTIONS_PER_IMAGE)
    return [label_of(captions[start : start + CAPTIONS_PER_IMAGE]) for start in starts]


def labeled_rows(captions: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the images that have a class (l,), and the position of each one's class in ``CLASSES`` (l,).

    Args:
        captions: Captions, five per image in turn.
    """
    position = {name: i for i, name in enumerate(CLASSES)}
    found = [(row, position[label]) for row, label in enumerate(labels_of(captions)) if label is not None]
    rows, labels = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return rows, labels


def class_features(embedder: Embedder) -> NDArray[np.float32]:
    """Return the text features of each class in every template (c, t, d), not normalized."""
    prompts = [template.format(name) for name in CLASSES for template in TEMPLATES]
    return embedder.text_features(prompts).reshape(len(CLASSES), len(TEMPLATES), -1)


class ExpertRatings(NamedTuple):
    """Flickr8k-Expert (Hodosh et al. 2013) on Flickr8k's test images.

    Attributes:
        images: Row of each rated pair's image in the test split (m,).
        captions: Caption of each rated pair (m).
        item: Rated pair of each single rating (r,).
        rating: Ratings, not averaged, 1 to 4 (r,).
    """

    images: NDArray[np.int64]
    captions: tuple[str, ...]
    item: NDArray[np.int64]
    rating: NDArray[np.float64]

    def tau_c(self, images: NDArray[Any], captions: NDArray[Any]) -> float:
        """Return Kendall's τ-c × 100 of the dot products of both sides' embeddings (m, d); NaN if undefined."""
        value = correlation("tau_c", dot(images, captions)[self.item], self.rating)
        return np.nan if value is None else 100.0 * value


def expert_ratings(data: Path, images: Sequence[Path]) -> ExpertRatings:
    """Read the expert ratings from ``data``/flickr8k.

    Args:
        data: As for ``read_split``.
        images: Images of the test split, whose rows the ratings refer to.
    """
    ratings = read_flickr8k_expert(data / "flickr8k", look_up=False)
    row_of = {path.name: row for row, path in enumerate(images)}
    rows = [row_of[Path(str(sample.image)).name] for sample in ratings.samples]
    captions = tuple(sample.caption for sample in ratings.samples)
    return ExpertRatings(np.array(rows), captions, ratings.item, ratings.rating)
