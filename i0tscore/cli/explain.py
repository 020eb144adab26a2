"""``i0tscore explain``: why a caption has its score."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from i0tscore.cli.console import check_output, write_file, write_output
from i0tscore.cli.options import ModelOptions, argument, format_option, make_scorer, render, verb
from i0tscore.errors import UsageError
from i0tscore.options import option
from i0tscore.render import RENDERERS

PLOTS = ("png", "svg")


@dataclass
class ExplainOptions:
    """The pair, what is explained, and how it is shown.

    Raises:
        UsageError: The arguments are in the wrong order, or the output cannot be written.
    """

    image: Path = argument("IMAGE", required=True)
    caption: str = argument("CAPTION", required=True, type=str)
    reference: tuple[str, ...] = option("Human caption of the image. Repeatable.", (), multiple=True, metavar="TEXT")
    context: str | None = option("Text in which the image appears, for ContextI0TScore.", metavar="TEXT")
    metric: str | None = option(
        "Metric to explain, as for score.", default_text="the first one of --preset", metavar="NAME"
    )
    statistics: str = option(
        "Reference means: shipped with the model (builtin), or written by fit (FILE). auto: builtin if available.",
        "auto",
        metavar="auto|builtin|FILE",
    )
    phrase: str | None = option("Map where the image supports TEXT instead of the whole caption.", metavar="TEXT")
    sentence: int | None = option(
        "Explain the words of this sentence of a long caption.", default_text="all sentences", minimum=1
    )
    regions: bool = option("Map where the image supports the caption.", True, names="--regions/--no-regions")
    faithfulness: bool = option(
        "Measure how faithful the explanation is, which takes most of the time.",
        True,
        names="--faithfulness/--no-faithfulness",
    )
    format: str = format_option(*RENDERERS, "json", *PLOTS)
    output: Path | None = option("Write to FILE instead of stdout.", path="FILE")

    def __post_init__(self) -> None:
        """Check the options before any work."""
        check_output(self.output)
        if os.path.isfile(self.caption):  # noqa: PTH113 - unlike a path, this accepts long texts
            raise UsageError(
                f"Expected an image and then the text of its caption, got the file {self.caption}. Try i0tscore "
                'explain photo.jpg "A dog runs.", or i0tscore score --explain 5 for the lowest scores of a file.'
            )
        if self.format in PLOTS:
            from i0tscore.render.gap_plot import require_matplotlib

            require_matplotlib("a plot of an explanation")
            if self.output is None:
                raise UsageError(f"--format {self.format} writes an image file. Give its name with --output FILE.")


@verb("Explain the score of one caption by its words and the regions of the image.")
def explain(options: ExplainOptions, model: ModelOptions) -> None:
    """Explain why CAPTION has its score for the file IMAGE.

    CAPTION is the text of the caption, in quotes. The effect of a word is the score of the caption minus the
    score without the word; the map shows where the image supports the caption.
    """
    from i0tscore.explanation.explain import explain_pair
    from i0tscore.metrics.metric import Metric
    from i0tscore.render.gap_plot import plot_file

    metrics = None if options.metric is None else Metric.parse(options.metric).with_parts
    if metrics and metrics[0].needs_references and not options.reference:
        raise UsageError(f"--metric {options.metric} needs references. Give at least one with --reference TEXT.")
    if metrics and metrics[0].needs_context and options.context is None:
        raise UsageError(f"--metric {options.metric} needs a context. Give it with --context TEXT.")
    settings = {"statistics": options.statistics, "metrics": metrics, "resamples": 0, "ranks": False}
    explanation = explain_pair(
        make_scorer(model, "raise", **settings),
        options.image,
        options.caption,
        options.reference or None,
        context=options.context,
        phrase=options.phrase,
        sentence=options.sentence,
        regions=options.regions,
        faithfulness=options.faithfulness,
    )
    if options.format in PLOTS and options.output is not None:
        with plot_file(options.format, explanation.figure_size) as (figure, file):
            explanation.plot(figure)
        write_file(file.getvalue(), options.output)
        return
    if options.format == "json":
        text = explanation.to_json() + "\n"
    else:
        text = render(explanation.document, options.format, options.output)
    write_output(text, options.output)
