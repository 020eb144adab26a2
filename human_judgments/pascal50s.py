"""Pascal-50S: which of two captions 48 people find closer to the image; published with accuracy by kind of pair."""

from __future__ import annotations

import click

from human_judgments.agreement import rating_script

main = rating_script(
    "pascal50s",
    click.option("--references", type=click.IntRange(min=1), default=5, show_default=True, help="References per pair."),
)

if __name__ == "__main__":
    main()
