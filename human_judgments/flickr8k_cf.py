"""Flickr8k-CF: share of crowd workers who say that a caption describes an image; published with τ-b."""

from __future__ import annotations

import click

from human_judgments.agreement import rating_script

main = rating_script(
    "flickr8k_cf",
    click.option(
        "--drop",
        type=click.Choice(("rated", "own")),
        default="rated",
        show_default=True,
        help="Captions of an image that are no references: every one that was rated for it, as published, or only that "
        "of the row.",
    ),
)

if __name__ == "__main__":
    main()
