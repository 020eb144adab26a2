"""Agreement of scores by context with ratings of descriptions in articles, within and between articles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from human_judgments.report import Data, percent
from human_judgments.script import Arguments
from i0tscore.cli.options import make_scorer
from i0tscore.explanation.units import split_sentences
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.sample_sets import score_with
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.render.document import Table
from i0tscore.results.correlation import agreement
from i0tscore.samples.ratings import RatingSet
from i0tscore.samples.sample import Sample

Column = NDArray[np.float64]

IMAGE = "I0TScore"
ALONE, MEAN, COSINE = "ContextI0TScore", "ContextI0TScore(context_rule=mean)", "ContextI0TScore(std=none)"
CHOSEN = f"{IMAGE} and {ALONE}, weight chosen on other images"
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of the context's side to choose from."""

MEASURES = {
    "images": "Pearson, interval over images",
    "articles": "Pearson, interval over articles",
    "given_length": "given length",
    "within": "within articles",
    "between": "between articles",
}


def context_scores(samples: Sequence[Sample], titles: Sequence[str], arguments: Arguments) -> dict[str, Column]:
    """Score descriptions by their image, by their article, and by parts of it.

    Args:
        samples: Descriptions, whose contexts are whole articles (n).
        titles: Titles of the articles (n).
        arguments: Model and statistics.

    Returns:
        Columns (n,) by name of the metric and, unless it is the whole article, of the context.
    """
    settings = {"statistics": arguments.statistics, "metrics": (IMAGE, ALONE, MEAN, COSINE), "resamples": 0}
    scorer = make_scorer(arguments.required_model(), "raise", **settings)
    sentences = [[unit.text for unit in split_sentences(sample.context or "")] for sample in samples]
    found = score_with(scorer, samples, references=False)
    columns = {name: metric.values for name, metric in found.items()}
    articles = [sample.context for sample in samples]
    contexts: dict[str, Any] = {
        "title": titles,
        "first sentence": [own[0] for own in sentences],
        "mean of sentences": _means(scorer, samples, sentences),
        "with prefix": [f"{PREFIX}{text}" for text in articles],
        "title with prefix": [f"{PREFIX}{text}" for text in titles],
    }
    images, captions = [sample.image for sample in samples], [sample.caption for sample in samples]
    for part, context in contexts.items():
        result = scorer.score(images, captions, contexts=context)
        columns |= {f"{name}, {part}": result[name].values for name in (ALONE, MEAN)[: 1 + (part == "title")]}
    return columns


def _means(scorer: I0TScorer, samples: Sequence[Sample], sentences: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Return the mean embedding of the sentences of each context, (n, d)."""
    distinct = list(dict.fromkeys(text for own in sentences for text in own))
    first = samples[0]
    run = scorer.encode([first.image] * len(distinct), [first.caption] * len(distinct), contexts=distinct)
    if run.contexts is None:
        raise ValueError("contexts were given")
    vectors = dict(zip(distinct, run.contexts.vectors[run.contexts.index], strict=True))
    return np.stack([np.mean([vectors[text] for text in own], axis=0) for own in sentences])


def context_agreement(
    columns: Mapping[str, Column], words: Column, ratings: RatingSet, articles: Sequence[str], arguments: Arguments
) -> dict[str, Data]:
    """Correlate scores with mean ratings, with intervals over images and over articles.

    Args:
        columns: Scores of the n items of ``ratings`` by name.
        words: Number of words of each item (n,).
        ratings: Ratings, with the image of each as its cluster.
        articles: Article of each item (n).
        arguments: Settings of the intervals.

    Returns:
        By name of the score and ``number of words``, the estimates of ``MEASURES``.
    """
    means = ratings.averaged()
    rows, images = means.item, np.array(means.clusters)
    article = np.unique(np.array(articles)[rows], return_inverse=True)[1]
    chosen = choose_weight(columns[IMAGE][rows], columns[ALONE][rows], means.rating, images)
    scores = {"number of words": words[rows], **{name: values[rows] for name, values in columns.items()}}

    def pearson(values: Column, rating: Column, clusters: NDArray[Any]) -> Data:
        found = agreement(values, rating, clusters, names=["pearson"], resampling=arguments.resampling)
        return found.estimates["pearson"].to_dict()

    found: dict[str, Data] = {}
    for name, values in {**scores, CHOSEN: chosen}.items():
        parts: list[tuple[str, Callable[[Column], Column], NDArray[Any]]] = [
            ("images", lambda column: column, images),
            ("articles", lambda column: column, article),
            ("given_length", lambda column: residuals(column, words[rows]), article),
            ("within", lambda column: column - _by_article(column, article)[article], article),
            ("between", lambda column: _by_article(column, article), np.unique(article)),
        ]
        if name == "number of words":
            parts = [part for part in parts if part[0] != "given_length"]
        found[name] = {key: pearson(part(values), part(means.rating), clusters) for key, part, clusters in parts}
    return found


def choose_weight(image: Column, context: Column, rating: Column, clusters: NDArray[Any]) -> Column:
    """Score each item with the weight of its context that agrees best with the ratings of other images, (n,)."""
    scores = np.stack([(1 - weight) * image + weight * context for weight in WEIGHTS])
    chosen = np.empty_like(image)
    for cluster in dict.fromkeys(clusters.tolist()):
        own = clusters == cluster
        agreements = [np.corrcoef(one[~own], rating[~own])[0, 1] for one in scores]
        chosen[own] = scores[int(np.argmax(agreements)), own]
    return chosen


def residuals(values: Column, words: Column) -> Column:
    """Return the residuals of the linear regression of values on the number of words."""
    design = np.stack([np.ones_like(words), words], axis=1)
    left: Column = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return left


def _by_article(values: Column, article: NDArray[Any]) -> Column:
    means: Column = np.bincount(article, values) / np.bincount(article)
    return means


def context_blocks(found: Mapping[str, Any]) -> list[str | Table]:
    """Return a table of each question and group of raters, for the ratings of each file."""
    blocks: list[str | Table] = [
        "## Descriptions in their articles",
        "Pearson correlation × 100 of scores and the mean rating of each description. ContextI0TScore compares a "
        "description with its article, without looking at the image; the whole article if nothing else is named. "
        "ContextI0TScore(std=none) is the same without centering; with prefix, contexts are encoded with the prefix of "
        "captions. Given length: partial correlation given the number "
        "of words. Within articles: after subtracting the mean of each article from scores and ratings. Between "
        "articles: of these means. The last three have intervals over articles. The weight of the last row is chosen "
        f"from {', '.join(f'{weight:g}' for weight in WEIGHTS)} for each image on all the others.",
    ]
    for part in found.values():
        counts = ", ".join(f"{count:,} {name}" for name, count in part["counts"].items())
        blocks.append(f"### {part['title']}\n\n{counts}. {part['remark']}")
        for question, raters in part["questions"].items():
            for who, scores in raters.items():
                rows = [[name, *(percent(own.get(key)) for key in MEASURES)] for name, own in scores.items()]
                blocks += [f"{question}, {who}:", Table(["score", *MEASURES.values()], rows)]
    return blocks
