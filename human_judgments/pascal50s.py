"""Pascal-50S: which of two captions 48 people find closer to the image; published with accuracy by kind of pair."""

from __future__ import annotations

import click

from human_judgments.agreement import measure_preferences, render
from human_judgments.preferences import read_preferences
from human_judgments.report import Data
from human_judgments.script import Arguments, script
from i0tscore.samples.flickr8k import locate


@script(
    "human_judgments.pascal50s",
    render,
    click.option("--references", type=click.IntRange(min=1), default=5, show_default=True, help="References per pair."),
)
def main(arguments: Arguments, references: int) -> tuple[str, Data]:
    """Accuracy on Pascal-50S in CLIPScore's JSON format (--data, --images)."""
    data = arguments.required_data("the JSON file of Pascal-50S, or its folder")
    file = locate(data, ("*pascal*.json", "*pascal*.jsonl"), "Vedantam et al., CVPR 2015")
    pairs = read_preferences(file, name="pascal50s", images=arguments.images, references=references)
    return measure_preferences("pascal50s", pairs, arguments, path=file)


if __name__ == "__main__":
    main()
