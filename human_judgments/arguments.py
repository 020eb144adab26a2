"""The command line that all scripts share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from human_judgments.report import Report, write_report
from i0tscore.cli.console import plain_warnings, say
from i0tscore.cli.measures import resampling_options
from i0tscore.cli.options import ModelOptions, add_options, model_options
from i0tscore.errors import I0TScoreError
from i0tscore.metrics.classic import CLASSIC_METRICS
from i0tscore.results import Resampling
from i0tscore.samples.flickr8k import locate

_PATH = click.Path(path_type=Path)
_PLACES = {
    "data",
    "images",
    "output",
    "weights",
    "save_scores",
    "cache_dir",
    "no_cache",
    "quiet",
    "batch_size",
    "inverted",
}
"""Options that say where things are or how fast; the figures do not depend on them."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a script was asked for.

    Attributes:
        data: Folder or file of the set; None where the script looks for it.
        images: Folder of the images; None where it is beside the data.
        metrics: Names of metrics; empty for the usual ones.
        statistics: For the standardizers: ``auto``, ``builtin``, ``batch``, or a file.
        classic: Whether to add BLEU, ROUGE-L, METEOR, CIDEr and SPICE.
        scores: A file with scores to use.
        save_scores: A file to write the scores to.
        baseline: The metric that the others are compared with.
        limit: Items to take; None for all.
        allow_other_counts: Whether to take a set whose counts are not those known.
        resampling: Of the intervals.
        output: Folder of the reports.
        plot: Whether to draw the figures.
        offline: Whether no network is to be used.
        model: How to encode; None where the scores come from a file alone.
        command: What was typed, without the places of things.
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
    resampling: Resampling
    output: Path
    plot: bool
    offline: bool
    model: ModelOptions | None
    command: str

    @property
    def needs_images(self) -> bool:
        """Whether anything will look at the images."""
        return self.model is not None

    @property
    def label(self) -> str:
        """Where the scores come from, for file names and titles."""
        if self.model is not None:
            return self.model.model
        return "classic" if self.scores is None else "scores"

    def folder(self) -> Path:
        """The folder of data: the one given, else ``I0TSCORE_DATA``, else ``../shared/data``.

        Raises:
            I0TScoreError: There is no such folder.
        """
        folder = self.data or Path(os.environ.get("I0TSCORE_DATA") or "../shared/data")
        if not folder.exists():
            raise I0TScoreError(f"{folder}: no such data; give --data, or set I0TSCORE_DATA to their folder")
        return folder

    def local_file(self, names: tuple[str, ...], origin: str) -> Path | None:
        """The first of several files; None where it is not there and was not given, so may be on the hub."""
        try:
            return locate(self.folder(), names, origin)
        except I0TScoreError:
            if self.data is not None:
                raise
            return None

    def required_data(self, what: str) -> Path:
        """The file or folder given, for sets that must be given."""
        if self.data is None:
            raise I0TScoreError(f"give --data: {what}")
        if not self.data.exists():
            raise I0TScoreError(f"{self.data}: no such file or folder: check the path")
        return self.data


_OPTIONS = add_options(
    click.option("--data", type=_PATH, help="Folder or file of the rating set."),
    click.option("--images", type=_PATH, help="Folder of the images, where it is not beside the data."),
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help=f"A metric; may be repeated. As for `i0tscore score`, or {', '.join(CLASSIC_METRICS)}.",
    ),
    click.option("--statistics", default="auto", show_default=True, help="auto, builtin, batch, or a file."),
    click.option(
        "--classic/--no-classic",
        default=True,
        show_default=True,
        help="BLEU, ROUGE-L, METEOR, CIDEr, SPICE beside the metrics.",
    ),
    click.option(
        "--scores",
        type=_PATH,
        metavar="FILE",
        help="CSV with image, caption and one column a metric, instead of a model or beside --model.",
    ),
    click.option("--save-scores", type=_PATH, metavar="FILE", help="Write the scores in the form of --scores."),
    click.option("--baseline", default="CLIPScore", show_default=True, help="What the others are compared with."),
    click.option("--limit", type=click.IntRange(min=2), metavar="N", help="Only the first N captions: a trial."),
    click.option("--allow-other-counts", is_flag=True, help="Take a part of a set, or another version."),
    resampling_options,
    click.option("--output", type=_PATH, default="reports", show_default=True, help="Folder of the reports."),
    click.option("--plot/--no-plot", default=True, show_default=True, help="Draw the figures (extra plot)."),
)


def script(module: str, *extra: Callable[[Any], Any]) -> Callable[[Callable[..., Report]], click.Command]:
    """Make a command of a function from arguments, and what ``extra`` options give, to a report.

    Args:
        module: Its full name, as `python -m` takes it.
        extra: Further click options.
    """

    def decorate(function: Callable[..., Report]) -> click.Command:
        @click.command(
            name=module.rpartition(".")[2], help=function.__doc__, context_settings={"max_content_width": 110}
        )
        @_OPTIONS
        @add_options(*extra)
        @model_options
        @click.pass_context
        def command(context: click.Context, /, **options: Any) -> None:
            quiet = bool(options["quiet"])
            try:
                with plain_warnings(quiet):
                    arguments = _take(context, module, options)
                    report = function(arguments, **options)
                    written = write_report(report, arguments.output, plot=arguments.plot)
            except I0TScoreError as error:
                say("error", str(error))
                sys.exit(error.exit_code)
            if not quiet:
                click.echo("\n".join(f"wrote {path}" for path in written), err=True)

        return command

    return decorate


def _take(context: click.Context, module: str, options: dict[str, Any]) -> Arguments:
    """Move what is in ``Arguments`` out of the options; the rest stays for the script."""
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    typed = _typed(context, module, given, options)
    offline = bool(options["offline"])
    model = ModelOptions.take(options)
    names = tuple(options["metrics"])
    only_classic = bool(names) and all(name in CLASSIC_METRICS for name in names)
    unused = only_classic or (options["scores"] is not None and "model" not in given)
    resampling = Resampling(options.pop("confidence"), options.pop("resamples"), options.pop("seed"))
    own = [name for name in Arguments.__slots__ if name in options]
    return Arguments(
        **{name: options.pop(name) for name in own},
        resampling=resampling,
        offline=offline,
        model=None if unused else model,
        command=typed,
    )


def _typed(context: click.Context, module: str, given: set[str], options: dict[str, Any]) -> str:
    words = [f"python -m {module}"]
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in given or name in _PLACES:
            continue
        value, flag = options[name], parameter.opts[0]
        if isinstance(value, bool):
            words.append(flag if value else (parameter.secondary_opts or [flag])[0])
        else:
            many = value if isinstance(value, tuple) else (value,)
            words += [f"{flag} {_quoted(v.name if isinstance(v, Path) else str(v))}" for v in many]
    return " ".join(words)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
