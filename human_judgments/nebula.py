"""Nebula: ratings in [0, 1] of captions that may hallucinate; τ-b and τ-c are the figures."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.samples.rating_sets import KNOWN_SETS, read_known_table

REMARKS = ("the test split as served, without the later corrections of some of its ratings",)


@script("nebula")
def main(arguments: Arguments) -> Report:
    """Agreement with Nebula (a table in --data, or Ka2ukiMatsuda/Nebula from the hub)."""
    known = KNOWN_SETS["nebula"]
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
