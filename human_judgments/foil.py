"""FOIL: a caption against the same caption with one wrong word; accuracy."""

from __future__ import annotations

from pathlib import Path

import click

from human_judgments.arguments import Arguments, script
from human_judgments.preferences import read_foil
from human_judgments.rating_sets import KNOWN_SETS
from human_judgments.report import Report
from human_judgments.run import report_pairs
from i0tscore.errors import InputError
from i0tscore.samples.flickr8k import locate

REMARKS = ("the true caption is left out of the references of its image",)


@script(
    "human_judgments.foil",
    click.option("--captions", type=click.Path(path_type=Path), help="COCO's captions_val2014.json, for references."),
    click.option("--every-pair", is_flag=True, help="Every foil, not one an image."),
)
def main(arguments: Arguments, captions: Path | None, every_pair: bool) -> Report:
    """Accuracy on FOIL (foilv1.0_test_2017.json in --data, COCO's val2014 in --images)."""
    known = KNOWN_SETS["foil"]
    data = arguments.required_data("foilv1.0_test_2017.json, or its folder")
    file = locate(data, ("foilv1.0_test_2017.json", "*foil*.json"), known.origin)
    if captions is not None and not captions.is_file():
        raise InputError(f"{captions}: no such file: check the path")
    pairs = read_foil(file, captions=captions, images=arguments.images, every_pair=every_pair)
    return report_pairs(known, pairs, arguments, path=file, remarks=REMARKS)


if __name__ == "__main__":
    main()
