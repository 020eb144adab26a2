"""Whether the words nearest to an image name what people say about it, as an explanation by concepts would need.

Run ``python -m studies.concepts``.

The vocabulary consists of the words of at least three letters that occur in the captions of the most training images of
Flickr8k, without ``FUNCTION_WORDS``. The words nearest to an image of the test split are compared with those of its
five captions, and with the same most frequent words for every image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from human_judgments.report import Data, Page, bullets, command_block, dot_plot, intervals_note, percent
from human_judgments.script import Arguments, script
from i0tscore.cli.options import make_scorer
from i0tscore.render.document import Table
from studies.embedder import encoder_note
from studies.explanations import FUNCTION_WORDS, LITE
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit, read_split
from studies.misalignment_report import mean_of

SCHEMA = "i0tscore.concepts/1"
SIZE = 1500
TOP = (5, 10)
METRICS = ("I0TScore", "CLIPScore(clip=no)")
FREQUENT = "most frequent words"


def words_of(split: Flickr8kSplit, row: int) -> set[str]:
    """Return the words of the captions of an image, without function words."""
    captions = split.captions[CAPTIONS_PER_IMAGE * row : CAPTIONS_PER_IMAGE * (row + 1)]
    return {word for caption in captions for word in re.findall("[a-z]{3,}", caption.lower())} - FUNCTION_WORDS


def make_vocabulary(split: Flickr8kSplit) -> list[str]:
    """Return the words that the captions of most images use, the most frequent first."""
    counts = Counter(word for row in range(len(split.images)) for word in sorted(words_of(split, row)))
    return [word for word, _ in counts.most_common(SIZE)]


def precision(order: NDArray[np.int64], said: Sequence[set[int]], top: int) -> NDArray[np.float64]:
    """Return the share of the first ``top`` words that occur in the captions of each image.

    Args:
        order: Words of each image, the nearest first (n, words).
        said: Words that occur in the captions of each image (n).
        top: Number of words, at least 1.

    Returns:
        Shares in [0, 1], shape (n,).

    Example:
        >>> precision(np.array([[2, 0, 1]]), [{0, 1}], 2)
        array([0.5])
    """
    return np.array([len(own.intersection(words[:top])) / top for words, own in zip(order.tolist(), said, strict=True)])


def render(data: Data) -> Page:
    """Render the report."""
    rows = [
        [name, *(percent(row[f"at_{top}"]) for top in TOP), *(percent(row[f"gain_{top}"], signed=True) for top in TOP)]
        for name, row in data["methods"].items()
    ]
    blocks: list[str | Table] = [
        f"This report measures whether the words nearest to an image, of a vocabulary of {data['words']:,} words, are "
        f"words that people use for it, with the model {data['model']['name']} on {data['n']:,} images of Flickr8k's "
        f"test split. {command_block(data)}",
        intervals_note(data, "images"),
        "The table shows the percentage of the 5 or 10 nearest words that occur in the five captions of the image "
        "(precision), and the difference from taking the same most frequent words for every image. By chance, "
        f"{100 * data['chance']:.1f} percent of the words occur.",
        Table(["words", *(f"P@{top}" for top in TOP), *(f"P@{top} − frequent words" for top in TOP)], rows),
        f"The {len(data['frequent'])} most frequent words are {', '.join(data['frequent'])}.",
        f"## Conditions\n\n{bullets(data['notes'])}",
    ]
    shares = {f"{name}, P@{top}": row[f"at_{top}"] for name, row in data["methods"].items() for top in TOP}
    return Page(f"Concepts, model {data['model']['name']}", blocks, dot_plot("Precision of words", "%", shares))


@script("studies.concepts", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Precision of the words nearest to an image against the words of its captions."""
    model, resampling = arguments.required_model(), arguments.resampling
    vocabulary = make_vocabulary(read_split(arguments.folder(), "train"))
    split = read_split(arguments.folder(), "test")
    images = list(split.images)[: arguments.limit or None]
    position = {word: number for number, word in enumerate(vocabulary)}
    said = [{position[word] for word in words_of(split, row) if word in position} for row in range(len(images))]
    scorer = make_scorer(model, "raise", resamples=0)
    orders = {name: np.argsort(-scorer.similarity(images, vocabulary, metric=name), axis=1) for name in METRICS}
    orders[FREQUENT] = np.tile(np.arange(len(vocabulary)), (len(images), 1))
    hits = {name: {top: precision(order, said, top) for top in TOP} for name, order in orders.items()}
    methods: dict[str, dict[str, Any]] = {}
    for name, own in hits.items():
        methods[name] = {f"at_{top}": mean_of(own[top], resampling) for top in TOP}
        for top in TOP:
            gain = None if name == FREQUENT else mean_of(own[top] - hits[FREQUENT][top], resampling)
            methods[name][f"gain_{top}"] = gain
    fingerprint = scorer.encoder.fingerprint
    return arguments.stem("concepts"), {
        "schema": SCHEMA,
        "command": arguments.command,
        "model": asdict(fingerprint),
        "resampling": asdict(resampling),
        "n": len(images),
        "words": len(vocabulary),
        "chance": float(np.mean([len(own) for own in said]) / len(vocabulary)),
        "methods": methods,
        "frequent": vocabulary[: max(TOP)],
        "notes": [
            encoder_note(fingerprint),
            *[LITE] * (arguments.label == "lite"),
        ],
    }


if __name__ == "__main__":
    main()
