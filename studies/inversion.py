"""Inversion on Flickr8k: retrieval, classification and references, native against crossed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from human_judgments.arguments import Arguments, script
from human_judgments.report import Report, bullets, resampling_note
from i0tscore.errors import InputError
from i0tscore.inversion import invert_captions, invert_images
from i0tscore.metrics.metric import PREFIX
from studies.embedder import Embedder, open_embedder
from studies.flickr8k_labels import AGREEING, CLASSES, OTHERS, TEMPLATES
from studies.inversion_blocks import (
    inversion_table,
    reference_tables,
    replication_table,
    replications,
    task_blocks,
)
from studies.inversion_material import TIMED, Crossed, Material, cross, read_material
from studies.inversion_picture import InversionPicture
from studies.inversion_published import published_blocks
from studies.inversion_references import References, compare_references
from studies.inversion_tasks import (
    Task,
    image_to_image,
    image_to_text,
    text_to_image,
    text_to_text,
)
from studies.inversion_words import reference_verdict, replication_words
from studies.inversion_zero_shot import zero_shot

SCHEMA = "i0tscore.inversion/1"

RULES = (
    "Flickr8k-Expert; the references of a photograph are its five captions. Plain rules compare the rated "
    "caption y with the references r as captions. Crossed ones compare it with OVI(r), as with an image: the "
    "reference side is the largest y·OVI(r); `harmonic` joins it with the image side and clips both at 0 "
    "(plain: RefCLIPScore under `none`, with its weight 2.5 on the image side, and RefI0TScore under `post`; "
    "crossed: no weight, since both sides are then cosines of a caption with the images' region); `mean` "
    "does not clip; `multi-way mean` is the mean of y·x and of all five references. Under `post` inverted "
    "captions are standardized as images are, with the image mean; under `post, own mean` with the mean of "
    "all inverted captions."
)
NOTES = (
    "a query is never in its own gallery; only one side is inverted at a time",
    f"classes: {len(CLASSES)}, read off the captions (i0tscore/training/flickr8k_labels.py): a photograph is "
    f"of a class that at least {AGREEING} of its captions name while no other is named by {OTHERS} or more; "
    f"{len(TEMPLATES)} templates a class, averaged",
    "a few captions stand beside two photographs; the other photograph's is then as similar as can be and "
    "wrong, which no query that keeps to its caption can help",
    "intervals are of each figure by itself, not corrected for their number; inverted features are drawn "
    "once, by seed and id",
    "optimiser, template and start of the inversion are the published ones, and so are 150 and 1,000 "
    "updates; cosines are means over the queries of the figure",
)
LITE = (
    "lite is trained on Flickr8k's training photographs: other photographs of the same kind as these",
    "lite has no patches: its pseudo-patch is the features of one location after a stage of its "
    "convolutional tower, so its OVI is a counterpart of the paper's and not the same",
)


@script(
    "studies.inversion",
    click.option("--queries", type=click.IntRange(2), metavar="N", help="Only the first N photographs: a trial."),
    click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Updates of OTI."),
    click.option("--caption-steps", type=click.IntRange(1), default=1000, show_default=True, help="Updates of OVI."),
    click.option(
        "--inverted",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="FOLDER",
        help="Where finished batches of inverted features are kept and looked for.",
    ),
)
def main(arguments: Arguments, queries: int | None, steps: int, caption_steps: int, inverted: Path | None) -> Report:
    """Retrieval, classification and reference scores with one side inverted, on Flickr8k's test split."""
    if arguments.model is None:
        raise InputError("this study needs a model")
    with open_embedder(arguments.model) as embedder:
        material = read_material(embedder, arguments, queries)
        oti, ovi = _invert(embedder, material, (steps, caption_steps), inverted, quiet=arguments.model.quiet)
    resampling = arguments.resampling
    tasks = {
        task.name: task
        for task in (
            text_to_text(material, ovi, resampling),
            image_to_image(material, oti, resampling),
            zero_shot(material, oti, resampling),
            image_to_text(material, oti, resampling),
            text_to_image(material, ovi, resampling),
        )
    }
    references = compare_references(material, ovi, resampling)
    data = {
        "schema": SCHEMA,
        "command": arguments.command,
        "encoder": asdict(embedder.fingerprint),
        "resampling": asdict(resampling),
        "photographs": len(material.names),
        "inverted": {one.method: one.to_dict() for one in (oti, ovi)},
        "tasks": {name: task.to_dict() for name, task in tasks.items()},
        "references": references.to_dict(),
        "replication": [
            {"task": name, "theirs": points, "ours": ours.to_dict(), "reading": said}
            for name, points, ours, said in replications(tasks)
        ],
    }
    stem = f"inversion-{arguments.label.replace('/', '--')}"
    return Report(
        stem if queries is None else f"{stem}-{queries}",
        f"Inversion on Flickr8k: native against crossed, model {arguments.label}",
        _blocks(material, (oti, ovi), tasks, references, arguments, asdict(embedder.fingerprint)),
        data,
        InversionPicture(
            "What inversion changes, over its updates",
            [tasks["text–text"], tasks["image–image"]],
            references,
        ),
    )


def _invert(
    embedder: Embedder, material: Material, updates: tuple[int, int], folder: Path | None, *, quiet: bool
) -> tuple[Crossed, Crossed]:
    """Photographs by OTI and captions by OVI."""
    folders = [None if folder is None else folder / name for name in ("oti", "ovi")]
    oti, ovi = (
        partial(invert, embedder.encoder, progress=not quiet and sys.stderr.isatty())
        for invert in (invert_images, invert_captions)
    )
    return (
        cross(oti, material.images, material.names, updates=updates[0], folder=folders[0]),
        cross(ovi, material.captions, material.caption_ids, updates=updates[1], folder=folders[1]),
    )


def _blocks(
    material: Material,
    inverted: Sequence[Crossed],
    tasks: Mapping[str, Task],
    references: References,
    arguments: Arguments,
    fingerprint: Mapping[str, Any],
) -> list[str]:
    rated = f"{references.ratings:,} ratings of {references.items:,} pairs"
    return [
        f"Flickr8k, test split: {len(material.names):,} photographs with {len(material.captions):,} "
        f"captions, {len(material.labelled)} of them with a class, and {rated}; model {arguments.label}. "
        "Photographs were inverted into the texts' region (OTI), captions into the images' (OVI), as in "
        'Mistretta et al., "Cross '
        f'the Gap", ICLR 2025 ([what that is](../docs/inversion.md)). Made by\n\n```console\n'
        f"$ {arguments.command}\n```",
        f"Figures × 100. {resampling_note(arguments.resampling, 'photographs')}",
        "## What replicates",
        *replication_words(tasks, arguments.label),
        replication_table(tasks),
        "## How it was inverted",
        inversion_table(inverted),
        f"Processor seconds were taken of one batch, of {TIMED} items where there are as many.",
        "## Text to text",
        *task_blocks(tasks["text–text"]),
        "## Image to image",
        *task_blocks(tasks["image–image"]),
        "## Between modalities, where crossing is expected to hurt",
        *(block for name in ("zero-shot", "image–text", "text–image") for block in task_blocks(tasks[name])),
        f"## References that cross\n\n{RULES} τ-c; n = {rated}, {references.photographs:,} photographs; "
        f"references inverted with {references.last:,} updates; differences on the same resamples, from the "
        "plain rule in the same row and from the plain rule that agrees best under the same standardizer:",
        *reference_tables(references),
        *reference_verdict(references),
        *published_blocks(),
        "## Conditions",
        bullets(
            [
                *(LITE if arguments.label == "lite" else ()),
                *NOTES,
                f"statistics of post: {material.statistics.name}",
                f"encoder {', '.join(fingerprint.values())}; prefix {PREFIX!r}",
            ]
        ),
        "\n".join(["```", *(one.signature for one in inverted), "```"]),
    ]


if __name__ == "__main__":
    main()
