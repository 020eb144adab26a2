"""Your own ratings: a table with image, caption and rating, or CLIPScore's JSON format."""

from __future__ import annotations

import json
from pathlib import Path

import click

from human_judgments.agreement import measure_agreement, render
from human_judgments.report import Data
from human_judgments.script import Arguments, script
from i0tscore.errors import InputError
from i0tscore.results.correlation import CORRELATIONS
from i0tscore.samples.flickr8k import read_clipscore_json
from i0tscore.samples.rating_sets import Headline, KnownSet
from i0tscore.samples.ratings import read_rating_table


@script(
    "human_judgments.table",
    render,
    click.option(
        "--headline",
        type=click.Choice(CORRELATIONS),
        default="tau_c",
        show_default=True,
        help="Correlation of the differences, parts and figure.",
    ),
)
def main(arguments: Arguments, headline: Headline) -> tuple[str, Data]:
    """Agreement with your own ratings: a table with image, caption and rating (--data, --images)."""
    file = arguments.required_data("a table with the columns image, caption and rating")
    images = None
    if arguments.model is not None:
        images = arguments.images or (file if file.is_dir() else file.parent)
    ratings = read_clipscore_json(file, images) if _is_clipscore_json(file) else read_rating_table(file, images=images)
    known = KnownSet(file.stem, file.stem, f"the file {file.name}", headline=headline)
    return measure_agreement(known, ratings, arguments, path=file)


def _is_clipscore_json(file: Path) -> bool:
    """Return whether a JSON file holds an object of images by id; readers report what cannot be parsed."""
    if file.suffix.lower() != ".json":
        return False
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}). Check the path.") from error
    except (ValueError, RecursionError):
        return False


if __name__ == "__main__":
    main()
