"""Any table with image, caption and rating, or ratings in CLIPScore's JSON form."""

from __future__ import annotations

import json
from pathlib import Path

import click

from human_judgments.arguments import Arguments, script
from human_judgments.rating_sets import KnownSet
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.errors import InputError
from i0tscore.results.correlation import CORRELATIONS, CorrelationName
from i0tscore.samples.flickr8k import read_clipscore_json
from i0tscore.samples.ratings import read_rating_table


@script(
    "human_judgments.table",
    click.option("--headline", type=click.Choice(CORRELATIONS), default="tau_c", show_default=True),
)
def main(arguments: Arguments, headline: CorrelationName) -> Report:
    """Agreement with your own ratings: a table with image, caption, rating (--data, --images)."""
    file = arguments.required_data("a table with the columns image, caption and rating")
    images = arguments.images
    if arguments.needs_images and images is None:
        images = file if file.is_dir() else file.parent
    if _is_clipscore_json(file):
        ratings = read_clipscore_json(file, images if arguments.needs_images else None)
    else:
        ratings = read_rating_table(file, images=images if arguments.needs_images else None)
    known = KnownSet(file.stem, file.stem, f"the file {file.name}", {})
    return report_ratings(known, ratings, arguments, path=file, headline=headline)


def _is_clipscore_json(file: Path) -> bool:
    """Whether a JSON file holds an object of images by id; what cannot be parsed is told by the reader."""
    if file.suffix.lower() != ".json":
        return False
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): check the path") from error
    except (ValueError, RecursionError):
        return False


if __name__ == "__main__":
    main()
