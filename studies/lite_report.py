"""Measure the shipped ``lite``: ``python -m studies.lite_report --data DIR``.

All figures come from the shipped encoder and its built-in statistics, on data that chose nothing: the test images, the
ratings, and the descriptions of other images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from human_judgments.blv_kreiss2022 import read_kreiss
from i0tscore.encoders.images import ImageInput
from i0tscore.encoders.lite import load_lite
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.errors import I0TScoreError
from i0tscore.gap import NONE, POST, Statistics, centroid_distance, dot
from i0tscore.metrics.metric import PREFIX
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.results.correlation import correlation
from i0tscore.results.retrieval import DEPTHS
from studies.flickr8k import CAPTIONS_PER_IMAGE, expert_ratings, read_split
from studies.recall import recall

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

Table = list[dict[str, Any]]
Vectors = NDArray[np.float32]

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
QUANTILES = (5, 25, 50, 75, 95)
STANDARDIZERS = (("raw", NONE), ("post", POST))
MISMATCHES = 20
"""Number of random images compared with each caption."""


class Model(NamedTuple):
    """An encoder with its reference statistics.

    Attributes:
        encoder: The encoder.
        statistics: Its statistics.
    """

    encoder: Encoder
    statistics: Statistics

    def embed(self, images: Sequence[ImageInput], captions: Sequence[str]) -> tuple[Vectors, Vectors]:
        """Return embeddings of images (n, d) and of captions (m, d)."""
        x, y = embed_images(self.encoder, images), embed_captions(self.encoder, captions, prefix=PREFIX)
        return x.vectors[x.index], y.vectors[y.index]


def flickr8k_tables(model: Model, data: Path) -> list[tuple[str, Table]]:
    """Return tables of retrieval, gap, scores, and calibration on Flickr8k's test split, and of expert agreement."""
    split = read_split(data, "test")
    x, y = model.embed(split.images, split.captions)
    own = np.repeat(np.arange(len(x)), CAPTIONS_PER_IMAGE)
    other = _other_images(own)
    retrieval: Table = []
    scores: Table = []
    for name, standardizer in STANDARDIZERS:
        a, b = model.statistics.standardize(standardizer, x, y)
        to_caption, to_image = recall(a, b, DEPTHS)
        matched, mismatched = dot(a[own], b), dot(a[other], np.repeat(b, MISMATCHES, axis=0))
        retrieval.append(
            {
                "": name,
                **{f"i→t R@{k}": value for k, value in zip(DEPTHS, to_caption, strict=True)},
                **{f"t→i R@{k}": value for k, value in zip(DEPTHS, to_image, strict=True)},
                "gap": centroid_distance(a, b),
                "AUC": _auc(matched, mismatched),
            }
        )
        for kind, values in (("matched", matched), ("mismatched", mismatched)):
            levels = np.percentile(values, QUANTILES)
            scores.append({"": f"{name}, {kind}"} | {f"{q}%": v for q, v in zip(QUANTILES, levels, strict=True)})
    a, b = model.statistics.standardize(POST, x, y)
    pairs = np.concatenate([dot(a[own], b), dot(a[other[::MISMATCHES]], b)])
    truth = np.repeat([1, 0], len(own))
    error = calibration_error(model.statistics.reference["post"].p_match(pairs), truth)
    return [
        ("Retrieval, gap, and AUC of matched against random pairs", retrieval),
        ("Scores", scores),
        ("Calibration of p_match", [{"pairs": len(pairs), "expected calibration error": error}]),
        ("Flickr8k-Expert", _expert_table(model, data, x, split.images)),
    ]


def blv_table(model: Model, data: Path) -> Table:
    """Return the AUC of matched against mismatched descriptions of the 18 Wikimedia images of Kreiss et al."""
    ratings = read_kreiss(data / "blv_kreiss2022")
    pairs = dict.fromkeys((sample.image, sample.caption) for sample in ratings.samples)
    images = list(dict.fromkeys(image for image, _ in pairs))
    x, y = model.embed(images, [caption for _, caption in pairs])
    matched = np.arange(len(images))[:, None] == np.array([images.index(image) for image, _ in pairs])
    row: dict[str, Any] = {"images": len(images), "descriptions": len(y)}
    for name, standardizer in STANDARDIZERS:
        a, b = model.statistics.standardize(standardizer, x, y)
        similarity = a @ b.T
        row[f"AUC {name}"] = _auc(similarity[matched], similarity[~matched])
    return [row]


def examples_table(model: Model, captions: Path, images: Path) -> Table:
    """Return the scores of matched, partly wrong, and wrong captions in ``examples/captions.jsonl``."""
    samples = [json.loads(line) for line in captions.read_text(encoding="utf-8").splitlines() if line.strip()]
    x, y = model.embed([images / one["image"] for one in samples], [one["caption"] for one in samples])
    table: dict[str, dict[str, Any]] = {}
    for sample, score in zip(samples, dot(*model.statistics.standardize(POST, x, y)), strict=True):
        image, _, kind = sample["id"].partition(" ")
        table.setdefault(image, {"image": image})[kind] = float(score)
    return list(table.values())


def calibration_error(probability: NDArray[Any], truth: NDArray[Any], bins: int = 10) -> float:
    """Return the expected calibration error: mean distance of probability and frequency over equal-width bins.

    Example:
        >>> calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1, 1, 1, 0]))
        0.0
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    difference = np.bincount(index, probability - truth, minlength=bins)
    return float(np.abs(difference).sum() / len(index))


def write_card(card: Path, figures: str) -> None:
    """Replace the text between the two marks of the model card."""
    before, _, rest = card.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    card.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}", encoding="utf-8")


def _expert_table(model: Model, data: Path, x: Vectors, paths: Sequence[Path]) -> Table:
    ratings = expert_ratings(data, paths)
    read = embed_captions(model.encoder, ratings.captions, prefix=PREFIX)
    y = read.vectors[read.index]
    row: dict[str, Any] = {"ratings": len(ratings.rating)}
    for name, standardizer in STANDARDIZERS:
        row[f"τ-c {name}"] = ratings.tau_c(*model.statistics.standardize(standardizer, x[ratings.images], y))
    return [row]


def _other_images(own: NDArray[np.int64], seed: int = 12345) -> NDArray[np.int64]:
    """Return random other images for each caption in turn."""
    count = int(own.max()) + 1
    steps = np.random.default_rng(seed).integers(1, count, (len(own), MISMATCHES))
    other: NDArray[np.int64] = ((own[:, None] + steps) % count).ravel()
    return other


def _auc(matched: NDArray[Any], mismatched: NDArray[Any]) -> float:
    truth = np.repeat([1, 0], [len(matched), len(mismatched)])
    return correlation("auc", np.concatenate([matched, mismatched]), truth) or 0.0


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder with flickr8k/.")
@click.option("--examples", type=click.Path(path_type=Path, exists=True), help="captions.jsonl, next to images/.")
@click.option("--card", type=click.Path(path_type=Path, exists=True), help="Model card to write the figures to.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of torch.")
def main(data: Path, examples: Path | None, card: Path | None, threads: int) -> None:
    """Measure the embedded model on data that chose nothing of it."""
    torch.set_num_threads(threads)
    try:
        encoder = load_lite()
        statistics = builtin_statistics(encoder.fingerprint)
        if statistics is None:
            raise click.ClickException("The shipped statistics do not belong to the shipped heads.")
        model = Model(encoder, statistics)
        tables = flickr8k_tables(model, data)
        tables.append(("Beyond Flickr8k: BLV set", blv_table(model, data)))
        if examples:
            tables.append(("Beyond Flickr8k: examples", examples_table(model, examples, examples.parent / "images")))
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    text = "\n\n".join(
        f"### {title}\n\n{tabulate(rows, headers='keys', floatfmt='.3f', tablefmt='github')}" for title, rows in tables
    )
    click.echo(text)
    if card:
        write_card(card, text)


if __name__ == "__main__":
    main()
