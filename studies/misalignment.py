"""Effect of training on comparisons within a modality, with differently trained heads of ``lite``.

Mistretta et al. ("Cross the Gap", ICLR 2025) argue that images compare badly with images because nothing in CLIP's
training asks for it, and support it with two counterexamples: models trained with an intra-modal term (SLIP), and
models whose temperature closes the gap. This study varies both in the training of small heads on frozen towers. Run
``python -m studies.misalignment --data DIR --features DIR --output FILE``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
import numpy as np
import torch
from numpy.typing import NDArray

from i0tscore.encoders import lite
from i0tscore.encoders.lite import ImageHeadInput, LiteHead, LiteHeads
from i0tscore.errors import I0TScoreError
from i0tscore.gap import centroid_distance
from i0tscore.inversion import Inverted, invert_captions, invert_images
from i0tscore.metrics.metric import PREFIX
from i0tscore.results.intervals import Estimate, Resampling, bootstrap_mean
from i0tscore.results.report import dumps
from i0tscore.results.retrieval import cross_modal_ranks, retrieve_by_label
from studies.flickr8k import CAPTIONS_PER_IMAGE, Split, labels_of, read_split
from studies.lite_training import VIEWS, FeatureExtractor, HeadRecipe, PairFeatures, embed_pairs, train_heads

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
"""Intra-modal terms of a training, with SLIP's weight."""
RECIPE = HeadRecipe(epochs=20, batch_size=500)
"""Shorter than the recipe of the shipped heads, and without class pairs, since many heads are trained."""

_SEED = 12345


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Training and test data of the heads.

    Attributes:
        names: Text features of class names, as in ``LiteHeads``.
        removed: Removed directions, as in ``LiteHeads``.
        train: Training images, in the views requested.
        test: Test images.
        labeled: Rows of the test images that have a label.
        labels: Their labels.
    """

    names: torch.Tensor
    removed: torch.Tensor
    train: PairFeatures
    test: PairFeatures
    labeled: NDArray[np.int64]
    labels: NDArray[np.str_]


def prepare(data: Path, folder: Path, split: Split, count: int, views: Sequence[str] = ("plain",)) -> Material:
    """Compute features of the first images of a split and of the test split, or load them from a folder.

    Inputs of the image head are computed as for the shipped heads, with their removed directions.

    Args:
        data: Folder that holds ``flickr8k/``.
        folder: Folder to save features in and to load them from.
        split: Split to train on.
        count: Number of its images.
        views: Some of ``VIEWS``; each epoch samples one of them per image.

    Raises:
        InputError: A file is missing, or features in the folder are of other data.
    """
    extractor = FeatureExtractor(*lite.build_towers(), folder)
    shipped = LiteHeads.load()
    head_input = ImageHeadInput(*lite.read_image_tower()[1], shipped.names, shipped.removed)

    def features(of: Split, limit: int | None, views: Sequence[str]) -> tuple[PairFeatures, tuple[str, ...]]:
        read = read_split(data, of)
        images = read.images[:limit]
        texts = read.captions[: CAPTIONS_PER_IMAGE * len(images)]
        name = of if len(images) == len(read.images) else f"{of}{len(images)}"
        inputs = [head_input(torch.from_numpy(extractor.images(name, images, view))) for view in views]
        captions = torch.from_numpy(extractor.texts(name, [PREFIX + text for text in texts]))
        captions = captions.reshape(len(images), CAPTIONS_PER_IMAGE, -1)
        return PairFeatures(torch.stack(inputs, dim=1), captions, captions), texts

    train, _ = features(split, count, views)
    test, texts = features("test", None, ("plain",))
    labels = np.array([label or "" for label in labels_of(texts)])
    labeled = np.flatnonzero(labels != "")
    return Material(shipped.names, shipped.removed, train, test, labeled, labels[labeled])


def sample_queries(items: int, count: int) -> NDArray[np.int64]:
    """Return rows of ``count`` random items, or of all if there are fewer, in order."""
    rows: NDArray[np.int64] = np.sort(np.random.default_rng(_SEED).permutation(items)[:count])
    return rows


class Side(NamedTuple):
    """Items of one modality that are compared with each other.

    Attributes:
        vectors: Unit embeddings (n, d).
        labels: Labels; items with the same one are relevant to each other (n,).
        clusters: Image of each item, for intervals (n,).
    """

    vectors: NDArray[np.float32]
    labels: NDArray[Any]
    clusters: NDArray[np.int64]

    def precision(self, resampling: Resampling) -> Row:
        """Return the mAP with each item as a query for the others."""
        own = np.arange(len(self.vectors))
        found = retrieve_by_label(self.vectors, self.vectors, self.labels, self.labels, own=own)
        return found.estimates(self.clusters, resampling)["mAP"].to_dict()

    def crossed(self, invert: Callable[[NDArray[Any]], Inverted], count: int, resampling: Resampling) -> Row:
        """Return the mAP of random items as queries, not inverted and inverted; the gallery is not inverted."""
        own = sample_queries(len(self.vectors), count)
        inverted = invert(self.vectors[own])
        native, crossed = (
            retrieve_by_label(queries, self.vectors, self.labels[own], self.labels, own=own).values["mAP"]
            for queries in (self.vectors[own], inverted.vectors)
        )
        row: Row = {"queries": len(own), "steps": inverted.config.steps, "cosine": float(1 - inverted.losses.mean())}
        for name, values in (("native", native), ("crossed", crossed), ("difference", crossed - native)):
            interval = bootstrap_mean(values, self.clusters[own], resampling)
            row[name] = Estimate(float(np.nanmean(values)), interval).to_dict()
        return row


def sides(heads: Heads, material: Material) -> tuple[Side, Side]:
    """Return the labeled images, and their captions with the image as label."""
    x, y = embed_pairs(heads, material.test)
    rows = material.labeled
    captions = y.reshape(len(x), CAPTIONS_PER_IMAGE, -1)[rows].reshape(-1, y.shape[1])
    image_of = np.repeat(rows, CAPTIONS_PER_IMAGE)
    return Side(x[rows], material.labels, rows), Side(captions, image_of, image_of)


def measure(heads: Heads, material: Material, resampling: Resampling) -> Row:
    """Return the gap, R@1 across modalities, and mAP within: images by label, captions by image."""
    x, y = embed_pairs(heads, material.test)
    to_caption, to_image = cross_modal_ranks(x, y).recall(1, resampling)
    images, captions = sides(heads, material)
    return {
        "gap": centroid_distance(x, y),
        "image_to_text": to_caption.to_dict(),
        "text_to_image": to_image.to_dict(),
        "images": images.precision(resampling),
        "captions": captions.precision(resampling),
    }


@dataclass(frozen=True, slots=True)
class Crossing:
    """How much is inverted.

    Attributes:
        scales: Logit scales whose heads are inverted, for the first seed.
        images: Number of labeled images as queries.
        steps: Steps of OTI.
        captions: Number of captions as queries.
        caption_steps: Steps of OVI.
    """

    scales: Sequence[float] = SCALES
    images: int = 100
    steps: int = 50
    captions: int = 0
    caption_steps: int = 200

    def measure(self, heads: Heads, material: Material, resampling: Resampling) -> Row:
        """Return the mAP within a modality with and without inverted queries, as ``oti`` and ``ovi``."""
        encoder = lite.load_lite(heads=LiteHeads(material.names, material.removed, *heads))
        images, captions = sides(heads, material)
        row: Row = {}
        if self.images:
            row["oti"] = images.crossed(partial(invert_images, encoder, steps=self.steps), self.images, resampling)
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
        One dict per pair of heads: ``logit_scale``, ``intra`` (the terms), ``seed``, ``gap`` (centroid distance), and
        as ``{"value", "interval"}`` in [0, 1] R@1 ``image_to_text`` and ``text_to_image``, and mAP ``images`` and
        ``captions``; if queries were inverted also ``oti`` and ``ovi``, see ``Side.crossed``.

    Raises:
        InputError: There are fewer images than fit in a batch.
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
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with flickr8k/.")
@click.option("--features", type=click.Path(path_type=Path), required=True, help="Folder of saved features.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON file, written row by row.")
@click.option("--split", type=click.Choice(["train", "dev"]), default="train", show_default=True)
@click.option(
    "--photographs", "count", type=click.IntRange(1), default=2000, show_default=True, help="Training images."
)
@click.option("--view", "views", type=click.Choice(VIEWS), multiple=True, default=("plain",))
@click.option("--epochs", type=click.IntRange(1), default=RECIPE.epochs, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=RECIPE.batch_size, show_default=True)
@click.option("--scale", "scales", type=float, multiple=True, default=SCALES, help="Logit scales.")
@click.option("--term", "terms", type=click.Choice(list(TERMS)), multiple=True, default=list(TERMS))
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--invert", type=float, multiple=True, default=SCALES, help="Scales whose heads are inverted.")
@click.option("--images", type=click.IntRange(0), default=100, show_default=True, help="Inverted images.")
@click.option("--captions", type=click.IntRange(0), default=0, show_default=True, help="Inverted captions.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of torch.")
def main(data: Path, features: Path, output: Path, **options: Any) -> None:
    """Train small heads with other temperatures and intra-modal terms, and measure them."""
    logging.basicConfig(format="%(message)s")
    torch.set_num_threads(options["threads"])
    split, count, views = options["split"], options["count"], options["views"]
    recipe = replace(RECIPE, epochs=options["epochs"], batch_size=options["batch_size"])
    settings = {"split": split, "photographs": count, "views": views, "recipe": asdict(recipe)}
    varied = {name: options[name] for name in ("scales", "terms", "seeds")}
    crossing = Crossing(scales=options["invert"], images=options["images"], captions=options["captions"])
    rows: list[Row] = []
    try:
        material = prepare(data, features, split, count, views)
        for row in misalignment_rows(material, **varied, recipe=recipe, crossing=crossing):
            rows.append(row)
            output.write_text(dumps({"settings": settings, "rows": rows}, 1) + "\n", encoding="utf-8")
            click.echo(f"{row['logit_scale']:g} {row['intra']} {row['seed']}: gap {row['gap']:.3f}", err=True)
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
