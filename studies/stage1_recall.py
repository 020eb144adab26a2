"""Recall of a model between images and captions, as in stage 1: ``python -m studies.stage1_recall``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from human_judgments.report import percent
from i0tscore.encoders import load_encoder
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.errors import I0TScoreError, InputError
from i0tscore.results.intervals import Estimate
from i0tscore.results.retrieval import DEPTHS, CrossModalRanks, cross_modal_ranks
from i0tscore.samples import Sample, read_samples
from i0tscore.training.stage1 import long_captions

_PATH = click.Path(path_type=Path)


def cross_modal_recall(model: str, samples: Sequence[Sample], *, join: bool) -> CrossModalRanks:
    """Rank captions for each image and images for each caption, encoded as in training, without a prefix.

    Args:
        model: Model, as for ``load_encoder``.
        samples: Images with the same number of captions each; captions of an image are consecutive.
        join: Whether to join all captions of an image into a long one.

    Raises:
        I0TScoreError: The model or the captions cannot be used.
    """
    images, captions, groups = long_captions(samples, join=join)
    count = int(groups.max()) + 1
    each = len(groups) // count
    if not np.array_equal(groups, np.repeat(np.arange(count), each)):
        raise InputError("Expected the same number of captions for every image, in consecutive rows.")
    encoder = load_encoder(model)
    x, y = embed_images(encoder, images), embed_captions(encoder, captions)
    if x.failures:
        raise InputError(next(iter(x.failures.values())))
    return cross_modal_ranks(x.vectors[x.index[::each]], y.vectors[y.index])


@click.command()
@click.argument("captions", type=_PATH)
@click.argument("images", type=_PATH)
@click.option("--model", required=True, help="Model, as for i0tscore; local-dir:FOLDER for the output of stage 1.")
@click.option("--join", is_flag=True, help="Join all captions of an image into a long one.")
def main(captions: Path, images: Path, model: str, join: bool) -> None:
    """R@1, R@5 and R@10 of a model between IMAGES and their CAPTIONS, in percent."""
    try:
        ranks = cross_modal_recall(model, read_samples(captions, images=images).samples, join=join)
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    counts = len(ranks.to_caption), len(ranks.to_image)
    click.echo(f"{counts[0]:,} images, {counts[1]:,} captions; 95% bootstrap intervals over images\n")
    rows = [
        [f"R@{depth}", *(percent(e.to_dict()) for e in (*ranks.recall(depth), *_chance(depth, *counts)))]
        for depth in DEPTHS
    ]
    headers = ["", "to captions", "to images", "to captions by chance", "to images by chance"]
    click.echo(tabulate(rows, headers=headers, disable_numparse=True))


def _chance(depth: int, images: int, captions: int) -> tuple[Estimate, Estimate]:
    """Return the recall of a random order, with several matched captions per image and one image per caption."""
    depth = min(depth, images)
    missed = math.comb(captions - captions // images, depth) / math.comb(captions, depth)
    return Estimate(1 - missed, None), Estimate(depth / images, None)


if __name__ == "__main__":
    main()
