"""Scores of a rating set under every standardizer, and how well they agree with its ratings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap import (
    NONE,
    POST,
    Moments,
    Standardizer,
    Statistics,
    all_standardizers,
    centroid_distance,
    dot,
)
from i0tscore.metrics.functional import combine_references, max_similarity
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.results import Resampling
from i0tscore.results.correlation import agreement, compare_agreement, correlation
from i0tscore.results.intervals import Difference, Estimate
from i0tscore.results.retrieval import recall
from i0tscore.samples.ratings import RatingSet
from studies.embedder import Embedder
from studies.flickr8k import read_split

BUILTIN = "built in"
SAMPLES = (32, 128, 512)
FORMS = ("free", "free, clipped", "Ref", "Ref, mean")


@dataclass(frozen=True, slots=True)
class RatedVectors:
    """Embeddings of a rating set.

    Attributes:
        x: Image of each item (n, d).
        y: Caption of each item (n, d).
        references: Of each item, indices into ``z``.
        z: Distinct references (r, d).
        images: Distinct images (m, d), each with the captions ``z[own]``.
        own: Indices into ``z`` of each distinct image (m, 5).
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    references: Sequence[NDArray[np.int64]]
    z: NDArray[np.float32]
    images: NDArray[np.float32]
    own: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Condition:
    """A standardizer with the statistics it uses.

    Attributes:
        standardizer: What is done to the embeddings.
        statistics: From where the moments are.
        source: The same in words.
    """

    standardizer: Standardizer
    statistics: Statistics
    source: str

    @property
    def name(self) -> str:
        """For tables."""
        name = str(self.standardizer)
        return name if self.standardizer.spec.need is None else f"{name}, {self.source}"


def encode_ratings(embedder: Embedder, ratings: RatingSet) -> RatedVectors:
    """Encode a rating set's images, captions and references."""
    images = embedder.images([sample.image for sample in ratings.samples])
    captions = embedder.captions([sample.caption for sample in ratings.samples])
    references = embedder.captions([text for sample in ratings.samples for text in sample.references])
    ends = np.cumsum([len(sample.references) for sample in ratings.samples])[:-1]
    rows = np.split(references.index, ends)
    first = np.unique(images.index, return_index=True)[1]
    return RatedVectors(
        images.vectors[images.index],
        captions.vectors[captions.index],
        rows,
        references.vectors,
        images.vectors[images.index[first]],
        np.stack([rows[i] for i in first]),
    )


def all_conditions(embedder: Embedder, rated: RatedVectors, folder: Path) -> Iterator[Condition]:
    """Every standardizer with the statistics it is to be tried with."""
    builtin = builtin_statistics(embedder.fingerprint)
    if builtin is None:
        raise InputError(f"no statistics are shipped for {embedder.fingerprint.name}: this study compares with them")
    yield Condition(NONE, builtin, "")
    yield Condition(POST, builtin, BUILTIN)
    for count in SAMPLES:
        yield Condition(POST, _train_sample(embedder, folder, count), f"{count} training pairs")
    own = Statistics("test", "", "", PREFIX, Moments.of(rated.images), Moments.of(rated.z))
    yield Condition(POST, own, "the test set's own")
    for standardizer in all_standardizers():
        if standardizer in (NONE, POST):
            continue
        lacking = None
        if standardizer.spec.cross_modal_only:
            lacking = "it does not compare captions with references"
        elif (need := standardizer.spec.need) is not None and not builtin.gap_statistics.has(need):
            lacking = f"the statistics shipped for {builtin.encoder} have no {need.name}"
        if lacking is None:
            yield Condition(standardizer, builtin, BUILTIN)
        else:
            warnings.warn(f"{standardizer} is left out: {lacking}", UserWarning, stacklevel=2)


def _train_sample(embedder: Embedder, folder: Path, count: int) -> Statistics:
    split = read_split(folder, "train")
    rows = np.random.default_rng(0).choice(len(split.images), count, replace=False)
    images = embedder.images([split.images[i] for i in rows])
    captions = embedder.captions([split.captions[5 * i] for i in rows])
    return Statistics("sample", "", "", PREFIX, Moments.of(images.vectors), Moments.of(captions.vectors))


def score_forms(condition: Condition, rated: RatedVectors) -> dict[str, NDArray[np.float64]]:
    """Scores of all items in the four forms."""
    x, y = condition.statistics.standardize(condition.standardizer, rated.x, rated.y)
    z = condition.statistics.standardize(condition.standardizer, rated.x[:0], rated.z)[1]
    free = dot(x, y).astype(np.float64)
    nearest = max_similarity(y, [z[rows] for rows in rated.references]).astype(np.float64)
    values = (free, free.clip(0), combine_references(free, nearest, "harmonic"), (free + nearest) / 2)
    return dict(zip(FORMS, values, strict=True))


def estimates(
    scores: dict[str, NDArray[np.float64]], ratings: RatingSet, resampling: Resampling
) -> dict[str, tuple[Estimate, Difference | None]]:
    """τ-c of every score, and its difference from the same form without a standardizer."""
    rows = {name: values[ratings.item] for name, values in scores.items()}
    differences = {}
    for form in FORMS:
        same = {name: values for name, values in rows.items() if name.endswith(f"; {form}")}
        found = compare_agreement(same, ratings.rating, ratings.clusters, f"none; {form}", resampling=resampling)
        differences.update({d.first: d for d in found})
    return {
        name: (
            agreement(values, ratings.rating, ratings.clusters, names=["tau_c"], resampling=resampling).estimates[
                "tau_c"
            ],
            differences.get(name),
        )
        for name, values in rows.items()
    }


def choose_on_half(
    scores: dict[str, NDArray[np.float64]], ratings: RatingSet, resampling: Resampling
) -> tuple[str, list[Difference]]:
    """Choose the strength of ``covariance`` on every other image; compare it with ``post`` on the rest."""
    rank = {image: i for i, image in enumerate(sorted(set(ratings.clusters)))}
    half = np.array([rank[image] % 2 == 0 for image in ratings.clusters])
    rows = {name: values[ratings.item] for name, values in scores.items() if name.endswith("; free")}
    names = [name for name in rows if name.startswith("covariance(")]
    chosen = max(names, key=lambda n: correlation("tau_c", rows[n][half], ratings.rating[half]) or 0.0)
    clusters = np.asarray(ratings.clusters)[~half]
    compared = {name: rows[name][~half] for name in (f"{POST}, {BUILTIN}; free", f"{NONE}; free", chosen)}
    return chosen, compare_agreement(
        compared, ratings.rating[~half], clusters, f"{POST}, {BUILTIN}; free", resampling=resampling
    )


def residual_gap(condition: Condition, rated: RatedVectors) -> float:
    """Centroid distance of the rated images and captions."""
    return centroid_distance(*condition.statistics.standardize(condition.standardizer, rated.images, rated.y))


def recall_at_1(condition: Condition, rated: RatedVectors) -> tuple[float, float]:
    """R@1 of the rated images with their own captions, image to caption and back, in percent."""
    captions = rated.z[rated.own.ravel()]
    x, y = condition.statistics.standardize(condition.standardizer, rated.images, captions)
    to_caption, to_image = recall(x, y, (1,))
    return to_caption[0], to_image[0]
