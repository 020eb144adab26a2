"""Train the heads of ``lite``: ``python -m studies.lite_training --data DIR --output DIR``.

Features of both frozen towers, one pair of heads a seed, the seed with the best dev criterion, and the
reference statistics of the result. Photographs and captions are Flickr8k's training split; everything
is chosen on its dev split. Test photographs and human ratings are not looked at.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
from tabulate import tabulate

from i0tscore.encoders import lite
from i0tscore.encoders.lite_heads import HEADS_FILE, LiteHead, LiteHeads
from i0tscore.errors import I0TScoreError
from i0tscore.gap import Moments, Statistics
from studies.evaluation import DevFigures, dev_figures
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit, read_split
from studies.lite_data import LiteData, prepare
from studies.lite_features import PREFIX, VIEWS
from studies.lite_heads import HeadRecipe, embed_pairs, train_heads

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

STATISTICS_FILE = "lite-statistics.safetensors"
FIGURES_FILE = "lite-dev-figures.json"

_CHECKED = 16
_LARGEST_DIFFERENCE = 1e-4


def measure(heads: tuple[LiteHead, LiteHead], data: LiteData) -> DevFigures:
    """Figures of the dev split, with the training split's means."""
    image_mean, caption_mean = map(Moments.of, embed_pairs(heads, data.train))
    return dev_figures(*embed_pairs(heads, data.dev), image_mean, caption_mean)


def lite_statistics(heads: tuple[LiteHead, LiteHead], data: LiteData, space: str) -> Statistics:
    """Reference statistics: means from the training split, the distribution of scores from dev.

    The heads fit their own training pairs too well for the latter: the probabilities would mislead.
    """
    image_mean, caption_mean = map(Moments.of, embed_pairs(heads, data.train))
    statistics = Statistics(
        name="flickr8k-train",
        encoder=lite.NAME,
        space=space,
        prefix=PREFIX,
        image=image_mean,
        caption=caption_mean,
        source="Flickr8k: means from the training split, reference distribution from the dev split",
    )
    images, captions = embed_pairs(heads, data.dev)
    rows = np.repeat(np.arange(len(images)), CAPTIONS_PER_IMAGE)
    return statistics.with_reference(images[rows], captions, rows)


def check_encoder(encoder: Encoder, heads: tuple[LiteHead, LiteHead], data: LiteData, dev: Flickr8kSplit) -> float:
    """Compare heads on cached features with the running encoder; return the largest difference.

    Raises:
        RuntimeError: They differ, so that figures of one would not hold for the other.
    """
    from i0tscore.encoders.loop import embed_captions, embed_images

    images = embed_images(encoder, dev.images[:_CHECKED])
    captions = embed_captions(encoder, dev.captions[:_CHECKED], prefix=PREFIX)
    expected = embed_pairs(heads, data.dev)
    difference = max(
        float(np.abs(seen.vectors[seen.index] - vectors[:_CHECKED]).max())
        for seen, vectors in zip((images, captions), expected, strict=True)
    )
    if difference > _LARGEST_DIFFERENCE:
        raise RuntimeError(f"the encoder and the cached features differ by {difference:.1e}")
    return difference


def train_lite(data: Path, output: Path, features: Path, seeds: int, recipe: HeadRecipe) -> list[DevFigures]:
    """Train one pair of heads a seed, write the best with its statistics, and return all dev figures."""
    train, dev = read_split(data, "train"), read_split(data, "dev")
    prepared = prepare(train, dev, features)
    trained = [train_heads(prepared.train, recipe, seed, prepared.classes) for seed in range(seeds)]
    figures = [measure(heads, prepared) for heads in trained]
    best = max(range(seeds), key=lambda seed: figures[seed].criterion)
    output.mkdir(parents=True, exist_ok=True)
    LiteHeads(prepared.names, prepared.removed, *trained[best]).save(output / HEADS_FILE)
    shipped = LiteHeads.load(output / HEADS_FILE)
    heads = (shipped.image, shipped.text)
    encoder = lite.build_encoder(shipped)
    difference = check_encoder(encoder, heads, prepared, dev)
    lite_statistics(heads, prepared, encoder.fingerprint.space).save(output / STATISTICS_FILE)
    report = {
        "recipe": asdict(recipe),
        "views": VIEWS,
        "seeds": [one.to_dict() for one in figures],
        "chosen_seed": best,
        "encoder_difference": difference,
    }
    (output / FIGURES_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return figures


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Holds flickr8k/.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Where the three files go.")
@click.option("--features", type=click.Path(path_type=Path), help="Where features are kept and looked for.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Part of what decides the numbers.",
)
def main(data: Path, output: Path, features: Path | None, seeds: int, threads: int) -> None:
    """Train the heads of the embedded model and choose among seeds on the dev split."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("i0tscore").setLevel(logging.INFO)
    torch.set_num_threads(threads)
    try:
        figures = train_lite(data, output, features or output / "features", seeds, HeadRecipe())
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        tabulate(
            [{"seed": seed, **one.to_dict()} for seed, one in enumerate(figures)],
            headers="keys",
            floatfmt=".3f",
            tablefmt="github",
        )
    )


if __name__ == "__main__":
    main()
