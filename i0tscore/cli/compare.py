"""``i0tscore compare``: two or more systems on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from i0tscore.cli.console import write_output
from i0tscore.cli.options import (
    IntervalOptions,
    ModelOptions,
    OnError,
    OutputOptions,
    ReferencedReadingOptions,
    argument,
    format_option,
    make_scorer,
    metric_option,
    on_error_option,
    references_option,
    statistics_option,
    verb,
    write_report,
)
from i0tscore.errors import UsageError
from i0tscore.options import option
from i0tscore.render import RENDERERS

if TYPE_CHECKING:
    from i0tscore.encoders.images import ImageInput
    from i0tscore.results.comparison import Comparison


@dataclass
class CompareOptions:
    """What is compared.

    Raises:
        UsageError: It cannot be compared.
    """

    files: tuple[Path, ...] = argument("FILE FILE...", nargs=-1)
    images: Path | None = option("Image folder of all systems.", path="FOLDER")
    references: Path | None = references_option()
    on_error: OnError = on_error_option()
    baseline: str | None = option("System to compare the others with.", default_text="the first", metavar="NAME")
    statistics: str = statistics_option()
    metric: tuple[str, ...] = metric_option()
    systems: dict[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        """Name the systems by the stems of their files, or by their paths if stems are equal."""
        if len(self.files) < 2:
            raise UsageError("Expected two or more files, one for each system: i0tscore compare a.json b.json")
        for folder in (file for file in self.files if file.is_dir()):
            if not any((*folder.glob("state.json"), *folder.glob("metadata.*"))):
                raise UsageError(
                    f"{folder}: Expected a file with the captions of a system, got a folder without captions. "
                    f"For the image folder, use --images {folder}."
                )
        for file in self.files:
            if self.files.count(file) > 1:
                raise UsageError(f"{file} is given twice. Give each system once.")
        unique = len({file.stem for file in self.files}) == len(self.files)
        self.systems = {file.stem if unique else str(file): file for file in self.files}
        if self.baseline is not None and self.baseline not in self.systems:
            raise UsageError(f"--baseline {self.baseline}: No such system. Choose from {', '.join(self.systems)}.")


@dataclass
class ComparisonOutputOptions(OutputOptions):
    """Where a comparison is written, and in which format; ``jsonl`` has one line per id."""

    format: str = format_option(*RENDERERS, "json", "jsonl", "csv")


@verb("Compare captioning systems on the same images.")
def compare(
    options: CompareOptions,
    reading: ReferencedReadingOptions,
    intervals: IntervalOptions,
    output: ComparisonOutputOptions,
    model: ModelOptions,
) -> None:
    """Test which of two or more captioning systems scores higher on the same images (paired bootstrap).

    Give one FILE per system. Its name without the suffix names the system.

    The files contain captions as for score, with the same ids in all files, and are scored together. A FILE can
    also be a result that score wrote as JSON or JSON lines. --format jsonl writes the scores of each id, html shows
    the ids that differ most, and the other formats have one row per system.
    """
    from i0tscore.metrics.metric import parse_metrics
    from i0tscore.metrics.sample_sets import score_and_compare
    from i0tscore.results.comparison import compare_results, is_result_file
    from i0tscore.samples import read_samples

    images = None  # by id
    baseline = options.baseline or next(iter(options.systems))
    results = [name for name, file in options.systems.items() if is_result_file(file)]
    if len(results) == len(options.systems):
        given = [f"--{name}" for name in ("images", "references") if getattr(options, name) is not None]
        if unused := [*given, *reading.changed]:
            raise UsageError(f"{', '.join(unused)}: No effect on results that are already scored. Remove it.")
        metrics = [str(metric) for metric in parse_metrics(options.metric)]
        comparison = compare_results(options.systems, baseline, metrics=metrics, resampling=intervals.resampling)
    elif results:
        raise UsageError(
            f"Expected captions only or results only, got both: {', '.join(results)} "
            f"{'is a result' if len(results) == 1 else 'are results'}."
        )
    else:
        samples = {
            name: read_samples(
                file,
                images=options.images,
                references=options.references,
                on_error=options.on_error,
                **vars(reading),
            )
            for name, file in options.systems.items()
        }
        images = {sample.id: sample.image for found in samples.values() for sample in found.samples}
        scorer = make_scorer(
            model, options.on_error, statistics=options.statistics, metrics=options.metric or None, resamples=0
        )
        comparison = score_and_compare(scorer, samples, baseline, resampling=intervals.resampling)
    _write(comparison, images, output)


def _write(comparison: Comparison, images: Mapping[str, ImageInput] | None, output: ComparisonOutputOptions) -> None:
    from i0tscore.results.report import dumps
    from i0tscore.views.comparison_page import comparison_page
    from i0tscore.views.report_views import comparison_csv, comparison_document

    if output.format == "html":
        write_output(comparison_page(comparison, images), output.path)
    elif output.format == "jsonl":
        write_output("".join(dumps(row) + "\n" for row in comparison.rows()), output.path)
    else:
        write_report(comparison, output, comparison_document, comparison_csv)
