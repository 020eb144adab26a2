"""``i0tscore retrieve``: retrieval between and within modalities, with inversion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from i0tscore.cli.console import check_output
from i0tscore.cli.measures import OutputOptions, resampling_options, write_view
from i0tscore.cli.options import (
    InputOptions,
    ModelOptions,
    format_option,
    input_options,
    model_options,
    output_option,
)
from i0tscore.cli.retrieve_options import (
    TEMPLATE,
    InvertOptions,
    SearchOptions,
    invert_options,
    search_options,
)
from i0tscore.cli.scoring import make_encoder, read_inputs, refuse_unused
from i0tscore.errors import UsageError
from i0tscore.render.document import RENDERERS

if TYPE_CHECKING:
    from i0tscore.encoders.base import Fingerprint
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.gap import Standardizer, Statistics
    from i0tscore.inversion import Inverted
    from i0tscore.inversion.search import Collection, Items, Search
    from i0tscore.samples import Skipped
    from i0tscore.samples.labeled import LabeledSet


@click.command(short_help="Retrieve between and within modalities, as is and inverted.")
@input_options
@search_options
@invert_options
@resampling_options
@format_option(*RENDERERS, "json", "csv")
@output_option
@model_options
def retrieve(**options: Any) -> None:
    """Search images or texts by images or texts, and measure what is found.

    CAPTIONS and IMAGES are given as for score: captions of one image are relevant to it and to one another.
    CAPTIONS may also be a folder with a sub-folder of images for each label, or a table with --label.
    """
    inputs, model = InputOptions.take(options), ModelOptions.take(options)
    asked, inversion = SearchOptions.take(options), InvertOptions.take(options)
    view = OutputOptions.take(options)
    check_output(view.output)
    check_output(inversion.save)
    inversion.check(asked.task)
    if inversion.invert is None:
        refuse_unused(inputs, model)

    from i0tscore.gap import Standardizer
    from i0tscore.inversion.retrieval import report_retrieval
    from i0tscore.inversion.search import Search
    from i0tscore.metrics.metric import PRESETS
    from i0tscore.render.retrieval_view import retrieval_csv, retrieval_document
    from i0tscore.results.signature import embeddings_fields

    standardizers = [Standardizer.parse(name) for name in asked.standardizer]
    asking, searched, skipped, notes = _read(inputs, asked)
    prompts = _prompts(asking, searched, asked.task)
    # Prompts of labels are whole as they are.
    prefix = "" if prompts and all(prompts) else PRESETS[model.preset].prefix
    encoder = make_encoder(model, on_error=inputs.on_error, prefix=prefix)
    first, second = _embed(asking, searched, asked.task, encoder, inputs.on_error == "skip", skipped)
    search = Search.of(asked.task, first, second, count=asked.queries, seed=view.seed)
    # Embeddings that were given were not encoded here, also where a model inverts them.
    encoding = [*encoder.signature_fields, *encoder.encoding_fields]
    encoding = encoding or list(embeddings_fields(first.vectors, second.vectors))
    encoding += [("template", asked.template)] if any(prompts) else []
    fingerprint = encoder.used_fingerprint if inversion.invert is None else encoder.fingerprint
    statistics = _statistics(search, standardizers, asked.statistics, fingerprint, prefix, notes)
    inverted = _inverted(search, inversion, encoder, model)
    if inverted is not None and inversion.save is not None:
        inverted.save(inversion.save)
    report = report_retrieval(
        search,
        inverted,
        inversion.inverted_side,
        standardizers=standardizers,
        statistics=statistics,
        encoding=encoding,
        resampling=view.resampling,
        skipped=skipped,
        notes=notes,
    )
    document = retrieval_document(report)
    write_view(document, view, as_data=report.to_dict, as_csv=lambda: retrieval_csv(report))


def _prompts(asking: Collection, searched: Collection, task: str) -> list[bool]:
    """Whether texts are prompts of labels: of each side that is texts."""
    from i0tscore.inversion.search import TASKS

    sides = zip((asking, searched), TASKS[task], strict=True)
    return [collection.prompts for collection, kind in sides if kind == "text"]


def _statistics(
    search: Search,
    standardizers: Sequence[Standardizer],
    choice: str,
    fingerprint: Fingerprint | None,
    prefix: str,
    notes: list[str],
) -> Statistics | None:
    """What the standardizers need, tried before anything takes long; what is to be said is added to notes."""
    from i0tscore.metrics.statistics_choice import checked_statistics

    if not standardizers:
        return None
    dimension = search.gallery.vectors.shape[1]
    statistics, said = checked_statistics(choice, fingerprint, prefix, dimension)
    notes += said
    for standardizer in standardizers:
        search.check(standardizer, statistics)
    return statistics


def _read(inputs: InputOptions, asked: SearchOptions) -> tuple[Collection, Collection, list[Skipped], list[str]]:
    """What has the queries, what is searched, what could not be read, and notes."""
    from i0tscore.inversion.search import Collection
    from i0tscore.samples import Skipped

    _refuse_idle(inputs, asked)
    parts = [_labelled(path, inputs, asked) for path in (inputs.captions, asked.gallery) if path is not None]
    read = [part for part in parts if part is not None]
    if asked.gallery is not None and len(read) < 2:
        raise UsageError(
            "--gallery: what is relevant in another place is told by labels: give two folders with a "
            "sub-folder for each label, or tables and --label COLUMN"
        )
    skipped = [Skipped(one.id, one.reason) for part in read for one in part.skipped]
    notes = [note for part in read for note in part.notes]
    collections = [Collection.of_labeled(part.items, asked.template) for part in read]
    if not read:
        found = read_inputs(inputs)
        skipped, notes = list(found.skipped), list(found.notes)
        collections = [Collection.of_pairs(found.images, found.captions, found.ids)]
    if asked.template != TEMPLATE and not any(one.prompts for one in collections):
        raise UsageError("--template is the text of a label, and there are captions: leave it out")
    return collections[0], collections[-1], skipped, notes


def _refuse_idle(inputs: InputOptions, asked: SearchOptions) -> None:
    """Refuse what would do nothing."""
    from i0tscore.samples.labeled import is_label_folder

    if inputs.references_file:
        raise UsageError("references are not retrieved: leave --references out")
    places = [path.resolve() for path in (inputs.captions, asked.gallery) if path is not None]
    if len(places) != len(set(places)):
        raise UsageError("--gallery is CAPTIONS itself, where each query would find itself: leave it out")
    folders = [is_label_folder(path) for path in (inputs.captions, asked.gallery) if path is not None]
    if asked.label is not None and all(folders):
        where = "where sub-folders are the labels" if folders else "where embeddings are given"
        raise UsageError(f"--label is the column of a table, and does nothing {where}: leave it out")
    given = {"--annotations": inputs.annotations, "--input-format": inputs.input_format}
    if folders and all(folders):
        given |= {"--images": inputs.folder}
    idle = ", ".join(name for name, value in given.items() if value is not None)
    if idle and (asked.label is not None or any(folders)):
        raise UsageError(f"{idle}: nothing is read so where there are labels: leave it out")


def _labelled(path: Path, inputs: InputOptions, asked: SearchOptions) -> LabeledSet | None:
    """A labelled folder or table; None if it is something else."""
    from i0tscore.samples.labeled import is_label_folder, read_label_folder, read_labeled_table

    if is_label_folder(path):
        return read_label_folder(path)
    if asked.label is None:
        return None
    on_error: Literal["raise", "skip"] = "skip" if inputs.on_error == "skip" else "raise"
    return read_labeled_table(path, asked.label, images=inputs.folder, on_error=on_error)


def _embed(
    asking: Collection,
    searched: Collection,
    task: str,
    encoder: RunEncoder,
    skip: bool,
    skipped: list[Skipped],
) -> tuple[Items, Items]:
    """Queries and gallery; what cannot be embedded is added to what is skipped."""
    from i0tscore.inversion.search import TASKS

    query, gallery = TASKS[task]
    first, failed = asking.side(query).embedded(encoder.side, skip=skip)
    skipped += failed
    if query == gallery and searched is asking:
        return first, first
    second, failed = searched.side(gallery).embedded(encoder.side, skip=skip)
    skipped += failed
    return first, second


def _inverted(search: Search, asked: InvertOptions, encoder: RunEncoder, model: ModelOptions) -> Inverted | None:
    """The inverted features of the side that is inverted."""
    if asked.invert is None:
        return None
    from i0tscore.inversion import invert_captions, invert_images

    items = search.side(asked.inverted_side)
    common: dict[str, Any] = {
        "ids": items.ids,
        "eval_steps": tuple(sorted(set(asked.curve))),
        "patience": asked.patience,
        "seed": asked.inversion_seed,
        "resume": asked.resume,
        "progress": sys.stderr.isatty() and not model.quiet,
        **({} if asked.steps is None else {"steps": asked.steps}),
    }
    if asked.invert == "oti":
        return invert_images(encoder.encoder, items.vectors, tokens=asked.pseudo_inputs, **common)
    return invert_captions(encoder.encoder, items.vectors, patches=asked.pseudo_inputs, **common)
