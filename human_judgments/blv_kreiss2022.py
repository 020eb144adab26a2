"""Kreiss et al. 2022: descriptions of images in articles, rated by blind and low-vision people.

Each question by itself: overall, relevance, irrelevance, image fit, and how well one can picture the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from human_judgments.arguments import Arguments, script
from human_judgments.blocks import RATERS, agreement_blocks, closing_blocks, figures, introduction
from human_judgments.kreiss import (
    AUTHORS_SCORES,
    KREISS_FILES,
    KREISS_QUESTIONS,
    read_authors_scores,
    read_kreiss,
    same_descriptions,
)
from human_judgments.plot import Chart
from human_judgments.rating_sets import KNOWN_SETS, verify
from human_judgments.report import Report, percent, resampling_note, table
from human_judgments.run import evidence_data, heading, measure, stem_of, title_of
from human_judgments.scores import Scores, score_samples
from i0tscore.results.correlation import CorrelationName, agreement
from i0tscore.results.correlation_report import CorrelationReport
from i0tscore.results.intervals import Estimate
from i0tscore.samples.flickr8k import locate
from i0tscore.samples.ratings import RatingSet

HEADLINE: CorrelationName = "pearson"
LENGTH = "number of words"
AUTHORS = "CLIPScore of the authors (ViT-B/32)"
PUBLISHED_PEARSON, PUBLISHED_P = 0.075, 0.55
QUESTIONS = {
    "q_overall": "overall value of the description for someone who cannot see the image",
    "q_relevance": "holds the information that matters",
    "q_irrelevance": "holds no information that does not matter",
    "q_imgfit": "the image fits its article",
    "q_reconstructivity": "one can picture the image",
}


@script("human_judgments.blv_kreiss2022")
def main(arguments: Arguments) -> Report:
    """Agreement with blind and low-vision raters (Kreiss et al. 2022), each question by itself."""
    known = KNOWN_SETS["blv_kreiss2022"]
    file = locate(arguments.folder(), (KREISS_FILES["blv"],), known.origin)
    sets = {question: _read(arguments, file, question) for question in KREISS_QUESTIONS}
    files = {name: file.with_name(name) for name in (*KREISS_FILES.values(), AUTHORS_SCORES)}
    overall = sets["q_overall"][0]
    differing = verify(overall.counts, known, file, files, allow_other_counts=arguments.allow_other_counts)
    scores = score_samples(overall.samples, arguments)
    _add_columns(scores, read_authors_scores(file.parent))
    blocks = [introduction(known, arguments, overall.counts), _how(arguments)]
    questions = {}
    for question, (ratings, sighted) in sets.items():
        added, questions[question] = _question(question, ratings, sighted, scores, arguments)
        blocks += added
    check, oracle = _oracle(overall, scores)
    notes = [*overall.notes, *differing, *scores.notes, *_LIMITS]
    blocks += ["## Check against the published figure", check]
    blocks += closing_blocks(known, notes, scores, arguments)
    data = {
        **heading(known, arguments, overall.counts),
        "headline": HEADLINE,
        "questions": questions,
        "oracle": oracle,
        "unavailable": scores.unavailable,
        "notes": notes,
        "signatures": scores.signatures,
    }
    chart = _chart(_measure(overall, scores, arguments))
    return Report(stem_of(known.name, arguments), title_of(known, arguments), blocks, data, chart)


_PARTIAL = (
    "Given length: Pearson correlation of what the number of words does not explain of score and rating "
    "(residuals of linear regressions on it)."
)
_LIMITS = (
    "18 images and 68 descriptions are few: most intervals hold zero, and differences between metrics mostly do too",
    "descriptions were written for these articles; scores see the image and the description, not the article",
)


def _read(arguments: Arguments, file: Path, question: str) -> tuple[RatingSet, dict[str, RatingSet]]:
    """Ratings of one question, and those of the same descriptions by sighted people."""
    look_up = arguments.needs_images

    def read(**options: Any) -> RatingSet:
        found = read_kreiss(file.parent, question, images=arguments.images, look_up=look_up, **options)
        return replace(found, categories=None)  # three images a topic are too few to be shown apart

    ratings = read()
    moments = ("preimg",) if question == "q_reconstructivity" else ("preimg", "postimg")
    sighted = {seen: same_descriptions(read(raters="sighted", seen=seen), ratings) for seen in moments}
    return ratings if arguments.limit is None else ratings.limited(arguments.limit), sighted


def _add_columns(scores: Scores, authors: Mapping[str, float]) -> None:
    """Put the number of words and the authors' CLIPScore beside the metrics."""
    captions = [sample.caption for sample in scores.samples]
    scores.values[LENGTH] = np.array([float(len(caption.split())) for caption in captions])
    if all(caption in authors for caption in captions):
        scores.values[AUTHORS] = np.array([authors[caption] for caption in captions])
    else:
        scores.unavailable[AUTHORS] = f"{AUTHORS_SCORES} lacks some descriptions"


def _measure(ratings: RatingSet, scores: Scores, arguments: Arguments) -> CorrelationReport:
    known = {(sample.image.name, sample.caption) for sample in scores.samples}
    there = np.array([(s.image.name, s.caption) in known for s in ratings.samples])
    rated = ratings if there.all() else ratings.only(there[ratings.item])
    return measure(rated, scores, arguments, HEADLINE)


def _how(arguments: Arguments) -> str:
    return (
        "All correlations are × 100, each rating a row of its own. "
        f"{resampling_note(arguments.resampling, 'the 18 images')} {RATERS} "
        "Sighted raters rated the same descriptions before (preimg) and after (postimg) they saw the image."
    )


def _question(
    question: str,
    ratings: RatingSet,
    sighted: Mapping[str, RatingSet],
    scores: Scores,
    arguments: Arguments,
) -> tuple[list[str], dict[str, Any]]:
    """The blocks and the data of one question."""
    found = _measure(ratings, scores, arguments)
    beside = {name: _measure(others, scores, arguments) for name, others in sighted.items()}
    partial = _given_length(ratings, scores, arguments)
    blocks = [
        f"## {question}: {QUESTIONS[question]}",
        *agreement_blocks(found, HEADLINE, arguments, averaging="as Kreiss et al. do"),
        _PARTIAL,
        table(["metric", "Pearson given length"], [[name, percent(e)] for name, e in partial.items()]),
    ]
    for name, evidence in beside.items():
        blocks += [f"### {question}, sighted raters ({name})", figures(evidence)]
    data = {
        **evidence_data(found),
        "given_length": {name: estimate.to_dict() for name, estimate in partial.items()},
        "sighted": {name: evidence_data(value) for name, value in beside.items()},
    }
    return blocks, data


def _given_length(ratings: RatingSet, scores: Scores, arguments: Arguments) -> dict[str, Estimate]:
    """Partial Pearson correlation of score and rating given the number of words."""
    of_rows = {name: values[ratings.item] for name, values in scores.of(ratings.samples).items()}
    words = of_rows.pop(LENGTH)
    clusters = np.asarray(ratings.clusters)
    found = {}
    for name, values in of_rows.items():
        keep = ~np.isnan(values)
        result = agreement(
            _residuals(values[keep], words[keep]),
            _residuals(ratings.rating[keep], words[keep]),
            clusters[keep],
            names=[HEADLINE],
            resampling=arguments.resampling,
        )
        found[name] = result.estimates[HEADLINE]
    return found


def _residuals(values: NDArray[np.float64], words: NDArray[np.float64]) -> NDArray[np.float64]:
    design = np.stack([np.ones_like(words), words], axis=1)
    left: NDArray[np.float64] = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return left


def _oracle(overall: RatingSet, scores: Scores) -> tuple[str, dict[str, float]]:
    """The one published figure of this set, from the authors' own scores."""
    if AUTHORS not in scores.values or len(overall.samples) < 3:
        return "The authors' scores are not here for every description.", {}
    means = overall.averaged()
    result = stats.pearsonr(scores.values[AUTHORS][means.item], means.rating)
    r, p = float(result.statistic), float(result.pvalue)
    text = (
        "Pearson correlation of the CLIPScore that the authors computed with the mean overall rating of a "
        f"description: {r:.3f} (p = {p:.2f}); published: {PUBLISHED_PEARSON} (p = {PUBLISHED_P})."
    )
    return text, {"pearson": r, "p": p, "published_pearson": PUBLISHED_PEARSON, "published_p": PUBLISHED_P}


def _chart(found: CorrelationReport) -> Chart:
    estimates = {name: value.estimates[HEADLINE] for name, value in found.agreement.items()}
    return Chart("Blind and low-vision raters: overall value", "Pearson × 100", estimates, {})


if __name__ == "__main__":
    main()
