"""``i0tscore retrieve``: retrieval between and within modalities, with inversion."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from i0tscore.cli.console import check_output
from i0tscore.cli.options import (
    InputOptions,
    IntervalOptions,
    ModelOptions,
    OutputOptions,
    ReadingOptions,
    make_encoder,
    read_inputs,
    verb,
    write_report,
)
from i0tscore.errors import UsageError
from i0tscore.options import option

if TYPE_CHECKING:
    from i0tscore.encoders.encode import RunEncoder
    from i0tscore.inversion import Inverted
    from i0tscore.inversion.retrieval import Collection, Items, Kind, Search
    from i0tscore.samples import Skipped

INVERTS = {"oti": "image", "ovi": "text"}
"""What each inversion inverts."""
TEMPLATE = "a photo of {}"
"""The default text of a label."""
TEMPLATES = {
    "aircraft": "a photo of a {}, a type of aircraft.",
    "caltech": "a photo of a {}.",
    "cars": "a photo of a {}.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "flowers": "a photo of a {}, a type of flower.",
    "food": "a photo of {}, a type of food.",
    "imagenet": "a photo of a {}.",
    "pets": "a photo of a {}, a type of pet.",
    "sun": "a photo of a {}.",
    "ucf": "a photo of a person doing {}.",
}
"""Texts of labels by dataset, as in the code of Cross the Gap, which has them from CoOp (Zhou et al. 2022)."""
STEPS = {"oti": 150, "ovi": 1000}
"""The default number of steps of each inversion: those of ``invert_images`` and ``invert_captions``."""


@dataclass
class SearchOptions:
    """What is searched, and by what.

    Raises:
        UsageError: The options contradict each other.
    """

    task: str = option(
        "Modality of the queries, then modality of the items searched.",
        "image-text",
        choices=("image-text", "text-image", "image-image", "text-text"),
    )
    gallery: Path | None = option("Folder or table with labels to search, instead of CAPTIONS itself.", path="PATH")
    label: str | None = option(
        "Column of labels, if CAPTIONS is a table with images, captions or both. Items with the same label are "
        "relevant to each other.",
        metavar="COLUMN",
    )
    template: str = option(
        f"Text of a label, for labels without captions. Or a dataset, for its text: {', '.join(TEMPLATES)}.", TEMPLATE
    )
    protocol: Literal["all", "cross-the-gap"] = option(
        "all: Every caption is a query for all others; queries without a relevant item are left out. cross-the-gap: "
        "The first caption of each image is a query for the others; such queries count as 0.",
        "all",
        choices=("all", "cross-the-gap"),
    )
    standardizer: tuple[str, ...] = option(
        "Also search standardized embeddings: post, dn(0.25), shift(0.5), ... Repeatable.",
        (),
        multiple=True,
        metavar="NAME",
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
        self.template = TEMPLATES.get(self.template, self.template)
        if "{}" not in self.template:
            raise UsageError(
                f"--template {self.template!r} gives every label the same text. Write {{}} in place of the label, or "
                f"name a dataset: {', '.join(TEMPLATES)}."
            )


@dataclass
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


@dataclass
class RetrievalIntervalOptions(IntervalOptions):
    """The same, with a seed that also samples the queries."""

    seed: int = option("Seed of the bootstrap, and of the sample of --queries.", 12345)


@verb("Measure image and text retrieval, with and without inversion.")
def retrieve(
    inputs: InputOptions,
    reading: ReadingOptions,
    searching: SearchOptions,
    inversion: InversionOptions,
    intervals: RetrievalIntervalOptions,
    output: OutputOptions,
    model: ModelOptions,
) -> None:
    """Measure how well images and texts retrieve each other, or items of their own kind.

    CAPTIONS and IMAGES are the same as for score: an image and its captions are relevant to each other.
    CAPTIONS may also be a folder with a subfolder of images for each label, or a table with --label: items
    with the same label are then relevant to each other.
    """
    inversion.check(searching.task)

    from i0tscore.gap import Standardizer
    from i0tscore.inversion.retrieval import TASKS, Search, report_retrieval
    from i0tscore.metrics.metric import PRESETS
    from i0tscore.metrics.statistics_choice import checked_statistics
    from i0tscore.results.signature import embeddings_fields
    from i0tscore.views.report_views import retrieval_csv, retrieval_document

    standardizers = [Standardizer.parse(name) for name in searching.standardizer]
    collections, skipped, notes = _read(inputs, reading, searching, model if inversion.invert is None else None)
    sides = list(zip(collections, TASKS[searching.task], strict=True))
    prompts = [collection.prompts for collection, kind in sides if kind == "text"]
    prefix = "" if prompts and all(prompts) else PRESETS[model.preset].prefix  # a prompt has no prefix
    encoder = make_encoder(model, inputs.on_error, prefix)
    queries, gallery = _embed(sides, encoder, inputs.on_error == "skip", skipped, notes)
    search = Search.of(
        searching.task, queries, gallery, count=searching.queries, seed=intervals.seed, protocol=searching.protocol
    )
    # Given embeddings were not computed by the model, even if it inverts them.
    encoding = [field for part in encoder.signature_fields for field in part]
    encoding = encoding or list(embeddings_fields(queries.contents, gallery.contents))
    encoding += [("template", searching.template)] if any(prompts) else []
    statistics = None
    if standardizers:
        fingerprint = encoder.used_fingerprint if inversion.invert is None else encoder.encoder.fingerprint
        statistics, remarks = checked_statistics(searching.statistics, fingerprint, prefix, gallery.contents.shape[1])
        notes += remarks
    search.check(standardizers, statistics)  # before inversion, which takes long
    report = report_retrieval(
        search,
        _invert(search, inversion, encoder, model),
        inversion.inverted_side,
        standardizers=standardizers,
        statistics=statistics,
        encoding=encoding,
        resampling=intervals.resampling,
        skipped=skipped,
        notes=notes,
    )
    write_report(report, output, retrieval_document, retrieval_csv)


def _read(
    inputs: InputOptions, reading: ReadingOptions, searching: SearchOptions, model: ModelOptions | None
) -> tuple[tuple[Collection, Collection], list[Skipped], list[str]]:
    """Return the collections of queries and gallery, which may be the same, what was skipped, and notes."""
    from i0tscore.inversion.retrieval import Collection
    from i0tscore.samples.labeled import is_label_folder, read_label_folder, read_labeled_table

    label, paths = searching.label, [path for path in (inputs.captions, searching.gallery) if path is not None]
    folders = [is_label_folder(path) for path in paths]
    _check_unused(inputs, reading, searching, paths, folders)
    if label is None and not any(folders):
        found = read_inputs(inputs, reading, model)
        skipped, notes = list(found.skipped), list(found.notes)
        collections = [Collection.of_pairs(found.images[:], found.captions[:], found.ids)]
    else:
        parts = [
            read_label_folder(path)
            if is_folder
            else read_labeled_table(path, label or "", images=inputs.images, on_error=inputs.on_error)
            for path, is_folder in zip(paths, folders, strict=True)
        ]
        skipped, notes = [one for part in parts for one in part.skipped], [one for part in parts for one in part.notes]
        collections = [Collection.of_labeled(part.items, searching.template) for part in parts]
    if searching.template != TEMPLATE and not any(collection.prompts for collection in collections):
        raise UsageError("--template is the text of labels without captions, but there are captions. Remove it.")
    return (collections[0], collections[-1]), skipped, notes


def _check_unused(
    inputs: InputOptions, reading: ReadingOptions, searching: SearchOptions, paths: list[Path], folders: list[bool]
) -> None:
    """Check that every option has an effect."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("--gallery is CAPTIONS itself, where each query would find itself. Remove it.")
    if searching.label is not None and all(folders):
        source = "a folder, whose subfolders are the labels" if folders else "embeddings"
        raise UsageError(f"--label is a column of a table and has no effect on {source}. Remove it.")
    unused = reading.changed
    if folders and all(folders) and inputs.images is not None:
        unused.append("--images")
    if unused and (searching.label is not None or any(folders)):
        raise UsageError(f"{', '.join(unused)}: No effect on items with labels. Remove it.")
    if searching.gallery is not None and (inputs.captions is None or (searching.label is None and not all(folders))):
        raise UsageError(
            "--gallery requires labels, which say what is relevant. Give two folders with a subfolder for each "
            "label, or tables and --label COLUMN."
        )


def _embed(
    sides: Sequence[tuple[Collection, Kind]],
    encoder: RunEncoder,
    skip: bool,
    skipped: list[Skipped],
    notes: list[str],
) -> list[Items]:
    """Return the queries and the gallery, the same object if they are; add skipped items and notes to the lists."""
    embedded: dict[tuple[Collection, Kind], Items] = {}
    for collection, kind in sides:
        if (collection, kind) not in embedded:
            embedded[collection, kind], failed, remarks = collection.embed(kind, encoder.embed, skip=skip)
            skipped += failed
            notes += remarks
    return [embedded[side] for side in sides]


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
        "steps": options.steps or STEPS[options.invert],
    }
    if options.invert == "oti":
        inverted = invert_images(encoder.encoder, items.contents, tokens=options.pseudo_inputs, **settings)
    else:
        inverted = invert_captions(encoder.encoder, items.contents, patches=options.pseudo_inputs, **settings)
    if options.save is not None:
        inverted.save(options.save)
    return inverted
