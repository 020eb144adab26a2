"""``i0tscore gap``: the modality gap of a corpus, before and after each standardizer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from i0tscore.cli.console import check_output, write_file
from i0tscore.cli.options import (
    InputOptions,
    IntervalOptions,
    ModelOptions,
    OutputOptions,
    ReadingOptions,
    make_encoder,
    read_inputs,
    statistics_option,
    verb,
    write_report,
)
from i0tscore.errors import UsageError
from i0tscore.options import option

if TYPE_CHECKING:
    pass


@dataclass
class GapOptions:
    """What is measured and plotted."""

    standardizer: tuple[str, ...] = option(
        "Standardizer to measure: post, async, dn(0.25), shift(0.5), ... Repeatable.",
        (),
        multiple=True,
        metavar="NAME",
        default_text="all that the statistics allow",
    )
    statistics: str = statistics_option()
    plot: Path | None = option(
        "Also plot embeddings and cosines before and after, as in --format html. Requires the extra plot.",
        path="FILE.svg|FILE.png",
    )

    def __post_init__(self) -> None:
        """Check that the plot can be drawn and written."""
        if self.plot is not None:
            from i0tscore.render.gap_plot import FORMATS, require_matplotlib

            if self.plot.suffix[1:] not in FORMATS:
                raise UsageError(f"--plot {self.plot}: Expected a name that ends in .{' or .'.join(FORMATS)}.")
            check_output(self.plot)
            require_matplotlib()


@verb("Measure the modality gap of a corpus, before and after each standardizer.")
def gap(
    inputs: InputOptions,
    reading: ReadingOptions,
    options: GapOptions,
    intervals: IntervalOptions,
    output: OutputOptions,
    model: ModelOptions,
) -> None:
    """Measure how far apart an encoder places images and their captions.

    CAPTIONS and IMAGES are the same as for score. The captions should match their images.
    """
    from i0tscore.encoders.encode import EncodedRun
    from i0tscore.gap import NONE, POST, Standardizer
    from i0tscore.metrics.metric import PRESETS, Metric
    from i0tscore.metrics.statistics_choice import choose_statistics, fixed_statistics
    from i0tscore.render.gap_plot import plot_gap
    from i0tscore.results.gap import gap_panels, report_gap
    from i0tscore.results.signature import SignatureFields
    from i0tscore.views.report_views import gap_csv, gap_document

    standardizers = [Standardizer.parse(name) for name in options.standardizer]
    found = read_inputs(inputs, reading, model)
    encoder = make_encoder(model, inputs.on_error)
    prefix = PRESETS[model.preset].prefix
    if inputs.read_embeddings is None:  # wrong statistics are reported before encoding
        fixed_statistics(options.statistics, encoder.encoder.fingerprint, prefix)
    run = EncodedRun.concat(list(encoder.runs(found.images, found.captions, None, found.ids)))
    metrics = [Metric.parse(f"I0TScore(std={standardizer})") for standardizer in standardizers or [POST]]
    statistics, notes = choose_statistics(options.statistics, encoder.used_fingerprint, prefix, run, metrics)
    report = report_gap(
        run,
        statistics,
        standardizers,
        settings=SignatureFields(*encoder.signature_fields, intervals.resampling),
        skipped=found.skipped,
        notes=[*found.notes, *run.notes, *notes],
    )
    inline = output.format == "html" and find_spec("matplotlib") is not None
    panels = gap_panels(run, statistics, [NONE, *(standardizers or [POST])]) if options.plot or inline else {}
    if options.plot is not None:
        write_file(plot_gap(panels, options.plot.suffix[1:]), options.plot)
    plot = plot_gap(panels, "svg") if inline else b""
    write_report(report, output, lambda report: gap_document(report)._replace(plot=plot), gap_csv)
