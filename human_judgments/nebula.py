"""Nebula: ratings in [0, 1] of captions that may hallucinate; τ-b and τ-c are the figures."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.known_sets import report_known_table
from human_judgments.report import Report

REMARKS = ("the test split as served, without the later corrections of some of its ratings",)


@script("human_judgments.nebula")
def main(arguments: Arguments) -> Report:
    """Agreement with Nebula (a table in --data, or Ka2ukiMatsuda/Nebula from the hub)."""
    return report_known_table("nebula", arguments, headline="tau_c", remarks=REMARKS)


if __name__ == "__main__":
    main()
