"""Reference rules that compare captions with captions, and such that cross into the images' region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import NONE, POST, Moments, Standardizer, centroid_distance, dot
from i0tscore.metrics.functional import combine_references
from i0tscore.results import Resampling
from i0tscore.results.correlation import Agreement, agreement, agreement_differences
from i0tscore.results.intervals import Estimate
from studies.inversion_material import Crossed, Material

SIDE, HARMONIC, MEAN, MULTI = RULES = ("reference side", "harmonic", "mean", "multi-way mean")
OWN_MEAN = f"{POST}, own mean"
CONDITIONS = (str(NONE), str(POST), OWN_MEAN)
WEIGHT = 2.5
"""Of the image side in RefCLIPScore, where the other side is a cosine of two captions."""


@dataclass(frozen=True, slots=True)
class Score:
    """One way to score a caption with references.

    Attributes:
        condition: Of ``CONDITIONS``.
        rule: Of ``RULES``.
        updates: Of the inverted references; None where they are compared as the captions they are.
    """

    condition: str
    rule: str
    updates: int | None

    @property
    def plain(self) -> Score:
        """The score whose place this one would take."""
        return Score(str(POST) if self.condition == OWN_MEAN else self.condition, self.rule, None)


@dataclass(frozen=True, slots=True)
class Agreed:
    """How well a score agrees with people.

    Attributes:
        tau_c: τ-c.
        from_plain: Difference from ``Score.plain`` on the same resamples; None for itself.
        from_best: Difference from the plain score of the same standardizer that agrees best.
    """

    tau_c: Estimate
    from_plain: Estimate | None
    from_best: Estimate | None


@dataclass(frozen=True, slots=True)
class References:
    """What crossing references does to agreement with people.

    Attributes:
        scores: All that was tried.
        best: By standardizer the plain score that agrees best.
        ratings: Their number.
        items: Rated pairs.
        photographs: How many are resampled.
        distances: Between means: of ``images`` here, of ``inverted`` captions and of ``captions`` to the
            statistics' image mean, by these names.
    """

    scores: Mapping[Score, Agreed]
    best: Mapping[str, Score]
    ratings: int
    items: int
    photographs: int
    distances: Mapping[str, float]

    @property
    def last(self) -> int:
        """The largest number of updates."""
        return max(score.updates or 0 for score in self.scores)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "ratings": self.ratings,
            "items": self.items,
            "photographs": self.photographs,
            "distance_to_image_mean": dict(self.distances),
            "best_plain": {name: score.rule for name, score in self.best.items()},
            "scores": [
                {
                    "condition": score.condition,
                    "rule": score.rule,
                    "updates": score.updates,
                    "tau_c": found.tau_c.to_dict(),
                    "from_plain": None if found.from_plain is None else found.from_plain.to_dict(),
                    "from_best_plain": None if found.from_best is None else found.from_best.to_dict(),
                }
                for score, found in self.scores.items()
            ],
        }


def combine(image_side: NDArray[Any], references: NDArray[Any], *, weight: float = 1.0) -> dict[str, NDArray[Any]]:
    """Scores by rule.

    Args:
        image_side: Similarity of each caption with its image (m,).
        references: Similarity of each caption with its references (m, r).
        weight: Of the image side, in the harmonic mean alone.

    Example:
        >>> scores = combine(np.array([0.5]), np.array([[0.25, 0.0]]))
        >>> [float(scores[rule][0].round(3)) for rule in RULES]
        [0.25, 0.333, 0.375, 0.25]
    """
    nearest = references.max(axis=1)
    together = np.column_stack([image_side, references])
    return {
        SIDE: nearest,
        HARMONIC: combine_references(weight * image_side, nearest, "harmonic"),
        MEAN: combine_references(image_side, nearest, "mean"),
        MULTI: together.mean(axis=1),
    }


def compare_references(material: Material, ovi: Crossed, resampling: Resampling) -> References:
    """Agreement with people of all rules, plain and crossed."""
    ratings = material.rated.ratings
    found = {
        score: agreement(values[ratings.item], ratings.rating, ratings.clusters, names=["tau_c"], resampling=resampling)
        for score, values in _scores(material, ovi)
    }
    plain = {score: one for score, one in found.items() if score.updates is None}
    best = {
        condition: max(
            (score for score in plain if score.condition == condition),
            key=lambda score: plain[score].estimates["tau_c"].value or 0.0,
        )
        for condition in CONDITIONS[:2]
    }

    def difference(score: Score, other: Score) -> Estimate | None:
        return None if score == other else _difference(found[score], found[other], resampling)

    return References(
        {
            score: Agreed(
                one.estimates["tau_c"],
                difference(score, score.plain),
                difference(score, best[score.plain.condition]),
            )
            for score, one in found.items()
        },
        best,
        ratings.n,
        len(ratings.samples),
        len(set(ratings.clusters)),
        _distances(material, ovi),
    )


def _scores(material: Material, ovi: Crossed) -> Iterator[tuple[Score, NDArray[np.float64]]]:
    """Every score of the rated items (m,)."""
    known, last = material.statistics.gap_statistics, ovi.points[ovi.last]
    own = replace(material.statistics, image=Moments.of(last)).gap_statistics
    rated, n = material.rated, len(material.images)

    def similarities(standardizer: Standardizer, vectors: NDArray[Any]) -> NDArray[np.float64]:
        """Of rated captions with the (k·n) standardized vectors of their photographs, (m, k)."""
        y = standardizer.apply(rated.captions, known, "caption")
        of_item = vectors.reshape(n, -1, vectors.shape[1])[rated.photographs]
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


def _difference(one: Agreement, other: Agreement, resampling: Resampling) -> Estimate:
    pair = {"one": one, "other": other}
    return agreement_differences(pair, "other", "tau_c", resampling.confidence)[0].estimate


def _distances(material: Material, ovi: Crossed) -> dict[str, float]:
    mean = material.statistics.image.mean[None]
    return {
        name: centroid_distance(vectors, mean)
        for name, vectors in (
            ("images", material.images),
            ("inverted", ovi.points[ovi.last]),
            ("captions", material.captions),
        )
    }
