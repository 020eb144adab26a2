"""``i0tscore correlate``: agreement of scores with human ratings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.console import check_output
from i0tscore.cli.measures import measure_options, write_view
from i0tscore.cli.options import (
    ModelOptions,
    OptionGroup,
    add_options,
    format_option,
    model_options,
    output_option,
)
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.results.evidence import Evidence

CORRELATIONS = ("tau_b", "tau_c", "spearman", "pearson")
RATING_FORMATS = ("table", "clipscore-ratings", "flickr8k-expert")
_PATH = click.Path(path_type=Path)
_COLUMNS = ("human", "scale", "rater", "category", "system", "repeats")


@dataclass(frozen=True)
class CorrelateOptions(OptionGroup):
    """Where ratings and scores are, and how their agreement is shown."""

    table: Path
    image_folder: Path | None
    images: Path | None
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
    statistics: str
    metric: tuple[str, ...]
    confidence: float
    resamples: int
    seed: int
    form: str
    output: Path | None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.image_folder and self.images:
            raise UsageError(f"the images' folder is given twice: {self.image_folder} and {self.images}")
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
    def folder(self) -> Path | None:
        """The folder of the images, wherever it was given."""
        return self.image_folder or self.images

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
    click.argument("image_folder", metavar="[IMAGES]", required=False, type=_PATH),
    click.option("--images", type=_PATH, help="Folder of the images, as the second argument."),
    click.option("--input-format", type=click.Choice(RATING_FORMATS), help="Form of TABLE."),
    click.option("--human", metavar="COLUMN", help="The ratings, higher is better.  [default: rating]"),
    click.option("--scale", type=(float, float), metavar="LOW HIGH", help="Least and greatest rating."),
    click.option("--score", multiple=True, metavar="COLUMN", help="Repeatable: scores in TABLE."),
    click.option(
        "--scores", type=_PATH, metavar="FILE", help="Table of scores by the columns image and caption."
    ),
    click.option("--group", metavar="COLUMN", help="The image of a row; its column image if left out."),
    click.option("--by-rows", is_flag=True, help="Resample rows: no two of them share an image."),
    click.option("--rater", metavar="COLUMN", help="Who rated: adds how well raters agree."),
    click.option(
        "--item", multiple=True, metavar="COLUMN", help="Repeatable: what is rated; image and caption."
    ),
    click.option("--category", metavar="COLUMN", help="Break figures down by this column."),
    click.option("--system", metavar="COLUMN", help="Break figures down by this column, too."),
    click.option(
        "--average-raters", is_flag=True, help="Average the ratings of an item, which raises every figure."
    ),
    click.option("--repeats", is_flag=True, help="Equal rows are ratings of several raters, not copies."),
    click.option(
        "--correlation",
        type=click.Choice(CORRELATIONS),
        default="tau_c",
        show_default=True,
        help="Which one differences and parts are about.",
    ),
    click.option(
        "--baseline", metavar="NAME", help="Score the others are compared with; the first if left out."
    ),
    measure_options,
    format_option("text", "json", "csv", "md"),
    output_option,
)


@click.command(short_help="Agreement of scores with human ratings.")
@correlate_options
@model_options
def correlate(**options: Any) -> None:
    """Say how scores agree with the human ratings in TABLE, one row a rating.

    TABLE is CSV, TSV, JSON, JSON lines or parquet. Its scores are the columns named by --score. Without
    them, its images and captions are scored by --model and --metric, or their scores are looked up in
    --scores. Intervals come from resampling images.
    """
    model, asked = ModelOptions.take(options), CorrelateOptions.take(options)
    check_output(asked.output)
    evidence = _gather(asked, model)

    from i0tscore.render.agreement import agreement_csv, agreement_document

    write_view(
        agreement_document(evidence),
        asked.form,
        asked.output,
        as_data=evidence.to_dict,
        as_csv=lambda: agreement_csv(evidence),
    )


def _gather(asked: CorrelateOptions, model: ModelOptions) -> Evidence:
    from i0tscore.cli.rated import read_rated
    from i0tscore.results import Resampling
    from i0tscore.results.evidence import gather_evidence

    rated = read_rated(asked, model)
    if asked.baseline is not None and asked.baseline not in rated.scores:
        raise UsageError(f"--baseline {asked.baseline}: no such score; there are {', '.join(rated.scores)}")
    return gather_evidence(
        rated.averaged() if asked.average_raters else rated,
        headline=asked.correlation,
        baseline=asked.baseline,
        resampling=Resampling(asked.confidence, asked.resamples, asked.seed),
    )
