"""What the report on inversion is measured on: Flickr8k's test split, and both its sides inverted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from human_judgments.arguments import Arguments
from human_judgments.rating_sets import KNOWN_SETS
from i0tscore.errors import InputError
from i0tscore.gap import Statistics
from i0tscore.inversion import Inverted
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import fixed_statistics
from i0tscore.samples.flickr8k import EXPERT_FILES, read_flickr8k_expert
from i0tscore.samples.ratings import RatingSet
from studies.classification import class_vectors
from studies.embedder import Embedder
from studies.flickr8k import CAPTIONS_PER_IMAGE, read_split
from studies.flickr8k_classes import class_features
from studies.flickr8k_labels import CLASSES, labels_of
from studies.gap_conditions import pair_statistics

Vectors = NDArray[np.float32]

CURVE = (0, 17, 50, 150, 500)
"""Numbers of updates that are looked at, besides the last; 17 is where the paper's R = 4 is best."""
TIMED = 64
"""Items whose inversion is timed: one batch."""
FEWEST = 2
"""Photographs with a class."""
OWN = "the measured photographs and captions themselves"


@dataclass(frozen=True, slots=True, eq=False)
class Rated:
    """Captions that people rated.

    Attributes:
        captions: Of each rated item (m, d).
        photographs: Row of its photograph in ``Material.images`` (m,).
        ratings: Which item each rating is of, and of which photograph.
    """

    captions: Vectors
    photographs: NDArray[np.int64]
    ratings: RatingSet


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Unit embeddings of photographs, and what is known of them.

    Attributes:
        names: File names of the n photographs.
        images: Shape (n, d).
        captions: Shape (5n, d), five of each photograph in turn, with the prefix.
        labelled: Rows of the photographs that have a class (l,).
        labels: Row of each one's class (l,).
        classes: One vector a class (c, d).
        rated: Rated captions; their references are the photographs' captions.
        statistics: For ``post``.
    """

    names: tuple[str, ...]
    images: Vectors
    captions: Vectors
    labelled: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: Vectors
    rated: Rated
    statistics: Statistics

    @property
    def photographs(self) -> NDArray[np.int64]:
        """Row of each caption's photograph (5n,)."""
        return np.repeat(np.arange(len(self.images)), CAPTIONS_PER_IMAGE)

    @property
    def caption_ids(self) -> list[str]:
        """Id of each caption, as Flickr8k has them."""
        return [f"{name}#{k}" for name in self.names for k in range(CAPTIONS_PER_IMAGE)]


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """One side inverted, looked at after several numbers of updates.

    Attributes:
        method: ``OTI`` or ``OVI``.
        points: The inverted features (n, d) by number of updates; the start is not among them.
        cosines: Of each with what was inverted (n,), by number of updates, the start (0) among them.
        inputs: Pseudo-tokens R or pseudo-patches P.
        seconds: Processor time of an item, from ``TIMED`` of them inverted for that alone.
        signature: How it was done.
    """

    method: str
    points: dict[int, Vectors]
    cosines: dict[int, NDArray[np.float32]]
    inputs: int
    seconds: float
    signature: str

    @property
    def last(self) -> int:
        """How many updates were done."""
        return max(self.points)

    def cosine(self, updates: int) -> float:
        """Mean cosine reached after so many updates."""
        return float(self.cosines[updates].mean())

    def part(self, rows: NDArray[np.int64]) -> Crossed:
        """Some of the items."""
        points, cosines = (
            {updates: values[rows] for updates, values in of.items()} for of in (self.points, self.cosines)
        )
        return replace(self, points=points, cosines=cosines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the vectors."""
        return {
            "n": len(self.points[self.last]),
            "inputs": self.inputs,
            "updates": self.last,
            "cosine": {str(updates): self.cosine(updates) for updates in self.cosines},
            "processor_seconds_an_item": self.seconds,
            "signature": self.signature,
        }


def cross(
    invert: Callable[..., Inverted],
    vectors: Vectors,
    ids: Sequence[str],
    *,
    updates: int,
    folder: Path | None,
) -> Crossed:
    """Invert embeddings and keep what they were after several numbers of updates.

    Args:
        invert: ``invert_images`` or ``invert_captions`` with its encoder.
        vectors: What is inverted (n, d).
        ids: One for each (n,).
        updates: How many.
        folder: Where finished batches are kept and looked for, or None.
    """
    curve = (*(step for step in CURVE if step < updates), updates)
    found = invert(vectors, ids=list(ids), steps=updates, eval_steps=curve, resume=folder)
    # Timed apart: batches may have been finished by another run.
    start = time.process_time()
    invert(vectors[:TIMED], steps=updates)
    seconds = (time.process_time() - start) / len(vectors[:TIMED])
    return Crossed(
        found.config.method.upper(),
        {step: found.eval_vectors[:, place] for place, step in enumerate(curve) if step},
        {step: 1 - found.eval_losses[:, place] for place, step in enumerate(curve)},
        found.config.inputs,
        seconds,
        found.config.signature,
    )


def read_material(embedder: Embedder, arguments: Arguments, count: int | None) -> Material:
    """Read and embed Flickr8k's test split.

    Args:
        embedder: What embeds.
        arguments: Where the data are, and which statistics to use.
        count: How many photographs; None for all. Nothing is used of the others.

    Raises:
        InputError: A file is missing, references are not their photograph's captions, or hardly any
            photograph has a class.
    """
    split = read_split(arguments.folder(), "test")
    photographs = split.images[:count]
    names, texts = (
        tuple(path.name for path in photographs),
        split.captions[: CAPTIONS_PER_IMAGE * len(photographs)],
    )
    seen, said = embedder.images(photographs), embedder.captions(texts)
    images, captions = seen.vectors[seen.index], said.vectors[said.index]
    found = labels_of(texts)
    places = {name: place for place, name in enumerate(CLASSES)}
    labelled = np.array([row for row, label in enumerate(found) if label], dtype=np.int64)
    if len(labelled) < FEWEST:
        raise InputError(f"only {len(labelled)} of {len(names)} photographs have a class: take more of them")
    statistics = fixed_statistics(arguments.statistics, embedder.fingerprint, PREFIX)
    return Material(
        names,
        images,
        captions,
        labelled,
        np.array([places[found[row] or ""] for row in labelled], dtype=np.int64),
        class_vectors(class_features(embedder)),
        _rated(embedder, arguments, names, texts),
        statistics or pair_statistics(images, captions, OWN),
    )


def _rated(embedder: Embedder, arguments: Arguments, names: Sequence[str], texts: Sequence[str]) -> Rated:
    """The expert ratings of these photographs, whose references are these texts."""
    file = arguments.local_file(EXPERT_FILES, KNOWN_SETS["flickr8k_expert"].origin)
    if file is None:
        raise InputError("this study needs the files of Flickr8k: give --data")
    whole = read_flickr8k_expert(file, arguments.images)
    rows = {name: row for row, name in enumerate(names)}
    ratings = whole.only(np.array([sample.image.name in rows for sample in whole.samples])[whole.item])
    if not ratings.n:
        raise InputError(f"{file}: no rating is of one of the {len(names)} photographs: take more of them")
    photographs = np.array([rows[sample.image.name] for sample in ratings.samples])
    for row, sample in zip(photographs.tolist(), ratings.samples, strict=True):
        own = texts[CAPTIONS_PER_IMAGE * row : CAPTIONS_PER_IMAGE * (row + 1)]
        if sorted(sample.references) != sorted(own):
            raise InputError(f"{file}: the references of {names[row]} are not its captions: get the files anew")
    captions = embedder.captions([sample.caption for sample in ratings.samples])
    return Rated(captions.vectors[captions.index], photographs, ratings)
