"""Ratings by blind and low-vision people, and sighted ones beside them: Kreiss et al. 2022."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from i0tscore.errors import InputError, UsageError
from i0tscore.samples.diagnostics import Diagnostics, Record
from i0tscore.samples.flickr8k import image_folder, locate
from i0tscore.samples.ratings import RatingScale, RatingSet, rating_set
from i0tscore.samples.schema import RENAME, Schema
from i0tscore.samples.text import read_table

KREISS_FILES = {"blv": "blv_data_criticaltrials.csv", "sighted": "sighted_data_criticaltrials.csv"}
KREISS_QUESTIONS = ("q_overall", "q_relevance", "q_irrelevance", "q_imgfit", "q_reconstructivity")
AUTHORS_SCORES = "authors_clipscores.csv"

Seen = Literal["preimg", "postimg"]

_RATERS = {"blv": "participant", "sighted": "anon_worker_id"}
_ORIGIN = "Kreiss et al. 2022, github.com/elisakreiss/contextual-description-evaluation"
_FIVE_POINTS = RatingScale(1, 5, whole=True)


def read_kreiss(
    data: Path,
    question: str = "q_overall",
    *,
    raters: Literal["blv", "sighted"] = "blv",
    seen: Seen = "postimg",
    images: Path | None = None,
    look_up: bool = True,
) -> RatingSet:
    """Read the ratings of one question, 1–5, of descriptions of images in articles.

    Higher is better for every question: in ``q_irrelevance`` 5 stands for no irrelevant detail.
    Groups are one image in one article; categories are the articles.

    Args:
        data: The folder of the two CSV files, or the folder that holds it.
        question: One of ``KREISS_QUESTIONS``.
        raters: Blind and low-vision raters, or sighted ones.
        seen: For sighted raters, their answer before or after they saw the image.
        images: The images' folder; ``images`` beside the files if left out.
        look_up: Whether to look for the images.
    """
    if question not in KREISS_QUESTIONS:
        raise UsageError(f"no question {question!r}; there are {', '.join(KREISS_QUESTIONS)}")
    # How well one can picture the image was asked before it was shown, and only then.
    column = question if raters == "blv" else f"{question}.{'preimg' if 'reconstr' in question else seen}"
    diagnostics = Diagnostics()
    file = locate(data, (KREISS_FILES[raters],), _ORIGIN)
    names = _image_files(locate(file.parent, (KREISS_FILES["sighted"],), _ORIGIN), diagnostics)
    rows = []
    for location, record in _table(file, diagnostics, ("context", "img_id", "description", column, _RATERS[raters])):
        name, context = record["img_id"], record["context"]
        if name not in names:
            message = f"{KREISS_FILES['sighted']} has no file of the image {name!r}. Correct it."
            diagnostics.row_error(location, message)
            continue
        row = {
            "image": names[name],
            "caption": record["description"],
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
    """The rows of ``ratings`` that rate what ``others`` rates as well, in the same group."""
    wanted = {(others.groups or ())[row] + others.samples[i].caption for row, i in enumerate(others.item)}
    groups = ratings.groups or ()
    keep = [groups[row] + ratings.samples[i].caption in wanted for row, i in enumerate(ratings.item)]
    return ratings.only(np.array(keep))


def read_authors_scores(data: Path) -> dict[str, float]:
    """Read the CLIPScore that Kreiss et al. computed, by description."""
    file = locate(data, (AUTHORS_SCORES,), _ORIGIN)
    diagnostics = Diagnostics()
    records = _table(file, diagnostics, ("texts", "clipscore"))
    if not records or diagnostics.any:
        raise InputError(f"{file}: no scores could be read: get the file anew")
    return {record["texts"]: float(record["clipscore"]) for _, record in records}


def _image_files(file: Path, diagnostics: Diagnostics) -> dict[str, str]:
    """The image file of each image id, which only the sighted raters' table has."""
    return {record["img_id"]: record["img_file"] for _, record in _table(file, diagnostics, ("img_id", "img_file"))}


def _table(file: Path, diagnostics: Diagnostics, needed: tuple[str, ...]) -> list[Record]:
    schema = Schema({name: (name,) for name in needed}, {(name,): RENAME for name in needed})
    return read_table(file, ",", diagnostics, lambda header: schema.check(header, diagnostics))
