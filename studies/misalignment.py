"""What training does to comparisons within a modality, on differently trained heads of ``lite``.

Mistretta et al. ("Cross the Gap", ICLR 2025) say that images compare badly with images because nothing in
CLIP's training asks for it, and show it by two counter-examples: models trained with an intra-modal term
(SLIP), and models whose temperature closes the gap. Here both are varied in the training of small heads on
frozen towers. Command: ``python -m studies.misalignment --data DIR --features DIR --output FILE``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np
import torch
from numpy.typing import NDArray

from i0tscore.encoders import lite
from i0tscore.encoders.lite_heads import LiteHead, LiteHeads
from i0tscore.errors import I0TScoreError
from i0tscore.gap import centroid_distance
from i0tscore.inversion.invert import invert_captions, invert_images
from i0tscore.inversion.inverted import Inverted
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean
from i0tscore.results.report import dumps
from i0tscore.results.retrieval import cross_modal_ranks, retrieve_by_label
from studies.dynamics import draw_queries
from studies.flickr8k import CAPTIONS_PER_IMAGE, Split
from studies.lite_features import VIEWS
from studies.lite_heads import HeadRecipe, embed_pairs, train_heads
from studies.misalignment_data import Material, prepare

Row: TypeAlias = dict[str, Any]
Heads: TypeAlias = tuple[LiteHead, LiteHead]

SCALES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Fixed logit scales: temperatures from 1 to .01."""
TERMS: dict[str, dict[str, Any]] = {
    "none": {},
    "both": {"image_intra": 1.0, "caption_intra": 1.0},
    "images": {"image_intra": 1.0},
    "captions": {"caption_intra": 1.0},
}
"""The intra-modal terms of a training, with the weight of SLIP."""
RECIPE = HeadRecipe(epochs=20, batch_size=500)
"""Shorter than that of the shipped heads, and without class pairs, since many are trained."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Items of one modality that are compared with each other.

    Attributes:
        vectors: Unit embeddings (n, d).
        labels: What makes an item relevant to another (n,).
        clusters: The photograph of each (n,): intervals are over photographs.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[Any]
    clusters: NDArray[np.int64]

    def precision(self, resampling: Resampling) -> Row:
        """The mAP of each item as a query for the others."""
        found = retrieve_by_label(
            self.vectors, self.vectors, self.labels, self.labels, own=np.arange(len(self.vectors))
        )
        return found.estimates(self.clusters, resampling)["mAP"].to_dict()

    def crossed(self, invert: Callable[[NDArray[Any]], Inverted], count: int, resampling: Resampling) -> Row:
        """The mAP of some items, drawn at random, as they are and inverted; the gallery stays as it is."""
        own = draw_queries(len(self.vectors), count)
        inverted = invert(self.vectors[own])
        native, crossed = (
            retrieve_by_label(queries, self.vectors, self.labels[own], self.labels, own=own).values["mAP"]
            for queries in (self.vectors[own], inverted.vectors)
        )
        figures = {"native": native, "crossed": crossed, "difference": crossed - native}
        return {
            "queries": len(own),
            "steps": inverted.config.steps,
            "cosine": float(1 - inverted.losses.mean()),
        } | {
            name: Estimate(float(np.nanmean(values)), bootstrap_mean(values, self.clusters[own], resampling)).to_dict()
            for name, values in figures.items()
        }


def sides(heads: Heads, material: Material) -> tuple[Side, Side]:
    """The labelled photographs, and their captions with the photograph as label."""
    x, y = embed_pairs(heads, material.test)
    rows = material.labelled
    captions = y.reshape(len(x), CAPTIONS_PER_IMAGE, -1)[rows].reshape(-1, y.shape[1])
    of = np.repeat(rows, CAPTIONS_PER_IMAGE)
    return Side(x[rows], material.labels, rows), Side(captions, of, of)


def measure(heads: Heads, material: Material, resampling: Resampling) -> Row:
    """Gap, R@1 between the modalities, and mAP within: images by label, captions by photograph."""
    x, y = embed_pairs(heads, material.test)
    forth, back = cross_modal_ranks(x, y).recall(1, resampling)
    images, captions = sides(heads, material)
    return {
        "gap": centroid_distance(x, y),
        "image_to_text": forth.to_dict(),
        "text_to_image": back.to_dict(),
        "images": images.precision(resampling),
        "captions": captions.precision(resampling),
    }


@dataclass(frozen=True, slots=True)
class Crossing:
    """How much is inverted.

    Attributes:
        scales: The logit scales whose heads it is done with, for the first seed.
        images: How many labelled photographs are queries.
        steps: Steps of OTI.
        captions: How many captions are queries.
        caption_steps: Steps of OVI.
    """

    scales: Sequence[float] = SCALES
    images: int = 100
    steps: int = 50
    captions: int = 0
    caption_steps: int = 200

    def measure(self, heads: Heads, material: Material, resampling: Resampling) -> Row:
        """The mAP within a modality, with and without inverted queries, as ``oti`` and ``ovi``."""
        encoder = lite.build_encoder(LiteHeads(material.names, material.removed, *heads))
        images, captions = sides(heads, material)
        row: Row = {}
        if self.images:
            invert = partial(invert_images, encoder, steps=self.steps)
            row["oti"] = images.crossed(invert, self.images, resampling)
        if self.captions:
            invert = partial(invert_captions, encoder, steps=self.caption_steps)
            row["ovi"] = captions.crossed(invert, self.captions, resampling)
        return row


def misalignment_rows(
    material: Material,
    *,
    scales: Sequence[float] = SCALES,
    terms: Sequence[str] = tuple(TERMS),
    seeds: int = 1,
    recipe: HeadRecipe = RECIPE,
    crossing: Crossing | None = None,
    resampling: Resampling | None = None,
) -> Iterator[Row]:
    """Train heads with each scale and each of ``TERMS``, and measure them.

    Yields:
        One dict a pair of heads: ``logit_scale``, ``intra`` (the terms), ``seed``, ``gap`` (centroid
        distance), and as ``{"value", "interval"}`` in [0, 1] R@1 ``image_to_text`` and ``text_to_image``, and
        mAP ``images`` and ``captions``; where it was inverted also ``oti`` and ``ovi``: see ``Side.crossed``.

    Raises:
        InputError: There are fewer photographs than a batch holds.
    """
    settings, inversions = resampling or Resampling(), crossing or Crossing()
    for seed in range(seeds):
        for scale in scales:
            for name in terms:
                heads = train_heads(material.train, replace(recipe, logit_scale=scale, **TERMS[name]), seed)
                row: Row = {"logit_scale": scale, "intra": name, "seed": seed}
                row |= measure(heads, material, settings)
                if seed == 0 and scale in inversions.scales:
                    row |= inversions.measure(heads, material, settings)
                yield row


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Holds flickr8k/.")
@click.option("--features", type=click.Path(path_type=Path), required=True, help="Where features are kept.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON, written row by row.")
@click.option("--split", type=click.Choice(["train", "dev"]), default="train", show_default=True)
@click.option("--photographs", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--view", "views", type=click.Choice(VIEWS), multiple=True, default=("plain",))
@click.option("--epochs", type=click.IntRange(1), default=RECIPE.epochs, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=RECIPE.batch_size, show_default=True)
@click.option("--scale", "scales", type=float, multiple=True, default=SCALES)
@click.option("--term", "terms", type=click.Choice(list(TERMS)), multiple=True, default=list(TERMS))
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--invert", type=float, multiple=True, default=SCALES, help="Scales whose heads are inverted.")
@click.option("--images", type=click.IntRange(0), default=100, show_default=True, help="Inverted images.")
@click.option("--captions", type=click.IntRange(0), default=0, show_default=True, help="Inverted captions.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(
    data: Path,
    features: Path,
    output: Path,
    split: Split,
    photographs: int,
    views: tuple[str, ...],
    epochs: int,
    batch_size: int,
    scales: tuple[float, ...],
    terms: tuple[str, ...],
    seeds: int,
    invert: tuple[float, ...],
    images: int,
    captions: int,
    threads: int,
) -> None:
    """Train small heads with other temperatures and intra-modal terms, and measure them."""
    logging.basicConfig(format="%(message)s")
    torch.set_num_threads(threads)
    crossing = Crossing(scales=invert, images=images, captions=captions)
    recipe = replace(RECIPE, epochs=epochs, batch_size=batch_size)
    settings = {"split": split, "photographs": photographs, "views": views, "recipe": asdict(recipe)}
    rows: list[Row] = []
    try:
        material = prepare(data, features, split, photographs, views)
        found = misalignment_rows(material, scales=scales, terms=terms, seeds=seeds, recipe=recipe, crossing=crossing)
        for row in found:
            rows.append(row)
            output.write_text(dumps({"settings": settings, "rows": rows}, 1) + "\n", encoding="utf-8")
            click.echo(f"{row['logit_scale']:g} {row['intra']} {row['seed']}: gap {row['gap']:.3f}", err=True)
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
