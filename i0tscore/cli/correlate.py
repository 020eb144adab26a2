"""``i0tscore correlate``: agreement of scores with human ratings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.console import check_output
from i0tscore.cli.measures import write_view
from i0tscore.cli.options import ModelOptions, model_options
from i0tscore.cli.rating_options import CorrelateOptions, correlate_options
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.results.correlation_report import CorrelationReport


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

    from i0tscore.render.comparison_view import correlation_csv, correlation_document

    write_view(
        correlation_document(evidence),
        asked,
        as_data=evidence.to_dict,
        as_csv=lambda: correlation_csv(evidence),
    )


def _gather(asked: CorrelateOptions, model: ModelOptions) -> CorrelationReport:
    from i0tscore.cli.rated import read_rated
    from i0tscore.results.correlation_report import correlation_report

    rated = read_rated(asked, model)
    if asked.baseline is not None and asked.baseline not in rated.scores:
        raise UsageError(f"--baseline {asked.baseline}: no such score; there are {', '.join(rated.scores)}")
    return correlation_report(
        rated.averaged() if asked.average_raters else rated,
        headline=asked.correlation,
        baseline=asked.baseline,
        resampling=asked.resampling,
    )
