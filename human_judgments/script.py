"""The command line that the scripts of rating sets and studies share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from human_judgments.report import Data, Page, write_report
from i0tscore.cli.console import plain_warnings, say
from i0tscore.cli.options import IntervalOptions, ModelOptions, option_group
from i0tscore.errors import I0TScoreError, InputError
from i0tscore.metrics.sample_sets import TEXT_METRICS
from i0tscore.results import Resampling
from i0tscore.samples.flickr8k import locate

_PATH = click.Path(path_type=Path)
_NOT_REPORTED = {
    *("data", "images", "output", "weights", "save_scores", "cache_dir", "no_cache", "quiet", "batch_size", "inverted")
}
"""Options that decide where files are or how fast a run is, but no figure: reports leave them out of the command."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Options that all scripts have.

    Attributes:
        data: Folder or file of the data; None if the script looks in the default folder.
        images: Folder of the images; None if it is next to the data.
        metrics: Names of metrics; empty for the default ones.
        statistics: Statistics of the standardizers: ``auto``, ``builtin``, ``batch``, or a file.
        classic: Whether to add BLEU, ROUGE-L, METEOR, CIDEr and SPICE.
        scores: File of scores to use.
        save_scores: File to write the scores to.
        baseline: Metric that the others are compared with.
        limit: Number of items to use; None for all.
        allow_other_counts: Whether to accept a set with counts other than the known ones.
        output: Folder of the reports.
        plot: Whether to write the figure.
        resampling: Settings of the intervals.
        offline: Whether to use no network.
        model: How to encode; None if no model is used.
        command: The command line, without paths.
    """

    data: Path | None
    images: Path | None
    metrics: tuple[str, ...]
    statistics: str
    classic: bool
    scores: Path | None
    save_scores: Path | None
    baseline: str
    limit: int | None
    allow_other_counts: bool
    output: Path
    plot: bool
    resampling: Resampling
    offline: bool
    model: ModelOptions | None
    command: str

    @property
    def label(self) -> str:
        """Source of the scores: a model's name, ``scores`` for a file, or ``classic``."""
        return str(self.model.model) if self.model is not None else "classic" if self.scores is None else "scores"

    def stem(self, name: str) -> str:
        """Return the name of a report's files, without suffix."""
        limited = "" if self.limit is None else f"-first-{self.limit}"
        return f"{name}-{self.label.replace('/', '--')}{limited}"

    def folder(self) -> Path:
        """Return the data folder: ``--data``, else ``I0TSCORE_DATA``, else ``../shared/data``.

        Raises:
            InputError: There is no such folder.
        """
        folder = self.data or Path(os.environ.get("I0TSCORE_DATA") or "../shared/data")
        if not folder.exists():
            raise InputError(f"Expected a data folder at {folder}, found none. Try --data, or set I0TSCORE_DATA.")
        return folder

    def local_file(self, names: tuple[str, ...], origin: str) -> Path | None:
        """Return the first of several files; None if none is there and ``--data`` was not given."""
        try:
            return locate(self.folder(), names, origin)
        except I0TScoreError:
            if self.data is not None:
                raise
            return None

    def required_data(self, content: str) -> Path:
        """Return ``--data`` for a script that has no default folder.

        Raises:
            InputError: It is missing or does not exist.
        """
        if self.data is None:
            raise InputError(f"Expected --data with {content}.")
        if not self.data.exists():
            raise InputError(f"{self.data}: no such file or folder. Check the path.")
        return self.data

    def required_model(self) -> ModelOptions:
        """Return the options of the model for a script that needs one.

        Raises:
            InputError: No model is used.
        """
        if self.model is None:
            raise InputError("Expected a model. Try --model, without --scores and with no classic --metric.")
        return self.model


def _add_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator that adds several options, in the order given."""
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


_OPTIONS = _add_options(
    click.option("--data", type=_PATH, help="Folder or file of the data."),
    click.option("--images", type=_PATH, help="Folder of the images, if it is not next to the data."),
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help=f"Metric, as for `i0tscore score`, or one of {', '.join(TEXT_METRICS)}. Repeatable.",
    ),
    click.option("--statistics", default="auto", show_default=True, help="auto, builtin, batch, or a file."),
    click.option(
        "--classic/--no-classic", default=True, show_default=True, help="Add BLEU, ROUGE-L, METEOR, CIDEr and SPICE."
    ),
    click.option(
        "--scores",
        type=_PATH,
        metavar="FILE",
        help="CSV with image, caption and one column per metric, instead of a model or in addition to --model.",
    ),
    click.option("--save-scores", type=_PATH, metavar="FILE", help="Write the scores in the format of --scores."),
    click.option("--baseline", default="CLIPScore", show_default=True, help="Metric to compare the others with."),
    click.option("--limit", type=click.IntRange(min=2), metavar="N", help="Use only the first N captions, as a trial."),
    click.option("--allow-other-counts", is_flag=True, help="Accept part of a set, or another version."),
    option_group("intervals", IntervalOptions),
    click.option("--output", type=_PATH, default="reports", show_default=True, help="Folder of the reports."),
    click.option("--plot/--no-plot", default=True, show_default=True, help="Write the figure (extra plot)."),
)


def script(
    module: str, page: Callable[[Data], Page], *extra: Callable[[Any], Any]
) -> Callable[[Callable[..., tuple[str, Data]]], click.Command]:
    """Make a command from a function that measures.

    The function takes ``Arguments`` and the values of the extra options, and returns the name of the report's files
    and its data.

    Args:
        module: Full name of the module, as in ``python -m``.
        page: Renders the data.
        extra: Further click options.
    """

    def decorate(function: Callable[..., tuple[str, Data]]) -> click.Command:
        name = module.rpartition(".")[2]

        @click.command(name=name, help=function.__doc__, context_settings={"max_content_width": 110})
        @_OPTIONS
        @_add_options(*extra)
        @option_group("model", ModelOptions)
        @click.pass_context
        def command(context: click.Context, /, **options: Any) -> None:
            quiet = options["model"].quiet
            try:
                with plain_warnings(quiet):
                    arguments = _pop_arguments(context, module, options)
                    stem, data = function(arguments, **options)
                    files = write_report(stem, data, page(data), arguments.output, plot=arguments.plot)
            except I0TScoreError as error:
                say("error", str(error))
                sys.exit(error.exit_code)
            if not quiet:
                click.echo("\n".join(f"wrote {path}" for path in files), err=True)

        return command

    return decorate


def _pop_arguments(context: click.Context, module: str, options: dict[str, Any]) -> Arguments:
    """Move the options that all scripts share out of ``options``."""
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    model, resampling = options.pop("model"), options.pop("intervals").resampling
    metrics = options["metrics"]
    only_text = bool(metrics) and all(name in TEXT_METRICS for name in metrics)
    unused = only_text or (options["scores"] is not None and "model" not in given)
    return Arguments(
        resampling=resampling,
        offline=model.offline,
        model=None if unused else model,
        command=_command_line(context, module, given),
        **{name: options.pop(name) for name in Arguments.__slots__ if name in options},
    )


def _command_line(context: click.Context, module: str, given: set[str]) -> str:
    words = [f"python -m {module}"]
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in given or name in _NOT_REPORTED:
            continue
        value, flag = context.params[name], parameter.opts[0]
        if isinstance(value, bool):
            words.append(flag if value else (parameter.secondary_opts or [flag])[0])
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"{flag} {shlex.quote(v.name if isinstance(v, Path) else str(v))}" for v in values]
    return " ".join(words)
