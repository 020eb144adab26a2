"""The options of ``correlate``: where ratings and scores are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.measures import MeasureOptions, view_options
from i0tscore.cli.options import ImageOptions, add_options, image_options
from i0tscore.errors import UsageError

CORRELATIONS = ("tau_b", "tau_c", "spearman", "pearson")
RATING_FORMATS = ("table", "clipscore-ratings", "flickr8k-expert")
_PATH = click.Path(path_type=Path)
_COLUMNS = ("human", "scale", "rater", "category", "system", "repeats")


@dataclass(frozen=True)
class CorrelateOptions(MeasureOptions, ImageOptions):
    """Where ratings and scores are, and how their agreement is shown."""

    table: Path
    input_format: str | None
    human: str | None
    scale: tuple[float, float] | None
    score: tuple[str, ...]
    scores: Path | None
    group: str | None
    by_rows: bool
    rater: str | None
    item: tuple[str, ...]
    category: str | None
    system: str | None
    average_raters: bool
    repeats: bool
    correlation: Any
    baseline: str | None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        ImageOptions.__post_init__(self)
        if self.group is not None and self.by_rows:
            raise UsageError("--group and --by-rows contradict each other: give one")
        if self.scored and (self.metric or self.folder):
            raise UsageError("scores that are there are not computed: leave --metric and the images out")
        if self.score and self.scores is None and self.form_of_ratings != "table":
            raise UsageError(f"{self.form_of_ratings} has no scores in it: give --scores FILE as well")
        if not self.in_table:
            self._refuse("is for scores in the table itself (--score)", "group", "item")
        if self.form_of_ratings != "table":
            self._refuse(f"is for tables, and this is {self.form_of_ratings}", *_COLUMNS)

    def _refuse(self, why: str, *names: str) -> None:
        given = [name for name in names if getattr(self, name)]
        if given:
            raise UsageError(f"--{given[0]} {why}: leave it out")

    @property
    def form_of_ratings(self) -> str:
        """The form given, or the one that the file's name tells."""
        if self.input_format is not None:
            return self.input_format
        return "flickr8k-expert" if self.table.name == "ExpertAnnotations.txt" else "table"

    @property
    def scored(self) -> bool:
        """Whether the scores are there already."""
        return bool(self.score or self.scores)

    @property
    def in_table(self) -> bool:
        """Whether scores are columns of the table of ratings itself."""
        return bool(self.score) and self.scores is None and self.form_of_ratings == "table"


correlate_options = add_options(
    click.argument("table", type=_PATH),
    image_options,
    click.option("--input-format", type=click.Choice(RATING_FORMATS), help="Form of TABLE."),
    click.option("--human", metavar="COLUMN", help="The ratings, higher is better.  [default: rating]"),
    click.option("--scale", type=(float, float), metavar="LOW HIGH", help="Least and greatest rating."),
    click.option("--score", multiple=True, metavar="COLUMN", help="Repeatable: scores in TABLE."),
    click.option("--scores", type=_PATH, metavar="FILE", help="Table of scores by the columns image and caption."),
    click.option("--group", metavar="COLUMN", help="The image of a row; its column image if left out."),
    click.option("--by-rows", is_flag=True, help="Resample rows: no two of them share an image."),
    click.option("--rater", metavar="COLUMN", help="Who rated: adds how well raters agree."),
    click.option("--item", multiple=True, metavar="COLUMN", help="Repeatable: what is rated; image and caption."),
    click.option("--category", metavar="COLUMN", help="Break figures down by this column."),
    click.option("--system", metavar="COLUMN", help="Break figures down by this column, too."),
    click.option("--average-raters", is_flag=True, help="Average the ratings of an item, which raises every figure."),
    click.option("--repeats", is_flag=True, help="Equal rows are ratings of several raters, not copies."),
    click.option(
        "--correlation",
        type=click.Choice(CORRELATIONS),
        default="tau_c",
        show_default=True,
        help="Which one differences and parts are about.",
    ),
    click.option("--baseline", metavar="NAME", help="Score the others are compared with; the first if left out."),
    view_options,
)
