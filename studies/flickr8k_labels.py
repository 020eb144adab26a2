"""Flickr8k photographs with classes that are read off their captions.

A photograph is of a class if at least ``AGREEING`` of its five captions name it and no other class is
named by ``OTHERS`` or more; most photographs are of none. People are no class, since they are in nearly
every photograph without a dog. Photographs labelled, by split:

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

The labels are what people wrote down, not what can be seen: a photograph whose writers passed over a dog
has no dog. Nobody has checked them by eye.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from studies.flickr8k import CAPTIONS_PER_IMAGE, Split, read_split

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
"""By name, as it stands in a sentence, what names the class in a caption: whole words, in any case."""
TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a scene with {}", "a close-up of {}")
"""Sentences that a class's name is put into for zero-shot classification."""

_PATTERNS = {name: re.compile(rf"\b({words})\b", re.IGNORECASE) for name, words in CLASSES.items()}


def label_of(captions: Sequence[str]) -> str | None:
    """The class of a photograph with these captions, or None.

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
    """The class of each photograph or None, from five captions of each in turn."""
    starts = range(0, len(captions), CAPTIONS_PER_IMAGE)
    return [label_of(captions[start : start + CAPTIONS_PER_IMAGE]) for start in starts]


def flickr8k_labels(data: Path, split: Split) -> tuple[tuple[Path, ...], tuple[str | None, ...]]:
    """The photographs of a split, as ``read_split`` has them, and the class of each or None.

    Args:
        data: As for ``read_split``.
        split: Which one.

    Raises:
        InputError: A file is missing.
    """
    read = read_split(data, split)
    return read.images, tuple(labels_of(read.captions))
