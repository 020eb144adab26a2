"""The modality gap and the tasks of I0T's paper on Flickr8k, under every standardizer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from human_judgments.arguments import Arguments, script
from human_judgments.rating_sets import KNOWN_SETS
from human_judgments.report import Report
from i0tscore.errors import InputError
from i0tscore.metrics.metric import PREFIX
from i0tscore.samples.flickr8k import EXPERT_FILES, read_flickr8k_expert
from i0tscore.samples.ratings import RatingSet
from studies.classification import class_vectors
from studies.embedder import Embedder, open_embedder
from studies.flickr8k import CAPTIONS_PER_IMAGE, Split, read_split
from studies.flickr8k_classes import class_features
from studies.flickr8k_labels import AGREEING, CLASSES, OTHERS, TEMPLATES, labels_of
from studies.gap_conditions import (
    async_variants,
    conditions,
    held_out_statistics,
    pair_statistics,
    published_conditions,
)
from studies.gap_report import SIZES, Study, report
from studies.gap_study import Corpus, Labelled, Vectors
from studies.standardizer_study import encode_ratings

IN_SAMPLE = "the test set's own"
LITE = (
    "lite is trained on Flickr8k's training photographs with the contrastive loss: its figures are not "
    "zero-shot, and statistics of training pairs are of pairs the model has seen"
)
NOTES = (
    "the paper measures CLIP ViT-B/32, most often fine-tuned, on Flickr30k, CIFAR-100 and Birdsnap; other "
    "data are measured here, so that changes are compared by direction, not by size",
    f"classes: {len(CLASSES)}, read off the captions (i0tscore/training/flickr8k_labels.py): a photograph is "
    f"of a class that at least {AGREEING} of its captions name while no other is named by {OTHERS} or more. "
    f"{len(TEMPLATES)} templates a class, averaged, then normalised, then standardized as captions are. As "
    "in the paper's code, what is averaged is either of unit length (theirs for Birdsnap; class accuracy) or "
    "what the text tower puts out (theirs for CIFAR-100; class accuracy, features averaged)",
    "class accuracy is class-balanced, as theirs",
    "retrieval resamples queries; the gallery stays whole. Of equally similar items the wrong come first",
)


@script(
    "studies.gap",
    click.option(
        "--fit-on",
        type=click.Choice(["train", "dev"]),
        default="train",
        show_default=True,
        help="Split whose pairs the statistics come from.",
    ),
)
def main(arguments: Arguments, fit_on: Split) -> Report:
    """The gap, retrieval, classification and agreement with people under every standardizer."""
    if arguments.model is None:
        raise InputError("this study needs a model")
    folder, limit = arguments.folder(), arguments.limit
    expert = arguments.local_file(EXPERT_FILES, KNOWN_SETS["flickr8k_expert"].origin)
    if expert is None:
        raise InputError("this study needs the files of Flickr8k: give --data")
    ratings = read_flickr8k_expert(expert, arguments.images)
    with open_embedder(arguments.model) as embedder:
        corpus = _corpus(embedder, folder, ratings if limit is None else ratings.limited(limit), limit)
        pairs = _pairs(embedder, folder, fit_on, 1, limit)
    held_out = f"{len(pairs[0]):,} {fit_on} pairs"
    known = held_out_statistics(*pairs, held_out)
    own = pair_statistics(corpus.images, corpus.captions[:: corpus.each], IN_SAMPLE)
    tried = [*conditions(known), *published_conditions(own)]
    fingerprint = embedder.fingerprint
    name = f"gap-{arguments.label.replace('/', '--')}"
    return report(
        Study(
            stem=name if limit is None else f"{name}-first-{limit}",
            title=f"The modality gap on Flickr8k and what removing it does, model {arguments.label}",
            introduction=_introduction(arguments, corpus, held_out),
            corpus=corpus,
            conditions=tried,
            ablation=list(async_variants(known, *pairs)),
            condition_of={str(c.standardizer): c.name for c in tried},
            pairs=pairs,
            sizes=sorted({*(size for size in SIZES if size < len(pairs[0])), len(pairs[0])}),
            notes=[
                *[LITE] * (arguments.label == "lite"),
                *NOTES,
                f"encoder {', '.join(asdict(fingerprint).values())}; prefix {PREFIX!r}",
            ],
            signature=asdict(fingerprint),
        ),
        arguments,
    )


def _pairs(embedder: Embedder, folder: Path, split: Split, each: int, limit: int | None) -> tuple[Vectors, Vectors]:
    """Embeddings of a split's first images (n, d) and of ``each`` of their captions (each·n, d)."""
    read = read_split(folder, split)
    images = read.images[:limit]
    starts = range(0, CAPTIONS_PER_IMAGE * len(images), CAPTIONS_PER_IMAGE)
    seen = embedder.images(images)
    said = embedder.captions([caption for i in starts for caption in read.captions[i : i + each]])
    return seen.vectors[seen.index], said.vectors[said.index]


def _corpus(embedder: Embedder, folder: Path, ratings: RatingSet, limit: int | None) -> Corpus:
    """Flickr8k's test split with its captions, classes and ratings."""
    images, captions = _pairs(embedder, folder, "test", CAPTIONS_PER_IMAGE, limit)
    texts = read_split(folder, "test").captions
    labels = labels_of(texts[: CAPTIONS_PER_IMAGE * len(images)])
    rows = np.array([row for row, label in enumerate(labels) if label is not None], dtype=np.int64)
    places = {name: place for place, name in enumerate(CLASSES)}
    features = class_features(embedder)
    own = np.array([places[labels[row] or ""] for row in rows])
    labelled = Labelled(images[rows], own, class_vectors(features, "directions"), class_vectors(features, "features"))
    rated = encode_ratings(embedder, ratings)
    return Corpus(images, captions, labelled if len(rows) else None, (rated, ratings))


def _introduction(arguments: Arguments, corpus: Corpus, held_out: str) -> str:
    labelled = 0 if corpus.labelled is None else len(corpus.labelled.images)
    ratings = 0 if corpus.rated is None else len(corpus.rated[1].rating)
    return (
        f"Flickr8k, test split: {len(corpus.images):,} photographs with {corpus.each} captions each, "
        f"{labelled} of them with a class, and {ratings:,} expert ratings; model {arguments.label}. "
        f"Statistics come from {held_out}, photographs with their first caption, unless it says otherwise: "
        "held out, other photographs of the same kind."
    )


if __name__ == "__main__":
    main()
