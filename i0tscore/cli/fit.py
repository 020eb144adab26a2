"""``i0tscore fit``: reference statistics from a corpus to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.console import check_output, say, write_output
from i0tscore.cli.options import InputOptions, ModelOptions, format_option, input_options, model_options
from i0tscore.cli.scoring import make_scorer, read_inputs, refuse_unused
from i0tscore.errors import InputError, UsageError


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
@format_option("text", "json")
@model_options
def fit(output: Path, name: str | None, source: str, bank: int, form: str, **options: Any) -> None:
    """Fit reference statistics to images with their right captions, for --statistics FILE.

    CAPTIONS and IMAGES are given as for score. Use at least 500 pairs like those to be scored, but not
    the scored ones themselves.
    """
    inputs, model = InputOptions.take(options), ModelOptions.take(options)
    check_output(output)
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: statistics are safetensors: give a name that ends in .safetensors")
    refuse_unused(inputs, model)
    found = read_inputs(inputs)
    scorer = make_scorer(model, on_error=inputs.on_error)
    run = scorer.encode(found.images, found.captions)
    if not run.n:
        raise InputError("no samples are left to fit statistics to")
    statistics = scorer.fit(*run.pairs, name=name or output.stem, source=source, reference=not bank)
    if bank:
        statistics = statistics.with_bank(run.images, run.texts, bank)
        statistics = statistics.with_reference(*run.pairs, run.image_index)
    statistics.save(output)

    from i0tscore.render.statistics import describe_statistics, render_statistics

    if form == "json":
        facts = {"file": str(output), "name": statistics.name, **describe_statistics(statistics)._asdict()}
        write_output(json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
    else:
        write_output(render_statistics(statistics) + f"\nwritten to {output}\n")
    for skipped in (*found.skipped, *run.skipped):
        say("warning", f"skipped {skipped.id}: {skipped.reason}")
