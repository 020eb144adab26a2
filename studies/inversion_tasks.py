"""Retrieval, classification and reference rules on Flickr8k, with and without one side inverted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from human_judgments.script import Arguments
from i0tscore.errors import InputError
from i0tscore.gap import NONE, POST, Moments, Standardizer, Statistics, centroid_distance, dot, normalize
from i0tscore.inversion import Inverted
from i0tscore.metrics.functional import combine_references
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import fixed_statistics
from i0tscore.results import Resampling
from i0tscore.results.correlation import agreement, agreement_differences
from i0tscore.results.intervals import Estimate, bootstrap_mean, cluster_weights, percentile_interval
from i0tscore.results.retrieval import cross_modal_ranks, retrieve_by_label
from i0tscore.samples.ratings import RatingSet
from studies.classification import Classification, class_vectors, classify
from studies.embedder import Embedder, rows
from studies.flickr8k import CAPTIONS_PER_IMAGE, class_features, labeled_rows, read_split
from studies.gap import pair_statistics
from studies.standardizers import read_expert

Vectors = NDArray[np.float32]
Values = Mapping[str, NDArray[np.float64]]
"""One number per query, by measure."""
Row = dict[str, Any]
"""Plain data, as in the JSON of reports."""

EVAL_STEPS = (0, 17, 50, 150, 500)
"""Numbers of updates to evaluate, besides the last. Retrieval with the paper's R = 4 is best at 17."""
TIMED = 64
"""Number of items whose inversion is timed: one batch."""
OWN = "the measured images and captions themselves"

BASELINE = "as they are"
QUERIES, GALLERY = "queries inverted", "gallery inverted"
IMAGES, CAPTIONS = "their photographs as queries", "the mean of their captions as queries"
"""What a row of a task inverts or queries with, as in the JSON of reports."""
ACCURACIES = ("accuracy", "balanced accuracy")

SIDE, HARMONIC, MEAN, MULTI = RULES = ("reference side", "harmonic", "mean", "multi-way mean")
OWN_MEAN = f"{POST}, own mean"
CONDITIONS = (str(NONE), str(POST), OWN_MEAN)
WEIGHT = 2.5
"""Weight of the image side in RefCLIPScore, where the other side is a cosine of two captions."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Unit embeddings of Flickr8k's test split.

    Attributes:
        names: File names of the images (n).
        images: Images (n, d).
        captions: Captions with the prefix, five per image in turn (5n, d).
        labeled: Rows of the images that have a class (l,).
        labels: Row of each one's class (l,).
        classes: Class vectors (c, d).
        rated: Rated captions (m, d); their references are the captions of their images.
        rated_images: Row of each rated caption's image (m,).
        ratings: Ratings of the m captions.
        statistics: Statistics of ``post``.
    """

    names: tuple[str, ...]
    images: Vectors
    captions: Vectors
    labeled: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: Vectors
    rated: Vectors
    rated_images: NDArray[np.int64]
    ratings: RatingSet
    statistics: Statistics

    @property
    def image_of(self) -> NDArray[np.int64]:
        """Row of each caption's image (5n,)."""
        return np.repeat(np.arange(len(self.images)), CAPTIONS_PER_IMAGE)

    @property
    def caption_ids(self) -> list[str]:
        """Id of each caption, as in Flickr8k's files."""
        return [f"{name}#{k}" for name in self.names for k in range(CAPTIONS_PER_IMAGE)]


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """One side inverted, evaluated after several numbers of updates.

    Attributes:
        method: ``OTI`` or ``OVI``.
        points: Inverted features (n, d) by number of updates, without the start.
        cosines: Cosine of each with its target (n,) by number of updates, with the start (0).
        inputs: Number of pseudo-tokens R or pseudo-patches P.
        seconds: CPU seconds per item, from inverting ``TIMED`` of them separately.
        signature: Signature of the inversion.
    """

    method: str
    points: dict[int, Vectors]
    cosines: dict[int, NDArray[np.float32]]
    inputs: int
    seconds: float
    signature: str

    @property
    def last(self) -> int:
        """The largest number of updates."""
        return max(self.points)

    def cosine(self, updates: int) -> float:
        """Return the mean cosine after a number of updates."""
        return float(self.cosines[updates].mean())

    def part(self, chosen: NDArray[np.int64]) -> Crossed:
        """Return some of the items."""
        points, cosines = (
            {updates: values[chosen] for updates, values in of.items()} for of in (self.points, self.cosines)
        )
        return replace(self, points=points, cosines=cosines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without the vectors."""
        return {
            "n": len(self.points[self.last]),
            "inputs": self.inputs,
            "updates": self.last,
            "cosine": {str(updates): self.cosine(updates) for updates in self.cosines},
            "processor_seconds_an_item": self.seconds,
            "signature": self.signature,
        }


def cross(
    invert: Callable[..., Inverted], vectors: Vectors, ids: Sequence[str], *, updates: int, folder: Path | None
) -> Crossed:
    """Invert embeddings and keep the features after several numbers of updates.

    Args:
        invert: ``invert_images`` or ``invert_captions`` with its encoder.
        vectors: Embeddings to invert (n, d).
        ids: Ids (n).
        updates: Number of updates.
        folder: Folder of finished batches, or None.
    """
    steps = (*(step for step in EVAL_STEPS if step < updates), updates)
    found = invert(vectors, ids=list(ids), steps=updates, eval_steps=steps, resume=folder)
    # Timed separately, since batches may have been finished by another run.
    start = time.process_time()
    invert(vectors[:TIMED], steps=updates)
    seconds = (time.process_time() - start) / len(vectors[:TIMED])
    return Crossed(
        found.config.method.upper(),
        {step: found.eval_vectors[:, k] for k, step in enumerate(steps) if step},
        {step: 1 - found.eval_losses[:, k] for k, step in enumerate(steps)},
        found.config.inputs,
        seconds,
        found.config.signature,
    )


def read_material(embedder: Embedder, arguments: Arguments, count: int | None) -> Material:
    """Read and embed Flickr8k's test split.

    Args:
        embedder: Embeds.
        arguments: Options.
        count: Number of images; None for all.

    Raises:
        InputError: A file is missing, references differ from their image's captions, or fewer than two images have a
            class.
    """
    split = read_split(arguments.folder(), "test")
    paths = split.images[:count]
    names, texts = tuple(path.name for path in paths), split.captions[: CAPTIONS_PER_IMAGE * len(paths)]
    images, captions = rows(embedder.images(paths)), rows(embedder.captions(texts))
    labeled, labels = labeled_rows(texts)
    if len(labeled) < 2:
        raise InputError(f"Only {len(labeled)} of {len(names)} images have a class. Use more images.")
    statistics = fixed_statistics(arguments.statistics, embedder.fingerprint, PREFIX)
    return Material(
        names,
        images,
        captions,
        labeled,
        labels,
        class_vectors(class_features(embedder)),
        *_rated(embedder, arguments, names, texts),
        statistics or pair_statistics(images, captions, OWN),
    )


def _rated(
    embedder: Embedder, arguments: Arguments, names: Sequence[str], texts: Sequence[str]
) -> tuple[Vectors, NDArray[np.int64], RatingSet]:
    """Return the rated captions of these images, the rows of their images, and their ratings.

    The references of the captions must be these texts.
    """
    row_of = {name: row for row, name in enumerate(names)}
    whole = read_expert(arguments)
    ratings = whole.only(np.array([sample.image.name in row_of for sample in whole.samples])[whole.item])
    if not ratings.n:
        raise InputError(f"Expected ratings of the {len(names)} images, found none. Use more images.")
    images = np.array([row_of[sample.image.name] for sample in ratings.samples])
    for row, sample in zip(images.tolist(), ratings.samples, strict=True):
        own = texts[CAPTIONS_PER_IMAGE * row : CAPTIONS_PER_IMAGE * (row + 1)]
        if sorted(sample.references) != sorted(own):
            raise InputError(
                f"Flickr8k-Expert: the references of {names[row]} are not its captions. Download the files again."
            )
    return rows(embedder.captions([sample.caption for sample in ratings.samples])), images, ratings


def text_to_text(material: Material, ovi: Crossed, resampling: Resampling) -> Row:
    """Let each caption find the other captions of its image."""
    own, every = material.image_of, np.arange(len(material.captions))

    def retrieve(queries: Vectors, gallery: Vectors) -> Values:
        return retrieve_by_label(queries, gallery, own, own, own=every).values

    other = {IMAGES: retrieve(material.images[own], material.captions)}
    return _within(retrieve, material.captions, ovi, other, own, resampling)


def image_to_image(material: Material, oti: Crossed, resampling: Resampling) -> Row:
    """Let each image with a class find the others of its class."""
    chosen, labels = material.labeled, material.labels

    def retrieve(queries: Vectors, gallery: Vectors) -> Values:
        return retrieve_by_label(queries, gallery, labels, labels, own=np.arange(len(chosen))).values

    captions = material.captions.reshape(-1, CAPTIONS_PER_IMAGE, material.captions.shape[1])[chosen]
    other = {CAPTIONS: retrieve(normalize(captions.mean(axis=1)), material.images[chosen])}
    return _within(retrieve, material.images[chosen], oti.part(chosen), other, chosen, resampling)


def image_to_text(material: Material, oti: Crossed, resampling: Resampling) -> Row:
    """Let each image find one of its captions."""

    def retrieve(images: Vectors) -> Values:
        return {"R@1": (cross_modal_ranks(images, material.captions).to_caption < 1).astype(np.float64)}

    return _across(retrieve, material.images, oti, np.arange(len(material.images)), resampling)


def text_to_image(material: Material, ovi: Crossed, resampling: Resampling) -> Row:
    """Let each caption find its image."""

    def retrieve(captions: Vectors) -> Values:
        return {"R@1": (cross_modal_ranks(material.images, captions).to_image < 1).astype(np.float64)}

    return _across(retrieve, material.captions, ovi, material.image_of, resampling)


def _within(
    retrieve: Callable[[Vectors, Vectors], Values],
    vectors: Vectors,
    crossed: Crossed,
    other: Mapping[str, Values],
    clusters: NDArray[np.int64],
    resampling: Resampling,
) -> Row:
    """Measure the baseline, inverted queries, an inverted gallery, and other queries."""
    found: list[tuple[str, int | None, Values]] = []
    for step, moved in crossed.points.items():
        found.append((QUERIES, step, retrieve(moved, vectors)))
    for step, moved in crossed.points.items():
        found.append((GALLERY, step, retrieve(vectors, moved)))
    found += [(what, None, values) for what, values in other.items()]
    return _task(retrieve(vectors, vectors), found, crossed, clusters, resampling)


def _across(
    retrieve: Callable[[Vectors], Values],
    vectors: Vectors,
    crossed: Crossed,
    clusters: NDArray[np.int64],
    resampling: Resampling,
) -> Row:
    """Measure the baseline, and queries inverted into the gallery's modality."""
    found = [(QUERIES, step, retrieve(moved)) for step, moved in crossed.points.items()]
    return _task(retrieve(vectors), found, crossed, clusters, resampling)


def _task(
    baseline: Values,
    found: Sequence[tuple[str, int | None, Values]],
    crossed: Crossed,
    clusters: NDArray[np.int64],
    resampling: Resampling,
) -> Row:
    """Return the number of queries, and a line of figures per method, ``BASELINE`` first.

    ``left_out`` queries have nothing relevant to find; ``photographs`` are resampled.
    """

    def estimates(values: Values) -> dict[str, Estimate]:
        return {name: mean_of(column, clusters, resampling) for name, column in values.items()}

    lines = [_line(BASELINE, None, None, estimates(baseline), {})]
    for what, step, values in found:
        cosine = None if step is None else crossed.cosine(step)
        changes = {name: column - baseline[name] for name, column in values.items()}
        lines.append(_line(what, step, cosine, estimates(values), estimates(changes)))
    undefined = np.isnan(next(iter(baseline.values())))
    defined = clusters[~undefined]
    counts = {"queries": len(defined), "left_out": int(undefined.sum()), "photographs": len(np.unique(defined))}
    return {**counts, "lines": lines}


def _line(
    what: str,
    updates: int | None,
    cosine: float | None,
    values: Mapping[str, Estimate],
    differences: Mapping[str, Estimate],
) -> Row:
    """Return the figures of a method, and their differences from ``BASELINE`` on the same resamples."""
    return {
        "what": what,
        "updates": updates,
        "cosine": cosine,
        "values": {name: estimate.to_dict() for name, estimate in values.items()},
        "differences": {name: estimate.to_dict() for name, estimate in differences.items()},
    }


def mean_of(values: NDArray[np.float64], clusters: NDArray[np.int64], resampling: Resampling) -> Estimate:
    """Return the mean of the defined values (n,), with its interval over clusters (n,)."""
    if np.isnan(values).all():
        return Estimate(None, None)
    return Estimate(float(np.nanmean(values)), bootstrap_mean(values, clusters, resampling))


def zero_shot(material: Material, oti: Crossed, resampling: Resampling) -> Row:
    """Assign each image to the class whose captions are most similar.

    The class-balanced accuracy of a resample, which may lack a class, is that of the classes it has.
    """
    part, count = oti.part(material.labeled), len(material.labeled)
    baseline = classify(material.images[material.labeled], material.classes, material.labels)
    lines = [_line(BASELINE, None, None, _accuracies(baseline, resampling), {})]
    for step, moved in part.points.items():
        found = classify(moved, material.classes, material.labels)
        changes = _accuracy_changes(baseline, found, resampling)
        lines.append(_line(QUERIES, step, part.cosine(step), _accuracies(found, resampling), changes))
    return {"queries": count, "left_out": 0, "photographs": count, "lines": lines}


def _accuracies(found: Classification, resampling: Resampling) -> dict[str, Estimate]:
    return dict(zip(ACCURACIES, (found.accuracy(resampling), found.balanced_accuracy(resampling)), strict=True))


def _accuracy_changes(baseline: Classification, found: Classification, resampling: Resampling) -> dict[str, Estimate]:
    images = np.arange(len(baseline.labels))
    plain = mean_of(found.right.astype(np.float64) - baseline.right, images, resampling)

    def balanced(weights: NDArray[np.int64]) -> float:
        return found.balanced(weights) - baseline.balanced(weights)

    draws = [balanced(weights) for weights in cluster_weights(images, len(images), resampling)]
    interval = percentile_interval(np.array(draws), resampling.confidence, len(images))
    return dict(zip(ACCURACIES, (plain, Estimate(balanced(np.ones_like(images)), interval)), strict=True))


class Score(NamedTuple):
    """A score of captions with references.

    Attributes:
        condition: One of ``CONDITIONS``.
        rule: One of ``RULES``.
        updates: Number of updates of the inverted references; None if references are plain captions.
    """

    condition: str
    rule: str
    updates: int | None

    @property
    def plain(self) -> Score:
        """The score with plain references."""
        return Score(str(POST) if self.condition == OWN_MEAN else self.condition, self.rule, None)


def combine(image_side: NDArray[Any], references: NDArray[Any], *, weight: float = 1.0) -> dict[str, NDArray[Any]]:
    """Return scores by rule.

    Args:
        image_side: Similarity of each caption with its image (m,).
        references: Similarity of each caption with its references (m, r).
        weight: Weight of the image side in the harmonic mean.

    Example:
        >>> scores = combine(np.array([0.5]), np.array([[0.25, 0.0]]))
        >>> [float(scores[rule][0].round(3)) for rule in RULES]
        [0.25, 0.333, 0.375, 0.25]
    """
    nearest = references.max(axis=1)
    return {
        SIDE: nearest,
        HARMONIC: combine_references(weight * image_side, nearest, "harmonic"),
        MEAN: combine_references(image_side, nearest, "mean"),
        MULTI: np.column_stack([image_side, references]).mean(axis=1),
    }


def compare_references(material: Material, ovi: Crossed, resampling: Resampling) -> Row:
    """Measure the agreement of every rule with people, with plain and with inverted references.

    Returns:
        Counts, ``distance_to_image_mean``: the distances of the means of images, inverted captions and captions from
        the statistics' image mean, ``best_plain``: the plain rule with the highest τ-c by standardizer, and ``scores``,
        each with its τ-c and its differences from ``Score.plain`` and from the best plain score, on the same resamples.
    """
    ratings = material.ratings
    found = {
        score: agreement(values[ratings.item], ratings.rating, ratings.clusters, names=["tau_c"], resampling=resampling)
        for score, values in _scores(material, ovi)
    }
    best = {
        condition: max(
            (score for score in found if score.updates is None and score.condition == condition),
            key=lambda score: found[score].estimates["tau_c"].value or 0.0,
        )
        for condition in CONDITIONS[:2]
    }

    def difference(score: Score, other: Score) -> Row | None:
        if score == other:
            return None
        pair = {"one": found[score], "other": found[other]}
        return agreement_differences(pair, "other", "tau_c", resampling.confidence)[0].estimate.to_dict()

    means = {"images": material.images, "inverted": ovi.points[ovi.last], "captions": material.captions}
    return {
        "ratings": ratings.n,
        "items": len(ratings.samples),
        "photographs": len(set(ratings.clusters)),
        "distance_to_image_mean": {
            name: centroid_distance(vectors, material.statistics.image.mean[None]) for name, vectors in means.items()
        },
        "best_plain": {name: score.rule for name, score in best.items()},
        "scores": [
            {
                **score._asdict(),
                "tau_c": one.estimates["tau_c"].to_dict(),
                "from_plain": difference(score, score.plain),
                "from_best_plain": difference(score, best[score.plain.condition]),
            }
            for score, one in found.items()
        ],
    }


def _scores(material: Material, ovi: Crossed) -> Iterator[tuple[Score, NDArray[np.float64]]]:
    """Yield every score of the rated items (m,)."""
    known, last = material.statistics.gap_statistics, ovi.points[ovi.last]
    own = replace(material.statistics, image=Moments.of(last)).gap_statistics

    def similarities(standardizer: Standardizer, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Return similarities of rated captions with the standardized vectors (k·n, d) of their images (m, k)."""
        y = standardizer.apply(material.rated, known, "caption")
        of_item = vectors.reshape(len(material.images), -1, vectors.shape[1])[material.rated_images]
        return dot(of_item, y[:, None]).astype(np.float64)

    for standardizer, weight in ((NONE, WEIGHT), (POST, 1.0)):
        name = str(standardizer)
        image_side = similarities(standardizer, standardizer.apply(material.images, known, "image"))[:, 0]
        side = similarities(standardizer, standardizer.apply(material.captions, known, "caption"))
        for rule, values in combine(image_side, side, weight=weight).items():
            yield Score(name, rule, None), values
        for updates, vectors in ovi.points.items():
            side = similarities(standardizer, standardizer.apply(vectors, known, "image"))
            for rule, values in combine(image_side, side).items():
                yield Score(name, rule, updates), values
    side = similarities(POST, POST.apply(last, own, "image"))
    for rule, values in combine(image_side, side).items():
        yield Score(OWN_MEAN, rule, ovi.last), values
