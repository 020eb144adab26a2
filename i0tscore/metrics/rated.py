"""Rating sets with scores of what they rate: computed here, or read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.metrics.classic import CLASSIC_METRICS, classic_scores, classic_signature
from i0tscore.metrics.metric import parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Result
from i0tscore.samples.ratings import RatingSet
from i0tscore.samples.sample import Sample
from i0tscore.samples.score_tables import RatedScores, read_scores_of


def rate_by_file(ratings: RatingSet, path: Path, names: Sequence[str] = ()) -> RatedScores:
    """Join ratings with scores in a table that has the columns ``image`` and ``caption``.

    Args:
        ratings: The set.
        path: The table of scores.
        names: Its columns of scores; all others if empty.

    Raises:
        SampleFileError: Whatever is wrong with the table, and every caption without a score.
    """
    return with_scores(ratings, read_scores_of(path, ratings.samples, names), {})


def rate_by_model(ratings: RatingSet, scorer: I0TScorer, *, references: bool) -> RatedScores:
    """Score what was rated, each image and caption once.

    Args:
        ratings: The set; its images must be there.
        scorer: What to score with.
        references: Whether its metrics look at references.
    """
    result = score_with(scorer, ratings.samples, references=references)
    signatures = {name: str(metric.signature) for name, metric in result.items()}
    return with_scores(ratings, {name: metric.values for name, metric in result.items()}, signatures, result.notes)


def score_with(scorer: I0TScorer, samples: Sequence[Sample], *, references: bool) -> Result:
    """Score samples; references are only encoded where a metric looks at them."""
    return scorer.score(
        [sample.image for sample in samples],
        [sample.caption for sample in samples],
        [sample.references for sample in samples] if references else None,
        [sample.id for sample in samples],
    )


def score_classic(ratings: RatingSet, names: Sequence[str]) -> RatedScores:
    """Score by metrics that compare captions with references and see no image.

    Args:
        ratings: The set; every caption must have references.
        names: Of ``CLASSIC_METRICS``.

    Raises:
        InputError: One of them cannot be computed here, or references are missing.
    """
    samples = ratings.samples
    found = classic_scores([s.caption for s in samples], [s.references for s in samples], names)
    if found.unavailable:
        raise InputError("\n".join(f"{name}: {reason}" for name, reason in found.unavailable.items()))
    ours = ("v", version("i0tscore"))
    signatures = {name: str(classic_signature(name, len(samples), ours)) for name in found.values}
    return with_scores(ratings, found.values, signatures)


def split_metrics(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part names into metrics that see images and classic ones, which see references only."""
    classic = {name.lower(): name for name in CLASSIC_METRICS}
    words = [classic[name.lower()] for name in names if name.lower() in classic]
    return [name for name in names if name.lower() not in classic], list(dict.fromkeys(words))


def wants_references(ratings: RatingSet, names: Sequence[str]) -> bool:
    """Whether metrics look at references; without names, whether there are any to look at."""
    if names:
        return any(metric.needs_references for metric in parse_metrics(names))
    return all(sample.references for sample in ratings.samples)


def joined(first: RatedScores, second: RatedScores) -> RatedScores:
    """Scores of both, of the same ratings."""
    return replace(
        first,
        scores=first.scores | second.scores,
        signatures=first.signatures | second.signatures,
        notes=tuple(dict.fromkeys(first.notes + second.notes)),
    )


def with_scores(
    ratings: RatingSet,
    values: Mapping[str, NDArray[np.float64]],
    signatures: Mapping[str, str],
    notes: Sequence[str] = (),
) -> RatedScores:
    """Ratings beside scores of what they rate.

    Args:
        ratings: The set.
        values: By metric, one a sample of the set.
        signatures: How scores were made, by metric.
        notes: What a reader should know besides the set's own notes.
    """
    parts = {"category": ratings.categories, "system": ratings.systems}
    return RatedScores(
        ratings.rating,
        {name: column[ratings.item] for name, column in values.items()},
        ratings.clusters,
        "image",
        ratings.item,
        ratings.groups,
        {name: labels for name, labels in parts.items() if labels is not None},
        dict(signatures),
        (*ratings.notes, *notes),
    )
