"""``i0tscore fit``: reference statistics from a corpus to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.async_options import AsyncOptions, async_options
from i0tscore.cli.console import check_output, say, write_output
from i0tscore.cli.options import InputOptions, ModelOptions, format_option, input_options, model_options
from i0tscore.cli.scoring import encoding_settings, make_scorer, read_inputs, refuse_unused
from i0tscore.errors import UsageError
from i0tscore.render.document import RENDERERS


@click.command(short_help="Fit reference statistics to a corpus.")
@input_options
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="Where to write the statistics (.safetensors).",
)
@click.option("--name", help="Short name, shown in signatures; the file's name if left out.")
@click.option("--source", default="", help="What the data are, in words.")
@click.option(
    "--bank",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Keep so many images and captions, for the standardizer nnn.",
)
@click.option(
    "--method",
    type=click.Choice(["moments", "async"]),
    default="moments",
    show_default=True,
    help="Means and covariances alone, or I0T_async's trained normalization as well.",
)
@async_options
@format_option(*RENDERERS, "json")
@model_options
def fit(output: Path, name: str | None, source: str, bank: int, form: str, **options: Any) -> None:
    """Fit reference statistics to images with their right captions, for --statistics FILE.

    CAPTIONS and IMAGES are given as for score. Use at least 500 pairs like those to be scored, but not
    the scored ones themselves. --method async also trains what AsyncI0TScore needs, on some thousand pairs.
    """
    inputs, model = InputOptions.take(options), ModelOptions.take(options)
    training, method = AsyncOptions.take(options), options.pop("method")
    check_output(output)
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: statistics are safetensors: give a name that ends in .safetensors")
    refuse_unused(inputs, model)
    if method == "async" and bank:
        raise UsageError("--bank is of --method moments")
    if method != "async":
        training.refuse_all()
    found = read_inputs(inputs)
    told: dict[str, Any] = {"name": name or output.stem, "source": source}
    if method == "async":
        from i0tscore.training.i0t_async import fit_async

        told |= encoding_settings(model, on_error=inputs.on_error)
        told |= training.arguments(embedded=inputs.captions is None)
        statistics, skipped = fit_async(found.images, found.captions, **told), found.skipped
    else:
        scorer = make_scorer(model, on_error=inputs.on_error)
        run = scorer.encode(found.images, found.captions)
        statistics, skipped = scorer.fit_run(run, **told, bank_size=bank), (*found.skipped, *run.skipped)
    statistics.save(output)

    from i0tscore.cli.measures import rendered
    from i0tscore.render.document import Paragraph
    from i0tscore.render.gap_view import statistics_document, summarize_statistics

    if form == "json":
        facts = {"file": str(output), "name": statistics.name, **summarize_statistics(statistics)._asdict()}
        write_output(json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
    else:
        document = statistics_document(statistics, Paragraph([f"written to {output}"]))
        write_output(rendered(document, form, None))
    for one in skipped:
        say("warning", f"skipped {one.id}: {one.reason}")
