"""From the options of ``correlate`` to ratings with scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from i0tscore.cli.options import ModelOptions
from i0tscore.cli.rating_options import CorrelateOptions
from i0tscore.cli.scoring import make_scorer
from i0tscore.errors import InputError
from i0tscore.metrics.sample_sets import rate, rate_by_file, split_metrics
from i0tscore.samples.flickr8k import read_clipscore_json, read_flickr8k_expert
from i0tscore.samples.ratings import (
    ANY_NUMBER,
    RATING_COLUMNS,
    RatingScale,
    ScoreColumns,
    TableRules,
    read_rating_table,
    read_score_table,
)

if TYPE_CHECKING:
    from i0tscore.samples.ratings import RatedScores, RatingSet

DEFAULT_HUMAN = "rating"


def read_rated(asked: CorrelateOptions, model: ModelOptions) -> RatedScores:
    """Read ratings, and read or compute the scores of what they rate.

    Raises:
        InputError: What is wrong with the files, all of it.
    """
    if asked.in_table:
        return read_score_table(asked.table, _columns(asked), _scale(asked))
    ratings = _read_ratings(asked)
    if asked.scores is None:
        rated = _by_metrics(asked, model, ratings)
    else:
        rated = rate_by_file(ratings, asked.scores, asked.score)
    parts = {getattr(asked, name, None) or name: labels for name, labels in rated.parts.items()}
    rated = replace(rated, parts=parts)
    return replace(rated, clusters=None, over="rows") if asked.by_rows else rated


def _by_metrics(asked: CorrelateOptions, model: ModelOptions, ratings: RatingSet) -> RatedScores:
    names, classic = split_metrics(asked.metric)
    scorer = None
    if names or not classic:
        scorer = make_scorer(model, on_error="raise", statistics=asked.statistics, metrics=names or None, resamples=0)
    return rate(ratings, scorer, names, classic)


def _read_ratings(asked: CorrelateOptions) -> RatingSet:
    """Read rated captions; their images are looked for where a model will see them."""
    names, words = split_metrics(asked.metric)
    seen = asked.scores is None and bool(names or not words)
    if asked.form_of_ratings == "flickr8k-expert":
        return read_flickr8k_expert(asked.table, asked.folder, look_up=seen)
    folder = (asked.folder or asked.table.parent) if seen else None
    if asked.form_of_ratings == "clipscore-ratings":
        return read_clipscore_json(asked.table, folder)
    columns = {
        **RATING_COLUMNS,
        "rating": (asked.human or DEFAULT_HUMAN,),
        "rater": tuple(filter(None, [asked.rater])),
        "category": tuple(filter(None, [asked.category])),
        "system": tuple(filter(None, [asked.system])),
    }
    rules = TableRules(columns, _scale(asked), allow_duplicates=asked.repeats)
    ratings = read_rating_table(asked.table, images=folder, rules=rules)
    told = {"rater": ratings.rater, "category": ratings.categories, "system": ratings.systems}
    for name, labels in told.items():
        if getattr(asked, name) is not None and labels is None:
            raise InputError(f"{asked.table}: no column {getattr(asked, name)!r}, or it is empty: correct --{name}")
    return ratings


def _columns(asked: CorrelateOptions) -> ScoreColumns:
    return ScoreColumns(
        rating=asked.human or DEFAULT_HUMAN,
        scores=tuple(dict.fromkeys(asked.score)),
        group=asked.group,
        no_cluster=asked.by_rows,
        rater=asked.rater,
        items=asked.item,
        parts=tuple(dict.fromkeys(filter(None, (asked.category, asked.system)))),
        averaged=asked.average_raters,
        allow_duplicates=asked.repeats,
    )


def _scale(asked: CorrelateOptions) -> RatingScale:
    return ANY_NUMBER if asked.scale is None else RatingScale(*asked.scale)
