"""FOIL: a caption against the same caption with one wrong word; published with accuracy."""

from __future__ import annotations

from pathlib import Path

import click

from human_judgments.agreement import rating_script

main = rating_script(
    "foil",
    click.option("--captions", type=click.Path(path_type=Path), help="COCO's captions_val2014.json, for references."),
    click.option("--every-pair", is_flag=True, help="Use every foil instead of one per image."),
)

if __name__ == "__main__":
    main()
