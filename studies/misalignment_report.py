"""What inversion does within images, step by step, and its rivals: Cross the Gap's counter-experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from human_judgments.arguments import Arguments, script
from human_judgments.plot import DynamicsPicture
from human_judgments.report import Report, bullets, percent, resampling_note, table
from i0tscore.encoders.loop import embed_captions
from i0tscore.errors import InputError
from i0tscore.results.intervals import Resampling
from studies.closed_form import project_pca
from studies.dynamics import (
    CURVE,
    QUANTILES,
    cross_cosines,
    draw_queries,
    image_precisions,
    inversion_dynamics,
    mean_of,
)
from studies.embedder import Embedder, open_embedder
from studies.flickr8k import CAPTIONS_PER_IMAGE, read_split
from studies.flickr8k_labels import labels_of
from studies.imagenet import class_captions
from studies.misalignment_heads import estimate, heads_blocks
from studies.misalignment_words import dynamics_words, heads_words

Vectors = NDArray[np.float32]

SCHEMA = "i0tscore.misalignment/1"
SHOWN = (0, 17, 150)
"""Updates whose cosines are in the table; 17 is where the paper's R = 4 is best."""

NOTES = (
    "labels are read off the captions (i0tscore/training/flickr8k_labels.py); a query is not in its own "
    "gallery, and the gallery is never inverted",
    "R is the number of pseudo-tokens; everything else of the inversion is as published",
    "IsoCLIP's closed form needs towers that end in a linear projection "
    "(i0tscore/inversion/closed_form.py); the heads of lite have a hidden layer, so it is not measured",
)


@script(
    "studies.misalignment_report",
    click.option("--queries", type=click.IntRange(2), default=48, show_default=True, help="Inverted images."),
    click.option(
        "--heads",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="What `python -m studies.misalignment` wrote.",
    ),
)
def main(arguments: Arguments, queries: int, heads: Path | None) -> Report:
    """Inversion over its steps, closed forms, and differently trained heads, within images."""
    if arguments.model is None:
        raise InputError("this study needs a model")
    folder, resampling = arguments.folder(), arguments.resampling
    with open_embedder(arguments.model) as embedder:
        images, captions, labels = _labelled(embedder, folder)
        rows = draw_queries(len(images), queries)
        classes = [f"a photo of {name}" for name, _, _ in class_captions()]
        texts = {
            "PCA of ImageNet's class names": embed_captions(embedder.encoder, classes).vectors,
            "PCA of the dev split's captions": embedder.captions(read_split(folder, "dev").captions).vectors,
        }
        found: dict[str, Any] = {
            "model": asdict(embedder.fingerprint),
            "photographs": len(images),
            "queries": len(rows),
            "captions": cross_cosines(images, captions),
            "dynamics": inversion_dynamics(embedder.encoder, images, labels, rows, curve=CURVE, resampling=resampling),
            "rivals": [_rival(name, images, labels, rows, t, resampling) for name, t in texts.items()],
            "heads": None if heads is None else json.loads(heads.read_text(encoding="utf-8")),
        }
    return Report(
        stem=f"misalignment-{arguments.label.replace('/', '--')}",
        title=f"Inversion within images, its rivals, and other trainings, model {arguments.label}",
        blocks=_blocks(found, arguments),
        data={**found, "schema": SCHEMA, "command": arguments.command},
        chart=DynamicsPicture("Inverted images over the steps", found["dynamics"], found["captions"]["other"]),
    )


def _labelled(embedder: Embedder, folder: Path) -> tuple[Vectors, Vectors, NDArray[np.str_]]:
    """The test split's photographs that have a label, their captions, and the labels."""
    split = read_split(folder, "test")
    labels = labels_of(split.captions)
    rows = [row for row, label in enumerate(labels) if label is not None]
    seen = embedder.images([split.images[row] for row in rows])
    own = [CAPTIONS_PER_IMAGE * row + k for row in rows for k in range(CAPTIONS_PER_IMAGE)]
    texts = embedder.captions([split.captions[place] for place in own])
    return (
        seen.vectors[seen.index],
        texts.vectors[texts.index],
        np.array([labels[row] for row in rows]),
    )


def _rival(
    name: str,
    images: Vectors,
    labels: NDArray[Any],
    rows: NDArray[np.int64],
    texts: Vectors,
    resampling: Resampling,
) -> dict[str, Any]:
    """A projection on the main directions of texts: of the inverted queries, and of all images as queries."""
    projected = project_pca(images, texts)
    every = np.arange(len(images))
    native = image_precisions(images, images, labels, every)
    found = image_precisions(projected, projected, labels, every)
    return {
        "method": name,
        "components": projected.shape[1],
        "mAP": mean_of(found[rows], resampling).to_dict(),
        "difference": mean_of((found - native)[rows], resampling).to_dict(),
        "all": mean_of(found, resampling).to_dict(),
        "all_difference": mean_of(found - native, resampling).to_dict(),
        "all_native": mean_of(native, resampling).to_dict(),
    }


def _blocks(found: Mapping[str, Any], arguments: Arguments) -> list[str]:
    blocks = [
        f"Flickr8k's test split: {found['photographs']} photographs with a label, {found['queries']} of "
        f"them, drawn at random, inverted with R = 1, 2 and 4 pseudo-tokens. `{arguments.command}`",
        "## Over the steps",
        dynamics_words(found["dynamics"]),
        _dynamics_table(found["dynamics"]),
        "## Cosines",
        _cosine_table(found),
        "## Without optimisation",
        _rival_table(found),
    ]
    if found["heads"] is not None:
        words = heads_words(found["heads"]["rows"])
        blocks += ["## Heads trained otherwise", *words, *heads_blocks(found["heads"])]
    return [*blocks, "## Notes", bullets([*NOTES, resampling_note(arguments.resampling, "queries")])]


def _dynamics_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = ["R", "updates", "loss", "mAP × 100", "difference to the images themselves"]
    return table(
        header,
        [
            [
                str(row["tokens"]) if row["tokens"] else "images themselves",
                str(row["step"]),
                f"{row['loss']:.3f}",
                percent(estimate(row["mAP"])),
                percent(estimate(row["difference"]), signed=True) if row["tokens"] else "",
            ]
            for row in rows
        ],
    )


def _cosine_table(found: Mapping[str, Any]) -> str:
    still, moving = found["dynamics"][0], found["dynamics"][1:]
    lines = {
        "images with other images": still["other"],
        "captions with their image": found["captions"]["own"],
        "captions with other images": found["captions"]["other"],
    } | {
        f"R = {row['tokens']}, {row['step']} updates, with {name}": row[key]
        for row in moving
        if row["step"] in SHOWN
        for key, name in (("own", "the own image"), ("other", "other images"))
    }
    levels = [str(level) for level in QUANTILES]
    return table(
        ["cosine of", *(f"{level} %" for level in levels)],
        [[name, *(f"{quantiles[level]:.2f}" for level in levels)] for name, quantiles in lines.items()],
    )


def _rival_table(found: Mapping[str, Any]) -> str:
    first, dynamics = found["rivals"][0], found["dynamics"]
    last = max(CURVE)
    rows = [
        [
            "images themselves",
            percent(estimate(dynamics[0]["mAP"])),
            "",
            percent(estimate(first["all_native"])),
            "",
        ]
    ]
    rows += [
        [
            f"OTI, R = {row['tokens']}, {last} updates",
            percent(estimate(row["mAP"])),
            percent(estimate(row["difference"]), signed=True),
            "",
            "",
        ]
        for row in dynamics
        if row["step"] == last
    ]
    rows += [
        [
            f"{row['method']}, {row['components']} components",
            percent(estimate(row["mAP"])),
            percent(estimate(row["difference"]), signed=True),
            percent(estimate(row["all"])),
            percent(estimate(row["all_difference"]), signed=True),
        ]
        for row in found["rivals"]
    ]
    return table(["", "mAP × 100 of the queries", "difference", "of all photographs", "difference"], rows)


if __name__ == "__main__":
    main()
