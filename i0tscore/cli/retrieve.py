"""``i0tscore retrieve``: retrieval between and within modalities, with inversion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from i0tscore.cli.console import check_output
from i0tscore.cli.options import (
    InputOptions,
    ModelOptions,
    OutputOptions,
    ResamplingOptions,
    input_options,
    make_encoder,
    make_resampling,
    model_options,
    option,
    option_group,
    output_options,
    read_inputs,
    standardizer_option,
    write_report,
)
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Fingerprint
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.gap import Standardizer, Statistics
    from i0tscore.inversion import Inverted
    from i0tscore.inversion.search import Collection, Items, Search
    from i0tscore.results import Resampling
    from i0tscore.samples import Skipped
    from i0tscore.samples.labeled import LabeledSet

INVERTS = {"oti": "image", "ovi": "text"}
"""What each inversion inverts."""
TEMPLATE = "a photo of {}"
"""The default text of a label."""
STEPS = {"oti": 150, "ovi": 1000}
"""The default number of steps of each inversion: those of ``invert_images`` and ``invert_captions``."""


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, and by what.

    Raises:
        UsageError: The options contradict each other.
    """

    task: str = option(
        "Kind of the queries, and kind of the items searched.",
        "image-text",
        choices=("image-text", "text-image", "image-image", "text-text"),
    )
    gallery: Path | None = option("Folder or table with labels to search, instead of CAPTIONS itself.", path="PATH")
    label: str | None = option(
        "Column of labels, if CAPTIONS is a table with images, captions or both. Items with the same label are "
        "relevant to each other.",
        metavar="COLUMN",
    )
    template: str = option("Text of a label, for labels without captions.", TEMPLATE)
    standardizer: tuple[str, ...] = standardizer_option(
        "Also search standardized embeddings: post, dn(0.25), shift(0.5), ... Repeatable."
    )
    statistics: str = option(
        "Reference means of the standardizers: shipped with the model (auto, builtin), or written by fit (FILE).",
        "auto",
        metavar="auto|builtin|FILE",
    )
    queries: int | None = option("Use only N queries, sampled at random with --seed.", minimum=1, metavar="N")

    def __post_init__(self) -> None:
        """Check that the options make sense together."""
        if self.statistics == "batch":
            raise UsageError("--statistics batch: Retrieval needs fixed statistics. Fit them with i0tscore fit.")
        if self.statistics != "auto" and not self.standardizer:
            raise UsageError("--statistics has no effect without a standardizer. Give --standardizer as well.")
        if "{}" not in self.template:
            raise UsageError(
                f"--template {self.template!r} gives every label the same text. Write {{}} in place of the label."
            )


@dataclass(frozen=True)
class InversionOptions:
    """What is inverted, and how.

    Raises:
        UsageError: An option is given that has no effect, or that cannot be carried out.
    """

    invert: str | None = option(
        "Also search after inversion: images through the text encoder (oti), or texts through the image encoder (ovi).",
        choices=tuple(INVERTS),
    )
    inverted_side: Literal["query", "gallery"] = option("Side to invert.", "query", choices=("query", "gallery"))
    pseudo_inputs: int | None = option(
        "Pseudo-tokens or pseudo-patches per item.",
        default_text="the paper's number for the model",
        minimum=1,
        metavar="N",
    )
    steps: int | None = option("Optimization steps.", default_text="150 for oti, 1000 for ovi", minimum=1)
    eval_steps: tuple[int, ...] = option(
        "Also measure after N steps. Repeatable.", (), minimum=0, multiple=True, metavar="N"
    )
    patience: int | None = option("Stop optimizing an item after N steps without progress.", minimum=1, metavar="N")
    inversion_seed: int = option("Seed of the initial pseudo-inputs.", 42)
    save: Path | None = option("Write the inverted features to FILE (.safetensors).", path="FILE")
    resume: Path | None = option("Folder of finished batches, from which an interrupted run continues.", path="FOLDER")

    def __post_init__(self) -> None:
        """Check that the options make sense together."""
        if self.invert is None:
            names = ("pseudo_inputs", "steps", "eval_steps", "patience", "save", "resume")
            unused = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) not in (None, ())]
            if unused:
                raise UsageError(f"{', '.join(unused)}: Nothing is inverted. Give --invert oti or --invert ovi.")
            return
        check_output(self.save)
        if self.save is not None and self.save.suffix != ".safetensors":
            raise UsageError(
                f"--save {self.save}: Inverted features are safetensors. Give a name ending in .safetensors."
            )
        steps = self.steps or STEPS[self.invert]
        last = max(self.eval_steps, default=0)
        if last > steps:
            raise UsageError(
                f"--eval-steps {last}: There are only {steps} steps. Give --steps {last}, or fewer to --eval-steps."
            )

    def check(self, task: str) -> None:
        """Check that a task has the kind of items that is inverted.

        Raises:
            UsageError: It has not.
        """
        if self.invert is None:
            return
        query, gallery = task.split("-")
        kind = query if self.inverted_side == "query" else gallery
        if INVERTS[self.invert] != kind:
            raise UsageError(
                f"--invert {self.invert} inverts {INVERTS[self.invert]}s, but the {self.inverted_side} of {task} "
                f"is {kind}s. Use --invert {'oti' if kind == 'image' else 'ovi'}, or another task."
            )


@dataclass(frozen=True)
class RetrievalResamplingOptions(ResamplingOptions):
    """The same, with a seed that also samples the queries."""

    seed: int = option("Seed of the bootstrap, and of the sample of --queries.", 12345)


@click.command(short_help="Measure image and text retrieval, with and without inversion.")
@input_options
@option_group("searching", SearchOptions)
@option_group("inversion", InversionOptions)
@option_group("resampling", RetrievalResamplingOptions, make_resampling)
@output_options
@model_options
def retrieve(
    inputs: InputOptions,
    searching: SearchOptions,
    inversion: InversionOptions,
    resampling: Resampling,
    output: OutputOptions,
    model: ModelOptions,
) -> None:
    """Search images or texts with images or texts as queries, and measure how well it works.

    CAPTIONS and IMAGES are the same as for score: an image and its captions are relevant to each other.
    CAPTIONS may also be a folder with a subfolder of images for each label, or a table with --label: items
    with the same label are then relevant to each other.
    """
    check_output(output.path)
    inversion.check(searching.task)

    from i0tscore.gap import Standardizer
    from i0tscore.inversion.retrieval import report_retrieval
    from i0tscore.inversion.search import TASKS, Search
    from i0tscore.metrics.metric import PRESETS
    from i0tscore.render.report_views import retrieval_csv, retrieval_document
    from i0tscore.results.signature import embeddings_fields

    standardizers = [Standardizer.parse(name) for name in searching.standardizer]
    query_source, gallery_source, skipped, notes = _read(inputs, searching, model if inversion.invert is None else None)
    sides = list(zip((query_source, gallery_source), TASKS[searching.task], strict=True))
    prompts = [collection.prompts for collection, kind in sides if kind == "text"]
    # The template of a label is its whole text.
    prefix = "" if prompts and all(prompts) else PRESETS[model.preset].prefix
    encoder = make_encoder(model, inputs.on_error, prefix)
    queries, gallery = _embed(sides, encoder, inputs.on_error == "skip", skipped)
    search = Search.of(searching.task, queries, gallery, count=searching.queries, seed=resampling.seed)
    # Given embeddings were not computed by the model, even if it inverts them.
    encoding = [field for part in encoder.signature_fields for field in part]
    encoding = encoding or list(embeddings_fields(queries.vectors, gallery.vectors))
    encoding += [("template", searching.template)] if any(prompts) else []
    fingerprint = encoder.used_fingerprint if inversion.invert is None else encoder.encoder.fingerprint
    statistics = _check_statistics(search, standardizers, searching.statistics, fingerprint, prefix, notes)
    inverted = _invert(search, inversion, encoder, model)
    report = report_retrieval(
        search,
        inverted,
        inversion.inverted_side,
        standardizers=standardizers,
        statistics=statistics,
        encoding=encoding,
        resampling=resampling,
        skipped=skipped,
        notes=notes,
    )
    write_report(report, output, retrieval_document, retrieval_csv)


def _read(
    inputs: InputOptions, searching: SearchOptions, model: ModelOptions | None
) -> tuple[Collection, Collection, list[Skipped], list[str]]:
    """Read where the queries are, what is searched, what could not be read, and notes."""
    from i0tscore.inversion.search import Collection

    _check_unused(inputs, searching)
    parts = [_read_labeled(path, inputs, searching.label) for path in _paths(inputs, searching)]
    labeled = [part for part in parts if part is not None]
    if searching.gallery is not None and len(labeled) < 2:
        raise UsageError(
            "--gallery requires labels, which say what is relevant. Give two folders with a subfolder for each "
            "label, or tables and --label COLUMN."
        )
    if labeled:
        skipped = [one for part in labeled for one in part.skipped]
        notes = [note for part in labeled for note in part.notes]
        collections = [Collection.of_labeled(part.items, searching.template) for part in labeled]
    else:
        found = read_inputs(inputs, model)
        skipped, notes = list(found.skipped), list(found.notes)
        collections = [Collection.of_pairs(found.images, found.captions, found.ids)]
    if searching.template != TEMPLATE and not any(collection.prompts for collection in collections):
        raise UsageError("--template is the text of labels without captions, but there are captions. Leave it out.")
    return collections[0], collections[-1], skipped, notes


def _paths(inputs: InputOptions, searching: SearchOptions) -> list[Path]:
    return [path for path in (inputs.captions, searching.gallery) if path is not None]


def _check_unused(inputs: InputOptions, searching: SearchOptions) -> None:
    """Check that no option is given that has no effect."""
    from i0tscore.samples.labeled import is_label_folder

    paths = _paths(inputs, searching)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("--gallery is CAPTIONS itself, where each query would find itself. Leave it out.")
    folders = [is_label_folder(path) for path in paths]
    if searching.label is not None and all(folders):
        source = "a folder, whose subfolders are the labels" if folders else "embeddings"
        raise UsageError(f"--label is a column of a table and has no effect on {source}. Leave it out.")
    given = {"--annotations": inputs.annotations, "--input-format": inputs.input_format}
    if folders and all(folders):
        given |= {"--images": inputs.images}
    unused = [name for name, value in given.items() if value is not None]
    if unused and (searching.label is not None or any(folders)):
        raise UsageError(f"{', '.join(unused)}: No effect on items with labels. Leave it out.")


def _read_labeled(path: Path, inputs: InputOptions, label: str | None) -> LabeledSet | None:
    """Read a folder or table with labels; return None for anything else."""
    from i0tscore.samples.labeled import is_label_folder, read_label_folder, read_labeled_table

    if is_label_folder(path):
        return read_label_folder(path)
    if label is None:
        return None
    return read_labeled_table(path, label, images=inputs.images, on_error=inputs.on_error)


def _embed(
    sides: Sequence[tuple[Collection, Any]], encoder: RunEncoder, skip: bool, skipped: list[Skipped]
) -> tuple[Items, Items]:
    """Return the queries and the gallery; append what cannot be embedded to ``skipped``."""
    (query_source, query), (gallery_source, gallery) = sides
    queries, failed = query_source.side(query).embedded(encoder.embed, skip=skip)
    skipped += failed
    if query == gallery and query_source is gallery_source:
        return queries, queries
    items, failed = gallery_source.side(gallery).embedded(encoder.embed, skip=skip)
    skipped += failed
    return queries, items


def _check_statistics(
    search: Search,
    standardizers: Sequence[Standardizer],
    choice: str,
    fingerprint: Fingerprint | None,
    prefix: str,
    notes: list[str],
) -> Statistics | None:
    """Return the statistics, after checking that they suffice for the standardizers; append to ``notes``."""
    from i0tscore.metrics.statistics_choice import checked_statistics

    if not standardizers:
        return None
    dimension = search.gallery.vectors.shape[1]
    statistics, remarks = checked_statistics(choice, fingerprint, prefix, dimension)
    notes += remarks
    for standardizer in standardizers:
        search.check(standardizer, statistics)
    return statistics


def _invert(search: Search, options: InversionOptions, encoder: RunEncoder, model: ModelOptions) -> Inverted | None:
    """Return the inverted features of one side, saved if there is ``--save``; None without inversion."""
    if options.invert is None:
        return None
    from i0tscore.inversion import invert_captions, invert_images

    items = search.side(options.inverted_side)
    settings: dict[str, Any] = {
        "ids": items.ids,
        "eval_steps": tuple(sorted(set(options.eval_steps))),
        "patience": options.patience,
        "seed": options.inversion_seed,
        "resume": options.resume,
        "progress": sys.stderr.isatty() and not model.quiet,
        **({} if options.steps is None else {"steps": options.steps}),
    }
    if options.invert == "oti":
        inverted = invert_images(encoder.encoder, items.vectors, tokens=options.pseudo_inputs, **settings)
    else:
        inverted = invert_captions(encoder.encoder, items.vectors, patches=options.pseudo_inputs, **settings)
    if options.save is not None:
        inverted.save(options.save)
    return inverted
