"""Eye4B and VL-GuideData: blind and low-vision people's ratings of descriptions for navigation.

The ratings are not public. Reader and script take the CSV forms that the authors' code reads and are
tested on made-up rows of those forms; no figure has been made with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from human_judgments.arguments import Arguments, script
from human_judgments.rating_sets import KNOWN_SETS
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.samples.diagnostics import Diagnostics, Record
from i0tscore.samples.flickr8k import locate
from i0tscore.samples.formats import RENAME, Schema, fields_of, read_records
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.ratings import RatingScale, RatingSet, rating_set

REMARKS = ("the ratings of this set are not public: counts and hashes of the whole set are not known here",)

EYE4B_RATINGS = {
    "strongly agree": 1.0,
    "agree": 0.75,
    "neutral": 0.5,
    "disagree": 0.25,
    "strongly disagree": 0.0,
}

_HIGHEST_SCORE = 5


@script(
    "human_judgments.blv_eye4b",
    click.option("--criterion", help="One of the column criterion, where there is one."),
    click.option("--response-only", is_flag=True, help="Score the response without the request before it."),
)
def main(arguments: Arguments, criterion: str | None, response_only: bool) -> Report:
    """Agreement with Eye4B or VL-GuideData (a CSV file in --data; not public, not run)."""
    known = KNOWN_SETS["blv_eye4b"]
    data = arguments.required_data("a CSV file with img_dir, request, gpt_txt, accuracy or txt, score")
    file = locate(data, ("gp_overall.csv", "*.csv"), known.origin)
    ratings = read_eye4b(file, images=arguments.images, with_request=not response_only, criterion=criterion)
    text = "the response alone" if response_only else "the request and the response"
    remarks = (*REMARKS, f"the scored text is {text}")
    return report_ratings(known, ratings, arguments, path=file, headline="tau_c", remarks=remarks)


def read_eye4b(
    path: Path, *, images: Path | None = None, with_request: bool = True, criterion: str | None = None
) -> RatingSet:
    """Read either CSV form of Eye4B and VL-GuideData; their ratings are not public.

    ``img_dir, request, gpt_txt, accuracy`` with accuracy in words, or ``img_dir, request, txt, score``
    with scores up to 5, which are divided by 5. A column ``criterion`` (afraidness, nonactionability,
    sufficiency, conciseness, overall) gives the categories. Groups are one request about one image.

    Args:
        path: The CSV file.
        images: The images' folder; None takes their names without looking for the files.
        with_request: Whether the scored text holds the request before the response, as the authors'
            code has it, or the response alone.
        criterion: Keep this criterion only.
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
    schema = Schema(columns, {(name,): RENAME for name in ("image", "caption", "rating")}, columns["image"])
    records = read_records(path, schema, diagnostics)
    chosen = schema.choose(fields_of(records))
    in_words = chosen.get("rating") == "accuracy"
    scale = RatingScale(0, 1, words=EYE4B_RATINGS) if in_words else RatingScale(0, _HIGHEST_SCORE)
    rows = _descriptions(records, chosen, criterion, with_request=with_request)
    folder = None if images is None else ImageFolder(images)
    found = rating_set(path, f"blv_eye4b {path.stem}", rows, diagnostics, folder=folder, scale=scale)
    return found if in_words else replace(found, rating=found.rating / _HIGHEST_SCORE)


def _descriptions(
    records: list[Record], chosen: Mapping[str, str], criterion: str | None, *, with_request: bool
) -> list[Record]:
    rows: list[Record] = []
    for location, record in records:
        row: dict[str, Any] = {field: record.get(name) for field, name in chosen.items()}
        if criterion is not None and row.get("category") != criterion:
            continue
        request, text = str(row.get("request") or "").strip(), row.get("caption")
        if with_request and request and isinstance(text, str) and text.strip():
            row["caption"] = f"Request: {request}\nResponse: {text}"
        image = row.get("image")
        row |= {"cluster": image, "group": f"{row.get('category') or ''}|{image}|{request}"}
        rows.append((location, row))
    return rows


if __name__ == "__main__":
    main()
