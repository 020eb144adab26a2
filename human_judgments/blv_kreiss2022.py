"""Kreiss et al. 2022: descriptions of images in articles, rated by blind and low-vision people.

Each question is measured separately: overall value, relevance, irrelevance, image fit, and reconstructivity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from human_judgments.agreement import (
    Block,
    Scores,
    agreement_blocks,
    agreement_data,
    agreement_table,
    conditions,
    introduction,
    report_data,
    report_title,
    score_samples,
)
from human_judgments.in_context import context_agreement, context_blocks, context_scores, residuals
from human_judgments.report import Data, Page, dot_plot, intervals_note, percent
from human_judgments.script import Arguments, script
from i0tscore.errors import InputError, UsageError
from i0tscore.metrics.sample_sets import LENGTH, word_counts
from i0tscore.render.document import Table
from i0tscore.results.correlation import CorrelationName, agreement
from i0tscore.samples.diagnostics import Diagnostics, Record
from i0tscore.samples.flickr8k import image_folder, locate
from i0tscore.samples.rating_sets import KNOWN_SETS, verify
from i0tscore.samples.ratings import RatingScale, RatingSet, rating_set
from i0tscore.samples.schema import RENAME, Schema
from i0tscore.samples.source import Source, read_table
from i0tscore.views.report_views import RATERS_NOTE

HEADLINE: CorrelationName = "pearson"
AUTHORS = "CLIPScore of the authors (ViT-B/32)"
PUBLISHED_PEARSON, PUBLISHED_P = 0.075, 0.55
QUESTIONS = {
    "q_overall": "overall value of the description for someone who cannot see the image",
    "q_relevance": "contains the information that matters",
    "q_irrelevance": "contains no information that does not matter",
    "q_imgfit": "the image fits its article",
    "q_reconstructivity": "the reader can visualize the image",
}

KREISS_FILES = {"blv": "blv_data_criticaltrials.csv", "sighted": "sighted_data_criticaltrials.csv"}
TRIALS = {
    "criticaltrials": ("Critical trials", "The ratings of the sections above."),
    "all": ("All trials", "The critical trials are part of these, so the two tables are not independent."),
}
_WITHOUT_IMAGE = "guitar.png"  # in the file of all trials; the release does not contain the image
AUTHORS_SCORES = "authors_clipscores.csv"

Seen = Literal["preimg", "postimg"]
Trials = Literal["criticaltrials", "all"]

_RATERS = {"blv": "participant", "sighted": "anon_worker_id"}
_ORIGIN = "Kreiss et al. 2022, github.com/elisakreiss/contextual-description-evaluation"
_FIVE_POINTS = RatingScale(1, 5, whole=True)


def render(data: Data) -> Page:
    """Render the report."""
    resamples = data["resampling"]["resamples"]
    blocks: list[Block] = [
        introduction(data),
        f"Correlations × 100, with one row per rating. {intervals_note(data, 'the 18 images')} {RATERS_NOTE} Sighted "
        "raters rated the same descriptions before (preimg) and after (postimg) seeing the image.",
    ]
    for question, found in data["questions"].items():
        blocks += [
            f"## {question}: {QUESTIONS[question]}",
            *agreement_blocks(found, HEADLINE, resamples, averaging="as Kreiss et al. do"),
            "Given length: partial Pearson correlation of score and rating given the number of words (correlation of "
            "the residuals of linear regressions on it).",
            Table(["metric", "Pearson given length"], [[n, percent(e)] for n, e in found["given_length"].items()]),
        ]
        for moment, sighted in found["sighted"].items():
            blocks += [f"### {question}, sighted raters ({moment})", agreement_table(sighted)]
    blocks += context_blocks(data["context"]) if data["context"] else []
    blocks.append("## Check against the published figure")
    if oracle := data["oracle"]:
        blocks.append(
            "Pearson correlation between the authors' own CLIPScore and the mean overall rating of a description: "
            f"{oracle['pearson']:.3f} (p = {oracle['p']:.2f}); published: {oracle['published_pearson']} "
            f"(p = {oracle['published_p']})."
        )
    else:
        blocks.append("The authors' scores are not available for every description.")
    estimates = {name: metric[HEADLINE] for name, metric in data["questions"]["q_overall"]["metrics"].items()}
    figure = dot_plot("Blind and low-vision raters: overall value", "Pearson × 100", estimates)
    return Page(report_title(data), [*blocks, *conditions(data)], figure)


@script("human_judgments.blv_kreiss2022", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Agreement with blind and low-vision raters (Kreiss et al. 2022), separately for each question."""
    known = KNOWN_SETS["blv_kreiss2022"]
    file = locate(arguments.folder(), (KREISS_FILES["blv"],), known.origin)
    sets = {question: _read(arguments, file, question) for question in QUESTIONS}
    files = {name: file.with_name(name) for name in known.hashes if (file.parent / name).is_file()}
    overall = sets["q_overall"][0]
    differing = verify(overall.counts, known, file, files, allow_other_counts=arguments.allow_other_counts)
    scores = score_samples(overall.samples, arguments)
    _add_columns(scores, read_authors_scores(file.parent))
    questions = {
        question: {
            **_agreement(ratings, scores, arguments),
            "given_length": _given_length(ratings, scores, arguments),
            "sighted": {moment: _agreement(others, scores, arguments) for moment, others in sighted.items()},
        }
        for question, (ratings, sighted) in sets.items()
    }
    figures = {
        "headline": HEADLINE,
        "questions": questions,
        "context": _context(arguments, file.parent),
        "oracle": _oracle(overall, scores),
    }
    notes = [*overall.notes, *differing, *scores.notes, *known.remarks]
    return report_data(known, arguments, overall.counts, scores, figures, notes)


def _read(arguments: Arguments, file: Path, question: str) -> tuple[RatingSet, dict[str, RatingSet]]:
    """Return the ratings of one question, and those of the same descriptions by sighted people."""

    def read(**options: Any) -> RatingSet:
        look_up = arguments.model is not None
        ratings = read_kreiss(file.parent, question, images=arguments.images, look_up=look_up, **options)
        return replace(ratings, parts={})  # topics have only three images each

    ratings = read()
    moments = ("preimg",) if question == "q_reconstructivity" else ("preimg", "postimg")
    sighted = {seen: same_descriptions(read(raters="sighted", seen=seen), ratings) for seen in moments}
    return ratings if arguments.limit is None else ratings.limited(arguments.limit), sighted


def _add_columns(scores: Scores, authors: Mapping[str, float]) -> None:
    """Add the number of words and the authors' CLIPScore to the metrics."""
    captions = [sample.caption for sample in scores.samples]
    scores.values[LENGTH] = word_counts(scores.samples)
    if all(caption in authors for caption in captions):
        scores.values[AUTHORS] = np.array([authors[caption] for caption in captions])
    else:
        scores.unavailable[AUTHORS] = f"{AUTHORS_SCORES} lacks some descriptions"


def _agreement(ratings: RatingSet, scores: Scores, arguments: Arguments) -> dict[str, Any]:
    known = {(sample.image.name, sample.caption) for sample in scores.samples}
    scored = np.array([(s.image.name, s.caption) in known for s in ratings.samples])
    return agreement_data(ratings.only(scored[ratings.item]), scores, arguments, HEADLINE)


def _given_length(ratings: RatingSet, scores: Scores, arguments: Arguments) -> dict[str, Data]:
    """Return the partial Pearson correlation of score and rating given the number of words, by metric."""
    columns = {name: values[ratings.item] for name, values in scores.of(ratings.samples).items()}
    words = columns.pop(LENGTH)
    clusters = np.asarray(ratings.clusters)
    found: dict[str, Data] = {}
    for name, values in columns.items():
        keep = ~np.isnan(values)
        result = agreement(
            residuals(values[keep], words[keep]),
            residuals(ratings.rating[keep], words[keep]),
            clusters[keep],
            names=[HEADLINE],
            resampling=arguments.resampling,
        )
        found[name] = result.estimates[HEADLINE].to_dict()
    return found


def _oracle(overall: RatingSet, scores: Scores) -> dict[str, float]:
    """Return the one published figure of this set, computed from the authors' own scores; empty without them."""
    if AUTHORS not in scores.values or len(overall.samples) < 3:
        return {}
    means = overall.averaged()
    result = stats.pearsonr(scores.values[AUTHORS][means.item], means.rating)
    return {
        "pearson": float(result.statistic),
        "p": float(result.pvalue),
        "published_pearson": PUBLISHED_PEARSON,
        "published_p": PUBLISHED_P,
    }


def _context(arguments: Arguments, folder: Path) -> Data:
    """Return the agreement of scores by context, for the trials of each file; empty without a model."""
    if arguments.model is None:
        return {}
    found: Data = {}
    every: tuple[Trials, ...] = ("criticaltrials", "all")
    for trials in every if (folder / "blv_data_all.csv").is_file() else every[:1]:
        first = read_kreiss(folder, images=arguments.images, trials=trials)
        titles = [first.parts["category"][row] for row in np.unique(first.item, return_index=True)[1]]
        columns = context_scores(first.samples, titles, arguments)
        row_of = {(sample.image.name, sample.caption): row for row, sample in enumerate(first.samples)}
        questions: dict[str, dict[str, Data]] = {}
        for question in QUESTIONS:
            for raters, seen in (("blv", "postimg"), ("sighted", "preimg"), ("sighted", "postimg")):
                if raters == "sighted" and seen == "postimg" and question == "q_reconstructivity":
                    continue  # sighted raters answered it only before seeing the image
                settings: dict[str, Any] = {"raters": raters, "seen": seen, "trials": trials}
                own = same_descriptions(read_kreiss(folder, question, images=arguments.images, **settings), first)
                rows = [row_of[sample.image.name, sample.caption] for sample in own.samples]
                words = np.array([float(len(sample.caption.split())) for sample in own.samples])
                scores = {name: values[rows] for name, values in columns.items()}
                who = "blind and low-vision raters" if raters == "blv" else f"sighted raters ({seen})"
                articles = [titles[row] for row in rows]
                measured = context_agreement(scores, words, own, articles, arguments)
                questions.setdefault(question, {})[who] = measured
        counts = {"ratings": first.n, "descriptions": len(first.samples), "articles": len(set(titles))}
        title, remark = TRIALS[trials]
        found = {**found, trials: {"title": title, "remark": remark, "counts": counts, "questions": questions}}
    return found


def read_kreiss(
    data: Path,
    question: str = "q_overall",
    *,
    raters: Literal["blv", "sighted"] = "blv",
    seen: Seen = "postimg",
    images: Path | None = None,
    look_up: bool = True,
    trials: Trials = "criticaltrials",
) -> RatingSet:
    """Read the ratings of one question, 1–5, of descriptions of images in articles.

    Higher is better for every question: in ``q_irrelevance``, 5 means no irrelevant detail. A group is one image in one
    article; categories are the titles of the articles, whose texts are the contexts.

    Args:
        data: Folder of the two CSV files, or the folder that contains it.
        question: One of ``QUESTIONS``.
        raters: Blind and low-vision raters, or sighted ones.
        seen: Whether sighted raters answered before or after seeing the image.
        images: Folder of the images; ``images`` next to the files if None.
        look_up: Whether to look up the images.
        trials: The critical trials, or all trials whose image the release contains.
    """
    if question not in QUESTIONS:
        raise UsageError(f"Expected one of the questions {', '.join(QUESTIONS)}, got {question!r}.")
    # Sighted raters answered q_reconstructivity only before seeing the image.
    column = question if raters == "blv" else f"{question}.{'preimg' if 'reconstr' in question else seen}"
    diagnostics = Diagnostics()
    file = locate(data, (f"{raters}_data_{trials}.csv",), _ORIGIN)
    sighted = locate(file.parent, (f"sighted_data_{trials}.csv",), _ORIGIN)
    names, ids = _image_files(sighted, diagnostics)
    rows = []
    for location, record in _table(
        file, diagnostics, ("context", "article_text", "img_id", "description", column, _RATERS[raters])
    ):
        name, context = record["img_id"], record["context"]
        if name not in names:  # two images have other ids in the two files of all trials
            name = ids.get(record["description"], name)
        if names.get(name) == _WITHOUT_IMAGE:
            continue
        if name not in names:
            message = f"{sighted.name} has no file of the image {name!r}. Correct it."
            diagnostics.row_error(location, message)
            continue
        row = {
            "image": names[name],
            "caption": record["description"],
            "context": record["article_text"],
            "rating": record[column],
            "cluster": name,
            "rater": record[_RATERS[raters]],
            "group": f"{context}/{name}",
            "category": context,
        }
        rows.append((location, row))
    folder = image_folder(images, file, ("images",), look_up=look_up)
    name = f"blv_kreiss2022 {raters} {column}"
    return rating_set(file, name, rows, diagnostics, folder=folder, scale=_FIVE_POINTS)


def same_descriptions(ratings: RatingSet, others: RatingSet) -> RatingSet:
    """Return the rows of ``ratings`` whose description ``others`` rates as well, in the same group."""
    rated = {(others.groups or ())[row] + others.samples[i].caption for row, i in enumerate(others.item)}
    groups = ratings.groups or ()
    keep = [groups[row] + ratings.samples[i].caption in rated for row, i in enumerate(ratings.item)]
    return ratings.only(np.array(keep))


def read_authors_scores(data: Path) -> dict[str, float]:
    """Read the CLIPScore that Kreiss et al. computed, by description."""
    file = locate(data, (AUTHORS_SCORES,), _ORIGIN)
    diagnostics = Diagnostics()
    records = _table(file, diagnostics, ("texts", "clipscore"))
    if not records or diagnostics.any:
        raise InputError(f"{file}: expected scores, found none. Download the file again.")
    return {record["texts"]: float(record["clipscore"]) for _, record in records}


def _image_files(file: Path, diagnostics: Diagnostics) -> tuple[dict[str, str], dict[str, str]]:
    """Return the image file by image id, which only the sighted raters' table has, and the image id by description."""
    records = [record for _, record in _table(file, diagnostics, ("img_id", "img_file", "description"))]
    files = {record["img_id"]: record["img_file"] for record in records}
    return files, {record["description"]: record["img_id"] for record in records}


def _table(file: Path, diagnostics: Diagnostics, needed: tuple[str, ...]) -> list[Record]:
    schema = Schema({name: (name,) for name in needed}, {(name,): RENAME for name in needed})
    return read_table(Source(file, diagnostics, schema))


if __name__ == "__main__":
    main()
