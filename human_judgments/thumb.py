"""THumB 1.0: precision, recall and total of captions of four systems and of people."""

from __future__ import annotations

from typing import cast

from human_judgments.agreement import (
    Block,
    agreement_blocks,
    agreement_data,
    conditions,
    introduction,
    published_blocks,
    read_set,
    report_data,
    report_title,
    score_samples,
)
from human_judgments.report import Data, Page, dot_plot, intervals_note
from human_judgments.script import Arguments, script
from i0tscore.samples.rating_sets import KNOWN_SETS, verify
from i0tscore.samples.ratings import RatingSet

KNOWN = KNOWN_SETS["thumb"]
TITLES = {"human_score": "total", "P": "precision", "R": "recall"}


def render(data: Data) -> Page:
    """Render the report."""
    blocks: list[Block] = [
        introduction(data),
        "Correlations × 100 over segments, with one row per caption. Ties: share of pairs with different ratings whose "
        f"scores are equal. {intervals_note(data, 'images')}",
    ]
    for rating, found in data["ratings"].items():
        heading = f"## {rating}: {TITLES[rating]}"
        blocks += [heading, *agreement_blocks(found, data["headline"], data["resampling"]["resamples"])]
    blocks += published_blocks(data)
    estimates = {name: metric[data["headline"]] for name, metric in data["ratings"]["human_score"]["metrics"].items()}
    figure = dot_plot("THumB 1.0: agreement with the total score", "τ-c × 100", estimates)
    return Page(report_title(data), [*blocks, *conditions(data)], figure)


@script("human_judgments.thumb", render)
def main(arguments: Arguments) -> tuple[str, Data]:
    """Agreement with THumB 1.0 (mscoco_THumB-1.0.jsonl in --data, COCO's val2014 in --images)."""
    sets: dict[str, RatingSet] = {}
    for rating in KNOWN.ratings:
        found, path, files = read_set(KNOWN, arguments, rating=rating)
        sets[rating] = cast("RatingSet", found if arguments.limit is None else found.limited(arguments.limit))
    differing = verify(found.counts, KNOWN, path, files, allow_other_counts=arguments.allow_other_counts)
    total = sets["human_score"]
    scores = score_samples(total.samples, arguments)
    by_rating = {rating: agreement_data(ratings, scores, arguments, KNOWN.headline) for rating, ratings in sets.items()}
    notes = [*KNOWN.remarks, *total.notes, *differing, *scores.notes]
    figures = {"headline": KNOWN.headline, "ratings": by_rating}
    return report_data(KNOWN, arguments, found.counts, scores, figures, notes)


if __name__ == "__main__":
    main()
