"""``i0tscore gap``: the modality gap of a corpus, before and after each standardizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.console import check_output, write_file
from i0tscore.cli.measures import ViewOptions, resampling_options, statistics_option, write_view
from i0tscore.cli.options import (
    InputOptions,
    ModelOptions,
    add_options,
    format_option,
    input_options,
    model_options,
    output_option,
)
from i0tscore.cli.scoring import make_encoder, read_inputs, refuse_unused
from i0tscore.errors import UsageError
from i0tscore.render.document import RENDERERS


@dataclass(frozen=True)
class GapOptions(ViewOptions):
    """What is measured and drawn."""

    standardizer: tuple[str, ...]
    plot: Path | None


gap_options = add_options(
    click.option(
        "--standardizer",
        multiple=True,
        metavar="NAME",
        help="Repeatable: post, async, dn(0.25), shift(0.5), … Each that can be used if left out.",
    ),
    statistics_option,
    resampling_options,
    format_option(*RENDERERS, "json", "csv"),
    output_option,
    click.option(
        "--plot",
        type=click.Path(path_type=Path),
        metavar="FILE.svg|png",
        help="Draw embeddings and cosines before and after (extra plot).",
    ),
)


@click.command(short_help="Measure the modality gap, before and after each standardizer.")
@input_options
@gap_options
@model_options
def gap(**options: Any) -> None:
    """Measure how far apart the encoder puts images and their captions.

    CAPTIONS and IMAGES are given as for score; the captions should be right ones.
    """
    inputs, model = InputOptions.take(options), ModelOptions.take(options)
    asked = GapOptions.take(options)
    check_output(asked.output)
    _check_plot(asked.plot)
    refuse_unused(inputs, model)

    from i0tscore.encoders.encoded import EncodedRun
    from i0tscore.gap import NONE, POST, Standardizer
    from i0tscore.metrics.metric import PRESETS, Metric
    from i0tscore.metrics.statistics_choice import choose_statistics
    from i0tscore.render.gap_view import gap_csv, gap_document
    from i0tscore.results.gap import gap_panels, report_gap
    from i0tscore.results.signature import SignatureFields

    chosen = [Standardizer.parse(name) for name in asked.standardizer]
    found = read_inputs(inputs)
    encoder = make_encoder(model, on_error=inputs.on_error)
    run = EncodedRun.concat(list(encoder.runs(found.images, found.captions, None, found.ids)))
    metrics = [Metric.parse(f"I0TScore(std={standardizer})") for standardizer in chosen or [POST]]
    prefix = PRESETS[model.preset].prefix
    statistics, notes = choose_statistics(asked.statistics, encoder.used_fingerprint, prefix, run, metrics)
    report = report_gap(
        run,
        statistics,
        chosen,
        settings=SignatureFields(encoder.signature_fields, encoder.encoding_fields, asked.resampling),
        skipped=found.skipped,
        notes=[*found.notes, *notes],
    )
    if asked.plot is not None:
        from i0tscore.render.gap_plot import plot_gap

        drawn = plot_gap(gap_panels(run, statistics, [NONE, *(chosen or [POST])]), asked.plot.suffix[1:])
        write_file(drawn, asked.plot)
    write_view(gap_document(report), asked, as_data=report.to_dict, as_csv=lambda: gap_csv(report))


def _check_plot(path: Path | None) -> None:
    """Refuse, before any work, a picture that could not be drawn."""
    if path is None:
        return
    from i0tscore.render.gap_plot import FORMATS, require_matplotlib

    if path.suffix[1:] not in FORMATS:
        raise UsageError(f"{path}: pictures are {' or '.join(FORMATS)}: give a name that ends so")
    check_output(path)
    require_matplotlib()
