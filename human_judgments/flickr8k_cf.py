"""Flickr8k-CF: the share of crowd workers who say that a caption describes an image; τ-b is the figure."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.samples.rating_flickr8k import CAPTIONS_FILE, CROWD_FILES, read_flickr8k_crowd
from i0tscore.samples.rating_sets import KNOWN_SETS, read_known_table

REMARKS = (
    "every pair counts, its rating is the share of workers who answered yes; the references of an image are "
    "its five captions without the rated one (the protocol of CLIPScore)",
)


@script("flickr8k_cf")
def main(arguments: Arguments) -> Report:
    """Agreement with Flickr8k-CF (its text files or crowdflower_flickr8k.json, else from the hub)."""
    known = KNOWN_SETS["flickr8k_cf"]
    file = arguments.local_file(CROWD_FILES, known.origin)
    if file is None:
        ratings, path = read_known_table(known, None, offline=arguments.offline)
        return report_ratings(known, ratings, arguments, path=path, headline="tau_b", remarks=REMARKS)
    ratings = read_flickr8k_crowd(file, arguments.images, look_up=arguments.needs_images)
    files = {} if file.suffix == ".json" else {CAPTIONS_FILE: file.with_name(CAPTIONS_FILE)}
    return report_ratings(
        known, ratings, arguments, path=file, files=files, headline="tau_b", remarks=REMARKS
    )


if __name__ == "__main__":
    main()
