"""Eye4B and VL-GuideData: blind and low-vision people's ratings of descriptions for navigation.

The ratings are not public. Reader and script take the CSV forms that the authors' code reads and are
tested on made-up rows of those forms; no figure has been made with them.
"""

from __future__ import annotations

import click

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report
from human_judgments.run import report_ratings
from i0tscore.samples.rating_blv import read_eye4b
from i0tscore.samples.rating_files import locate
from i0tscore.samples.rating_sets import KNOWN_SETS

REMARKS = ("the ratings of this set are not public: counts and hashes of the whole set are not known here",)


@script(
    "blv_eye4b",
    click.option("--criterion", help="One of the column criterion, where there is one."),
    click.option("--response-only", is_flag=True, help="Score the response without the request before it."),
)
def main(arguments: Arguments, criterion: str | None, response_only: bool) -> Report:
    """Agreement with Eye4B or VL-GuideData (a CSV file in --data; not public, not run)."""
    known = KNOWN_SETS["blv_eye4b"]
    data = arguments.required_data("a CSV file with img_dir, request, gpt_txt, accuracy or txt, score")
    file = locate(data, ("gp_overall.csv", "*.csv"), known.origin)
    ratings = read_eye4b(file, images=arguments.images, with_request=not response_only, criterion=criterion)
    text = "the response alone" if response_only else "the request and the response"
    remarks = (*REMARKS, f"the scored text is {text}")
    return report_ratings(known, ratings, arguments, path=file, headline="tau_c", remarks=remarks)


if __name__ == "__main__":
    main()
