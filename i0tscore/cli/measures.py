"""The options of what is measured, and the views of what was found, that several verbs share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.console import terminal_width, wants_color, write_output
from i0tscore.cli.options import OptionGroup, add_options, format_option, output_option
from i0tscore.render.document import RENDERERS, TEXT_WIDTH

if TYPE_CHECKING:
    from i0tscore.render.document import Document
    from i0tscore.results import Resampling


@dataclass(frozen=True)
class OutputOptions(OptionGroup):
    """With which intervals, and where it is written in which form."""

    confidence: float
    resamples: int
    seed: int
    form: str
    output: Path | None

    @property
    def resampling(self) -> Resampling:
        """Of the intervals."""
        from i0tscore.results import Resampling

        return Resampling(self.confidence, self.resamples, self.seed)


@dataclass(frozen=True)
class ViewOptions(OutputOptions):
    """The same, and with which statistics."""

    statistics: str


@dataclass(frozen=True)
class MeasureOptions(ViewOptions):
    """The same for metrics."""

    metric: tuple[str, ...]


resampling_options = add_options(
    click.option(
        "--confidence",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.95,
        show_default=True,
        help="Coverage of the intervals.",
    ),
    click.option(
        "--resamples",
        type=click.IntRange(min=0),
        default=1000,
        show_default=True,
        help="Bootstrap resamples of images; 0 for no intervals.",
    ),
    click.option("--seed", type=int, default=12345, show_default=True, help="Of the bootstrap."),
)
"""Options ``confidence``, ``resamples`` and ``seed``."""

statistics_option = click.option(
    "--statistics",
    default="auto",
    show_default=True,
    metavar="auto|builtin|batch|FILE",
    help="Reference statistics: shipped with the model, the samples' own, or fitted ones.",
)

measure_options = add_options(
    statistics_option,
    click.option(
        "--metric",
        multiple=True,
        metavar="NAME",
        help="Repeatable: I0TScore, CLIPScore, RefI0TScore, RefCLIPScore, DNScore, CovarianceI0TScore, "
        "AsyncI0TScore, also with settings as in 'CLIPScore(clip=no,std=shift(0.5))'. Those of the preset if "
        "left out.",
    ),
    resampling_options,
)
"""Options ``statistics``, ``metric``, ``confidence``, ``resamples`` and ``seed``."""

view_options = add_options(measure_options, format_option(*RENDERERS, "json", "csv"), output_option)
"""The options of ``MeasureOptions``, for verbs that write by ``write_view``."""


def write_view(
    document: Document,
    asked: OutputOptions,
    *,
    as_data: Callable[[], dict[str, Any]],
    as_csv: Callable[[], str],
) -> None:
    """Write a report to stdout or a file.

    Args:
        document: The report for people.
        asked: The format, ``json``, ``csv`` or one of ``RENDERERS``, and the file, None for stdout.
        as_data: Returns the plain data of ``json``.
        as_csv: Returns the text of ``csv``.
    """
    from i0tscore.results.report import dumps

    if asked.form == "json":
        text = dumps(as_data(), indent=2) + "\n"
    elif asked.form == "csv":
        text = as_csv()
    else:
        text = rendered(document, asked.form, asked.output)
    write_output(text, asked.output)


def rendered(document: Document, output_format: str, output: Path | None) -> str:
    """Return a document in one of the formats of ``RENDERERS``, fitted to the terminal if it goes there."""
    to_terminal = output is None
    width = terminal_width(TEXT_WIDTH) if to_terminal else TEXT_WIDTH
    return RENDERERS[output_format](document, width=width, color=to_terminal and wants_color(sys.stdout))
