"""The options of ``i0tscore score``: what is computed and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from i0tscore.cli.measures import MeasureOptions, measure_options
from i0tscore.cli.options import Threshold, add_options, format_option, output_option
from i0tscore.render.document import RENDERERS

SHORT_RUN = 50
"""Up to so many samples the table of samples is shown unless asked otherwise."""


@dataclass(frozen=True)
class ReportOptions(MeasureOptions):
    """What is computed and how it is shown."""

    per_sample: bool | None
    save_per_instance: Path | None
    fail_below: tuple[tuple[str, float], ...]
    engine: str
    actors: int | None


report_options = add_options(
    measure_options,
    format_option(*RENDERERS, "json", "jsonl", "csv"),
    output_option,
    click.option(
        "--per-sample/--no-per-sample",
        default=None,
        help=f"Show every sample; by default in text and md up to {SHORT_RUN} samples, in json always.",
    ),
    click.option("--save_per_instance", type=click.Path(path_type=Path), hidden=True),
    click.option(
        "--fail-below",
        type=Threshold(),
        multiple=True,
        help="Repeatable: exit with 1 if the mean of a metric is lower.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="ray: score shards (.parquet, .tar, or a folder of them) on a Ray cluster, into the folder --output.",
    ),
    click.option(
        "--actors",
        type=click.IntRange(min=1),
        help="Of --engine ray: how many processes; as many as the cluster has room for if left out.",
    ),
)
