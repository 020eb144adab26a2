"""Composite: correctness 1–5 of captions of Flickr8k, Flickr30k and COCO; τ-c is the figure."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.known_sets import report_known_table
from human_judgments.report import Report

REMARKS = ("the rated caption is left out of the references of its image (the protocol of CLIPScore)",)


@script("human_judgments.composite")
def main(arguments: Arguments) -> Report:
    """Agreement with Composite (a table in --data, or yuwd/Composite from the hub)."""
    return report_known_table("composite", arguments, headline="tau_c", remarks=REMARKS)


if __name__ == "__main__":
    main()
