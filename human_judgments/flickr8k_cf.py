"""Flickr8k-CF: the share of crowd workers who say that a caption describes an image; τ-b is the figure."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.crowdflower import CROWD_FILES, read_flickr8k_crowd
from human_judgments.known_sets import report_flickr8k
from human_judgments.report import Report

REMARKS = (
    "every pair counts, its rating is the share of workers who answered yes; the references of an image are "
    "its five captions without the rated one (the protocol of CLIPScore)",
)


@script("human_judgments.flickr8k_cf")
def main(arguments: Arguments) -> Report:
    """Agreement with Flickr8k-CF (its text files or crowdflower_flickr8k.json, else from the hub)."""
    return report_flickr8k(
        "flickr8k_cf", arguments, read_flickr8k_crowd, names=CROWD_FILES, headline="tau_b", remarks=REMARKS
    )


if __name__ == "__main__":
    main()
