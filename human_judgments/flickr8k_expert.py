"""Flickr8k-Expert: three expert ratings of each pair, not averaged; τ-c is the published figure."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.known_sets import report_flickr8k
from human_judgments.report import Report
from i0tscore.samples.flickr8k import EXPERT_FILES, read_flickr8k_expert

REMARKS = (
    "each of the three ratings of a pair is a row of its own; pairs whose caption is one of the image's own "
    "five are left out; the references of an image are its five captions (the protocol of CLIPScore)",
)


@script("human_judgments.flickr8k_expert")
def main(arguments: Arguments) -> Report:
    """Agreement with Flickr8k-Expert (its text files or flickr8k.json, else from the hub)."""
    return report_flickr8k(
        "flickr8k_expert",
        arguments,
        read_flickr8k_expert,
        names=EXPERT_FILES,
        headline="tau_c",
        remarks=REMARKS,
    )


if __name__ == "__main__":
    main()
