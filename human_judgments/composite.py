"""Composite: correctness 1–5 of captions of Flickr8k, Flickr30k and COCO; τ-c is the figure."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.samples.rating_sets import KNOWN_SETS, read_known_table

REMARKS = ("the rated caption is left out of the references of its image (the protocol of CLIPScore)",)


@script("composite")
def main(arguments: Arguments) -> Report:
    """Agreement with Composite (a table in --data, or yuwd/Composite from the hub)."""
    known = KNOWN_SETS["composite"]
    ratings, path = read_known_table(
        known,
        arguments.data,
        arguments.images,
        look_up=arguments.needs_images,
        offline=arguments.offline,
    )
    return report_ratings(known, ratings, arguments, path=path, headline="tau_c", remarks=REMARKS)


if __name__ == "__main__":
    main()
