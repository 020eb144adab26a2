"""What a standardizer does to the gap and to the tasks it is measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import (
    NONE,
    POST,
    centroid_distance,
    dot,
    expected_residual_gap,
    normalize,
)
from i0tscore.results import Resampling
from i0tscore.results.comparison import compare_means
from i0tscore.results.correlation import Agreement, agreement, agreement_differences
from i0tscore.results.gap import GapMeasures, measure_gap
from i0tscore.results.intervals import Difference, Estimate
from i0tscore.results.retrieval import CrossModalRanks, cross_modal_ranks
from i0tscore.samples.ratings import RatingSet
from studies.classification import Classification, classify
from studies.gap_conditions import pair_statistics
from studies.standardizer_study import Condition, RatedVectors

Vectors = NDArray[np.float32]
FORMS = ("expert", "expert, clipped")


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Images with classes.

    Attributes:
        images: Shape (n, d).
        labels: Row of each one's class (n,), int64.
        classes: Shape (c, d), as ``class_vectors`` makes them.
        by_features: The same by its other rule of templates, or None.
    """

    images: Vectors
    labels: NDArray[np.int64]
    classes: Vectors
    by_features: Vectors | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Unit embeddings that are measured on.

    Attributes:
        images: Shape (n, d).
        captions: Shape (k·n, d), k of each image in turn.
        labelled: For classification, or None.
        rated: Pairs with ratings, or None.
    """

    images: Vectors
    captions: Vectors
    labelled: Labelled | None = None
    rated: tuple[RatedVectors, RatingSet] | None = None

    @property
    def each(self) -> int:
        """Captions an image."""
        return len(self.captions) // len(self.images)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was found under one condition.

    Attributes:
        gap: Between the images and their first captions; None where nothing is moved (``nnn``).
        ranks: By captions an image: 1, and all if there are more.
        classification: None without classes.
        agreement: By ``FORMS``; empty without ratings.
        by_features: Classification by the other rule of templates, or None.
    """

    gap: GapMeasures | None
    ranks: dict[int, CrossModalRanks]
    classification: Classification | None
    agreement: dict[str, Agreement]
    by_features: Classification | None = None


@dataclass(frozen=True, slots=True)
class Size:
    """``post`` with the means of some pairs, over several draws of them.

    Attributes:
        count: Pairs behind the means.
        gaps: Centroid distance of each draw.
        expected: What ``expected_residual_gap`` says, mean over draws.
        to_caption: R@1 of each draw, one caption an image, in [0, 1].
        to_image: The same the other way.
    """

    count: int
    gaps: tuple[float, ...]
    expected: float
    to_caption: tuple[float, ...]
    to_image: tuple[float, ...]


def measure(condition: Condition, corpus: Corpus, resampling: Resampling) -> Measured:
    """Everything under one condition."""

    def standardize(x: Vectors, y: Vectors) -> tuple[NDArray[Any], NDArray[Any]]:
        return condition.statistics.standardize(condition.standardizer, x, y)

    images, captions = standardize(corpus.images, corpus.captions)
    ranks = {each: cross_modal_ranks(images, captions[:: corpus.each // each]) for each in {1, corpus.each}}

    def classified(labelled: Labelled, classes: Vectors | None) -> Classification | None:
        return None if classes is None else classify(*standardize(labelled.images, classes), labelled.labels)

    found = by_features = None
    if (labelled := corpus.labelled) is not None:
        found, by_features = (classified(labelled, c) for c in (labelled.classes, labelled.by_features))
    agreements = {}
    if corpus.rated is not None:
        rated, ratings = corpus.rated
        scores = dot(*standardize(rated.x, rated.y)).astype(np.float64)
        for form, values in zip(FORMS, (scores, scores.clip(0)), strict=True):
            rows = values[ratings.item]
            agreements[form] = agreement(rows, ratings.rating, ratings.clusters, names=["tau_c"], resampling=resampling)
    gap = None
    if not condition.standardizer.spec.cross_modal_only:
        gap = measure_gap(normalize(images), normalize(captions[:: corpus.each]), resampling=resampling)
    return Measured(gap, ranks, found, agreements, by_features)


def differences(found: Mapping[str, Measured], resampling: Resampling) -> dict[str, dict[str, Difference]]:
    """Of each task and condition the difference from no standardizer, on the same resamples of images.

    Args:
        found: By condition; ``none`` among them.
        resampling: Of the intervals.

    Returns:
        By ``to_caption`` and ``to_image`` (R@1, one caption), ``accuracy`` (class-balanced, the classes'
        shares held as they are) and ``expert`` where they were measured, and by condition.
    """
    columns: dict[str, dict[str, NDArray[np.float64]]] = {
        "to_caption": {name: (m.ranks[1].to_caption < 1).astype(np.float64) for name, m in found.items()},
        "to_image": {name: (m.ranks[1].to_image < 1).astype(np.float64) for name, m in found.items()},
    }
    labelled = {name: m.classification for name, m in found.items() if m.classification is not None}
    if labelled:
        columns["accuracy"] = {name: _balanced(c) for name, c in labelled.items()}
    result = {
        task: {d.first: d for d in compare_means(values, None, str(NONE), resampling=resampling)}
        for task, values in columns.items()
    }
    rated = {name: m.agreement["expert"] for name, m in found.items() if m.agreement}
    if rated:
        compared = agreement_differences(rated, str(NONE), "tau_c", resampling.confidence)
        result["expert"] = {d.first: d for d in compared}
    return result


def _balanced(found: Classification) -> NDArray[np.float64]:
    """One number an image whose mean is the class-balanced accuracy."""
    counts = np.bincount(found.labels)
    share = len(found.labels) / (np.count_nonzero(counts) * counts[found.labels])
    weighted: NDArray[np.float64] = found.right * share
    return weighted


def expert_estimate(found: Measured, form: str, resampling: Resampling) -> Estimate | None:
    """τ-c with Flickr8k-Expert, or None without ratings."""
    if form not in found.agreement:
        return None
    return found.agreement[form].estimates["tau_c"]


def sample_sizes(images: Vectors, captions: Vectors, corpus: Corpus, sizes: Sequence[int], draws: int) -> list[Size]:
    """``post`` with the means of the first pairs of several shuffles (seeds 0, 1, …) of others.

    Args:
        images: Pairs to take means of (m, d).
        captions: Their captions (m, d).
        corpus: What is measured on, one caption an image.
        sizes: How many pairs; those above m are left out.
        draws: How many shuffles; where all pairs are taken one is all there is.
    """
    orders = [np.random.default_rng(seed).permutation(len(images)) for seed in range(draws)]
    first = corpus.captions[:: corpus.each]
    found = []
    for size in sizes:
        if size > len(images):
            continue
        rows = []
        for order in orders[: 1 if size == len(images) else draws]:
            statistics = pair_statistics(images[order[:size]], captions[order[:size]], "sample")
            x, y = statistics.standardize(POST, corpus.images, first)
            ranks = cross_modal_ranks(x, y)
            hits = [float((side < 1).mean()) for side in (ranks.to_caption, ranks.to_image)]
            expected = expected_residual_gap(float(dot(x, y).mean()), size)
            rows.append((centroid_distance(x, y), expected, *hits))
        gaps, expectations, to_caption, to_image = zip(*rows, strict=True)
        found.append(Size(size, gaps, float(np.mean(expectations)), to_caption, to_image))
    return found
