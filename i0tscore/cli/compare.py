"""``i0tscore compare``: two or more systems on the same images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.console import check_output
from i0tscore.cli.measures import MeasureOptions, view_options, write_view
from i0tscore.cli.options import (
    ModelOptions,
    add_options,
    caption_file_options,
    model_options,
    on_error_option,
)
from i0tscore.cli.scoring import make_scorer
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.results.comparison import Comparison

_PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class CompareOptions(MeasureOptions):
    """What is compared, and how it is shown."""

    files: tuple[Path, ...]
    images: Path | None
    references: Path | None
    annotations: Path | None
    input_format: str | None
    on_error: str
    baseline: str | None

    def __post_init__(self) -> None:
        """Refuse what cannot be compared, before any work."""
        if len(self.files) < 2:
            raise UsageError("give two files or more, one a system: i0tscore compare a.json b.json")
        for folder in (file for file in self.files if file.is_dir()):
            if not any((*folder.glob("state.json"), *folder.glob("metadata.*"))):
                raise UsageError(f"{folder} is a folder without captions: for images it is --images {folder}")
        repeated = [str(file) for file in self.files if self.files.count(file) > 1]
        if repeated:
            raise UsageError(f"{repeated[0]} is given twice: give each system once")
        if self.baseline is not None and self.baseline not in self.systems:
            listed = ", ".join(self.systems)
            raise UsageError(f"--baseline {self.baseline}: no such system; there are {listed}")

    @property
    def systems(self) -> dict[str, Path]:
        """The files by name of the system: their stems, or their paths where stems are alike."""
        stems = [file.stem for file in self.files]
        alike = len(set(stems)) < len(stems)
        return {str(file) if alike else file.stem: file for file in self.files}


compare_options = add_options(
    click.argument("files", nargs=-1, type=_PATH, metavar="FILE FILE..."),
    click.option("--images", type=_PATH, metavar="FOLDER", help="Folder of the images."),
    caption_file_options,
    on_error_option,
    click.option("--baseline", metavar="NAME", help="System the others are compared with; the first if left out."),
    view_options,
)


@click.command(short_help="Compare two or more systems on the same images.")
@compare_options
@model_options
def compare(**options: Any) -> None:
    """Compare systems: each FILE has the captions of one system, named by the file's stem.

    The files are caption files as for score, of the same ids, scored together; or results that score
    wrote as JSON or JSON lines.
    """
    model, asked = ModelOptions.take(options), CompareOptions.take(options)
    check_output(asked.output)
    comparison = _compare(asked, model)

    from i0tscore.render.comparison_view import comparison_csv, comparison_document

    write_view(
        comparison_document(comparison),
        asked,
        as_data=comparison.to_dict,
        as_csv=lambda: comparison_csv(comparison),
    )


def _compare(asked: CompareOptions, model: ModelOptions) -> Comparison:
    from i0tscore.results.comparison import is_result_file

    baseline = asked.baseline or next(iter(asked.systems))
    results = [name for name, file in asked.systems.items() if is_result_file(file)]
    if len(results) == len(asked.files):
        return _compare_results(asked, baseline)
    if results:
        raise UsageError(f"{', '.join(results)}: results among captions; give captions only, or results only")
    from i0tscore.metrics.sample_sets import score_and_compare
    from i0tscore.samples import read_samples

    found = {
        name: read_samples(
            file,
            images=asked.images,
            references=asked.references,
            annotations=asked.annotations,
            input_format=asked.input_format,
            on_error="skip" if asked.on_error == "skip" else "raise",
        )
        for name, file in asked.systems.items()
    }
    scorer = make_scorer(
        model,
        on_error=asked.on_error,
        statistics=asked.statistics,
        metrics=asked.metric or None,
        resamples=0,
    )
    return score_and_compare(scorer, found, baseline, resampling=asked.resampling)


def _compare_results(asked: CompareOptions, baseline: str) -> Comparison:
    from i0tscore.metrics.metric import parse_metrics
    from i0tscore.results.comparison import compare_results

    given = [name for name in ("images", "references", "annotations") if getattr(asked, name) is not None]
    if given:
        raise UsageError(f"--{given[0]} goes with captions, and these files are results: leave it out")
    return compare_results(
        asked.systems, baseline, metrics=[str(m) for m in parse_metrics(asked.metric)], resampling=asked.resampling
    )
