"""Eye4B and VL-GuideData: blind and low-vision people's ratings of descriptions for navigation.

The ratings are not public. The reader accepts the CSV formats that the authors' code reads; it is tested on made-up
rows, and no figure has been computed with it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from human_judgments.agreement import measure_agreement, render
from human_judgments.report import Data
from human_judgments.script import Arguments, script
from i0tscore.samples.diagnostics import Diagnostics, Record
from i0tscore.samples.flickr8k import locate
from i0tscore.samples.formats import read_records
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.rating_sets import KNOWN_SETS
from i0tscore.samples.ratings import RatingScale, RatingSet, rating_set
from i0tscore.samples.schema import RENAME, Schema, fields_of

AGREEMENT = {"strongly agree": 1.0, "agree": 0.75, "neutral": 0.5, "disagree": 0.25, "strongly disagree": 0.0}
"""Ratings of the answers of Eye4B."""

_HIGHEST_SCORE = 5


@script(
    "human_judgments.blv_eye4b",
    render,
    click.option("--criterion", help="Use only this value of the column criterion."),
    click.option("--response-only", is_flag=True, help="Score the response without the request before it."),
)
def main(arguments: Arguments, criterion: str | None, response_only: bool) -> tuple[str, Data]:
    """Agreement with Eye4B or VL-GuideData (a CSV file in --data; the ratings are not public)."""
    known = KNOWN_SETS["blv_eye4b"]
    data = arguments.required_data("a CSV file with img_dir, request, gpt_txt, accuracy or txt, score")
    file = locate(data, ("gp_overall.csv", "*.csv"), known.origin)
    ratings = read_eye4b(file, images=arguments.images, with_request=not response_only, criterion=criterion)
    text = "the response alone" if response_only else "the request and the response"
    return measure_agreement(known, ratings, arguments, path=file, remarks=(f"the scored text is {text}",))


def read_eye4b(
    path: Path, *, images: Path | None = None, with_request: bool = True, criterion: str | None = None
) -> RatingSet:
    """Read Eye4B or VL-GuideData.

    The columns are ``img_dir, request, gpt_txt, accuracy`` with accuracy in words, or ``img_dir, request, txt,
    score`` with scores up to 5, which are divided by 5. A column ``criterion`` (afraidness, nonactionability,
    sufficiency, conciseness, overall) gives the categories. A group is one request about one image.

    Args:
        path: The CSV file.
        images: Folder of the images; if None, names are not looked up.
        with_request: Whether the scored text has the request before the response, as in the authors' code.
        criterion: Keep only this criterion.
    """
    diagnostics = Diagnostics()
    columns = {
        "image": ("img_dir",),
        "caption": ("gpt_txt", "txt"),
        "rating": ("accuracy", "score"),
        "category": ("criterion",),
        "request": ("request",),
        "rater": ("rater",),
    }
    schema = Schema(columns, {(name,): RENAME for name in ("image", "caption", "rating")}, numbers=("rating",))
    records = read_records(path, schema, diagnostics)
    chosen = schema.choose(fields_of(records))
    in_words = chosen.get("rating") == "accuracy"
    scale = RatingScale(0, 1, words=AGREEMENT) if in_words else RatingScale(0, _HIGHEST_SCORE)
    rows: list[Record] = []
    for location, record in records:
        row: dict[str, Any] = {field: record.get(name) for field, name in chosen.items()}
        image, category, text = row.get("image"), row.get("category"), row.get("caption")
        if criterion is not None and category != criterion:
            continue
        request = str(row.get("request") or "").strip()
        if with_request and request and isinstance(text, str) and text.strip():
            row["caption"] = f"Request: {request}\nResponse: {text}"
        rows.append((location, row | {"cluster": image, "group": f"{category or ''}|{image}|{request}"}))
    folder = None if images is None else ImageFolder(images)
    ratings = rating_set(path, f"blv_eye4b {path.stem}", rows, diagnostics, folder=folder, scale=scale)
    return ratings if in_words else replace(ratings, rating=ratings.rating / _HIGHEST_SCORE)


if __name__ == "__main__":
    main()
