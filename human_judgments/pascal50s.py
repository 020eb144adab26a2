"""Pascal-50S: which of two captions 48 people find closer to the image; accuracy by kind of pair."""

from __future__ import annotations

import click

from human_judgments.arguments import Arguments, script
from human_judgments.preferences import read_preferences
from human_judgments.rating_sets import KNOWN_SETS
from human_judgments.report import Report
from human_judgments.run import report_pairs
from i0tscore.samples.flickr8k import locate

REMARKS = (
    "HC two right human captions, HI a right and a wrong human caption, HM a human and a machine caption, MM "
    "two machine captions; the published figures break ties of scores at random and take five random "
    "references five times, here ties count half and the first references are taken",
)


@script(
    "human_judgments.pascal50s",
    click.option("--references", type=click.IntRange(min=1), default=5, show_default=True, help="References a pair."),
)
def main(arguments: Arguments, references: int) -> Report:
    """Agreement with Pascal-50S in CLIPScore's JSON form (--data, --images)."""
    known = KNOWN_SETS["pascal50s"]
    data = arguments.required_data("the JSON file of Pascal-50S, or its folder")
    file = locate(data, ("*pascal*.json", "*pascal*.jsonl"), known.origin)
    pairs = read_preferences(file, name="pascal50s", images=arguments.images, references=references)
    return report_pairs(known, pairs, arguments, path=file, remarks=REMARKS)


if __name__ == "__main__":
    main()
