"""Polaris: ratings in [0, 1] of machine and human captions; τ-b and τ-c are the figures."""

from __future__ import annotations

from human_judgments.arguments import Arguments, script
from human_judgments.known_sets import report_known_table
from human_judgments.report import Report

REMARKS = ("the test split; images that the hub serves without names are told apart by their references",)


@script("human_judgments.polaris")
def main(arguments: Arguments) -> Report:
    """Agreement with Polaris (polaris_test.csv in --data, or yuwd/Polaris from the hub)."""
    return report_known_table("polaris", arguments, headline="tau_c", remarks=REMARKS)


if __name__ == "__main__":
    main()
