"""FOIL: a caption against the same caption with one wrong word; published with accuracy."""

from __future__ import annotations

from pathlib import Path

import click

from human_judgments.agreement import measure_preferences, render
from human_judgments.preferences import read_foil
from human_judgments.report import Data
from human_judgments.script import Arguments, script
from i0tscore.errors import InputError
from i0tscore.samples.flickr8k import locate


@script(
    "human_judgments.foil",
    render,
    click.option("--captions", type=click.Path(path_type=Path), help="COCO's captions_val2014.json, for references."),
    click.option("--every-pair", is_flag=True, help="Use every foil instead of one per image."),
)
def main(arguments: Arguments, captions: Path | None, every_pair: bool) -> tuple[str, Data]:
    """Accuracy on FOIL (foilv1.0_test_2017.json in --data, COCO's val2014 in --images)."""
    data = arguments.required_data("foilv1.0_test_2017.json, or its folder")
    file = locate(data, ("foilv1.0_test_2017.json", "*foil*.json"), "Shekhar et al., ACL 2017")
    if captions is not None and not captions.is_file():
        raise InputError(f"{captions}: no such file. Check the path.")
    pairs = read_foil(file, captions=captions, images=arguments.images, every_pair=every_pair)
    return measure_preferences("foil", pairs, arguments, path=file)


if __name__ == "__main__":
    main()
