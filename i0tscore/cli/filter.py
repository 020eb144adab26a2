"""``i0tscore filter``: the captions of a file that fit their images, in the form of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from i0tscore.cli.console import write_output
from i0tscore.cli.options import (
    ModelOptions,
    ReferencedInputOptions,
    ReferencedReadingOptions,
    check_download,
    check_embedding_options,
    format_option,
    make_scorer,
    metric_option,
    render,
    statistics_option,
    verb,
)
from i0tscore.errors import UsageError
from i0tscore.options import option
from i0tscore.render import RENDERERS
from i0tscore.samples.rules import SelectionRules


@dataclass
class FilterOptions:
    """Where and how the captions are written.

    Raises:
        UsageError: Neither an output nor a dry run is requested, or both.
    """

    output: Path | None = option(
        "File or folder for the captions that are kept, in the format of CAPTIONS.", path="FILE"
    )
    rejected: Path | None = option("File or folder for the other captions, with the reason.", path="FILE")
    add_scores: bool = option("Add columns with the scores.", False)
    dry_run: bool = option(
        "Write nothing; show how many captions other thresholds would keep, and examples near the threshold.", False
    )
    statistics: str = statistics_option()
    metric: tuple[str, ...] = metric_option()
    format: str = format_option(*RENDERERS, "json")

    def __post_init__(self) -> None:
        """Check that the options make sense together."""
        if self.dry_run == (self.output is not None):
            raise UsageError("Give --output FILE for the captions that are kept, or --dry-run to write nothing.")
        if self.dry_run and self.rejected:
            raise UsageError("--dry-run writes nothing. Remove --rejected.")


@verb("Keep the captions that fit their images.")
def filter(
    inputs: ReferencedInputOptions,
    reading: ReferencedReadingOptions,
    rules: SelectionRules,
    options: FilterOptions,
    model: ModelOptions,
) -> None:
    """Write the captions of the file CAPTIONS that fit their images, in the form of the file.

    CAPTIONS and IMAGES are the same as for score. Other columns are unchanged. CAPTIONS can also be a folder of shards
    or of embeddings in the form of clip-retrieval.
    """
    from i0tscore.metrics.filtering import filter_captions, metrics_for
    from i0tscore.samples.reader import CaptionReader
    from i0tscore.views.report_views import selection_document

    if inputs.captions is None:
        raise UsageError(
            "Expected a caption file or a folder of clip-retrieval, got two files of embeddings, which filter cannot "
            "write. Use result.select in Python."
        )
    if inputs.read_embeddings is not None:
        check_embedding_options(reading, model)
    check_download(reading, model)
    metrics = metrics_for(rules, options.metric or None, model.preset)
    settings = {"statistics": options.statistics, "metrics": metrics, "resamples": 0, "ranks": False}
    scorer = make_scorer(model, inputs.on_error, **settings)
    reader = CaptionReader(
        inputs.captions,
        images=inputs.images,
        references=inputs.references,
        on_error=inputs.on_error,
        **vars(reading),
    )
    progress = bool(model.encoding(inputs.on_error)["progress"])
    found = filter_captions(
        *(reader, scorer, rules, options.output, options.rejected), add_scores=options.add_scores, progress=progress
    )
    if options.format == "json":
        write_output(found.to_json() + "\n")
    else:
        write_output(render(selection_document(found, preview=options.dry_run), options.format))
