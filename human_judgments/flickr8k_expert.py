"""Flickr8k-Expert: three expert ratings of each pair, not averaged; τ-c is the published figure."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.samples.rating_flickr8k import CAPTIONS_FILE, EXPERT_FILES, read_flickr8k_expert
from i0tscore.samples.rating_sets import KNOWN_SETS, read_known_table

REMARKS = (
    "each of the three ratings of a pair is a row of its own; pairs whose caption is one of the image's own "
    "five are left out; the references of an image are its five captions (the protocol of CLIPScore)",
)


@script("flickr8k_expert")
def main(arguments: Arguments) -> Report:
    """Agreement with Flickr8k-Expert (its text files or flickr8k.json, else from the hub)."""
    known = KNOWN_SETS["flickr8k_expert"]
    file = arguments.local_file(EXPERT_FILES, known.origin)
    if file is None:
        ratings, path = read_known_table(known, None, offline=arguments.offline)
        return report_ratings(known, ratings, arguments, path=path, headline="tau_c", remarks=REMARKS)
    ratings = read_flickr8k_expert(file, arguments.images, look_up=arguments.needs_images)
    names = () if file.suffix == ".json" else (file.name, CAPTIONS_FILE)
    files = {name: file.with_name(name) for name in names}
    return report_ratings(
        known, ratings, arguments, path=file, files=files, headline="tau_c", remarks=REMARKS
    )


if __name__ == "__main__":
    main()
