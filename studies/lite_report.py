"""Measure the shipped ``lite``: ``python -m studies.lite_report --data DIR``.

All figures come from the shipped encoder and its built-in statistics. Nothing here chose anything: the
test photographs, the ratings and the descriptions of other photographs are looked at afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from human_judgments.kreiss import read_kreiss
from i0tscore.encoders.images import ImageInput
from i0tscore.encoders.lite import load_lite
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.errors import I0TScoreError
from i0tscore.gap import NONE, POST, Standardizer, Statistics, centroid_distance, dot
from i0tscore.metrics.statistics_choice import builtin_statistics
from i0tscore.results.correlation import correlation
from i0tscore.results.retrieval import DEPTHS, recall
from studies.evaluation import expert_ratings
from studies.flickr8k import CAPTIONS_PER_IMAGE, read_split
from studies.lite_features import PREFIX

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

Table = list[dict[str, Any]]

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
QUANTILES = (5, 25, 50, 75, 95)
STANDARDIZERS = (("raw", NONE), ("post", POST))
_MISMATCHES = 20


@dataclass(frozen=True, slots=True)
class Measurer:
    """Embeds pairs with one encoder and compares them raw and under ``post``.

    Attributes:
        encoder: The encoder.
        statistics: Its reference statistics.
    """

    encoder: Encoder
    statistics: Statistics

    def embed(
        self, images: Sequence[ImageInput], captions: Sequence[str]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of images (n, d) and of captions (m, d), a row for each that was given."""
        seen = embed_images(self.encoder, images)
        read = embed_captions(self.encoder, captions, prefix=PREFIX)
        return seen.vectors[seen.index], read.vectors[read.index]

    def standardized(
        self, x: NDArray[Any], y: NDArray[Any], standardizer: Standardizer
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both sides under a standardizer with the reference means."""
        return self.statistics.standardize(standardizer, x, y)


def flickr8k_tables(measurer: Measurer, data: Path) -> list[tuple[str, Table]]:
    """Retrieval, gap and spread of scores on Flickr8k's test split, and agreement with its experts."""
    split = read_split(data, "test")
    x, y = measurer.embed(split.images, split.captions)
    own = np.repeat(np.arange(len(x)), CAPTIONS_PER_IMAGE)
    wrong = _wrong_images(own)
    retrieval: Table = []
    spread: Table = []
    for name, standardizer in STANDARDIZERS:
        a, b = measurer.standardized(x, y, standardizer)
        forth, back = recall(a, b, DEPTHS)
        matched = dot(a[own], b)
        mismatched = dot(a[wrong], np.repeat(b, _MISMATCHES, axis=0))
        retrieval.append(
            {
                "": name,
                **{f"i→t R@{k}": value for k, value in zip(DEPTHS, forth, strict=True)},
                **{f"t→i R@{k}": value for k, value in zip(DEPTHS, back, strict=True)},
                "gap": centroid_distance(a, b),
                "AUC": _auc(matched, mismatched),
            }
        )
        for kind, scores in (("matched", matched), ("mismatched", mismatched)):
            levels = np.percentile(scores, QUANTILES)
            spread.append({"": f"{name}, {kind}"} | {f"{q} %": v for q, v in zip(QUANTILES, levels, strict=True)})
    probability = measurer.statistics.reference["post"].p_match
    a, b = measurer.standardized(x, y, POST)
    right, other = dot(a[own], b), dot(a[wrong[::_MISMATCHES]], b)
    error = calibration_error(probability(np.concatenate([right, other])), np.repeat([1, 0], len(right)))
    return [
        ("Retrieval, gap, and AUC of matched against random pairs", retrieval),
        ("Scores", spread),
        ("Calibration of p_match", [{"pairs": 2 * len(right), "expected calibration error": error}]),
        ("Flickr8k-Expert", _expert(measurer, data, x, split.images)),
    ]


def blv_table(measurer: Measurer, data: Path) -> Table:
    """AUC of matched against mismatched descriptions of the 18 Wikimedia photographs of Kreiss et al."""
    ratings = read_kreiss(data / "blv_kreiss2022")
    pairs = dict.fromkeys((sample.image, sample.caption) for sample in ratings.samples)
    images = list(dict.fromkeys(image for image, _ in pairs))
    x, y = measurer.embed(images, [caption for _, caption in pairs])
    own = np.array([images.index(image) for image, _ in pairs])
    row: dict[str, Any] = {"photographs": len(images), "descriptions": len(y)}
    for name, standardizer in STANDARDIZERS:
        a, b = measurer.standardized(x, y, standardizer)
        similarity = a @ b.T
        matched = np.arange(len(images))[:, None] == own
        row[f"AUC {name}"] = _auc(similarity[matched], similarity[~matched])
    return [row]


def examples_table(measurer: Measurer, captions: Path, images: Path) -> Table:
    """Right, partly wrong and wrong captions of photographs, as ``examples/captions.jsonl`` has them."""
    import json

    lines = captions.read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines if line.strip()]
    x, y = measurer.embed([images / one["image"] for one in samples], [one["caption"] for one in samples])
    scores = dot(*measurer.standardized(x, y, POST))
    table: dict[str, dict[str, Any]] = {}
    for sample, score in zip(samples, scores, strict=True):
        photograph, _, kind = sample["id"].partition(" ")
        table.setdefault(photograph, {"photograph": photograph})[kind] = float(score)
    return list(table.values())


def calibration_error(probability: NDArray[Any], truth: NDArray[Any], bins: int = 10) -> float:
    """Expected calibration error: mean distance of probability and frequency over equal-width bins.

    Example:
        >>> calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([1, 1, 1, 0]))
        0.0
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    difference = np.bincount(place, probability - truth, minlength=bins)
    return float(np.abs(difference).sum() / count.sum())


def write_card(card: Path, figures: str) -> None:
    """Replace what stands between the two marks of the model card."""
    before, _, rest = card.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    card.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}", encoding="utf-8")


def _expert(measurer: Measurer, data: Path, x: NDArray[np.float32], paths: Sequence[Path]) -> Table:
    ratings = expert_ratings(data, paths)
    read = embed_captions(measurer.encoder, ratings.captions, prefix=PREFIX)
    row: dict[str, Any] = {"ratings": len(ratings.rating)}
    for name, standardizer in STANDARDIZERS:
        a, b = measurer.standardized(x[ratings.images], read.vectors[read.index], standardizer)
        row[f"τ-c {name}"] = ratings.tau_c(a, b)
    return [row]


def _wrong_images(own: NDArray[np.int64], seed: int = 12345) -> NDArray[np.int64]:
    """For each caption twenty other images in turn, drawn at random."""
    count = int(own.max()) + 1
    steps = np.random.default_rng(seed).integers(1, count, (len(own), _MISMATCHES))
    wrong: NDArray[np.int64] = ((own[:, None] + steps) % count).ravel()
    return wrong


def _auc(matched: NDArray[Any], mismatched: NDArray[Any]) -> float:
    truth = np.repeat([1, 0], [len(matched), len(mismatched)])
    return correlation("auc", np.concatenate([matched, mismatched]), truth) or 0.0


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="The data folder.")
@click.option("--examples", type=click.Path(path_type=Path, exists=True), help="captions.jsonl, beside images/.")
@click.option("--card", type=click.Path(path_type=Path, exists=True), help="Model card to write the figures to.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(data: Path, examples: Path | None, card: Path | None, threads: int) -> None:
    """Measure the embedded model on data that did not choose it."""
    torch.set_num_threads(threads)
    try:
        encoder = load_lite()
        statistics = builtin_statistics(encoder.fingerprint)
        if statistics is None:
            raise click.ClickException("the shipped statistics are not those of the shipped heads")
        measurer = Measurer(encoder, statistics)
        tables = flickr8k_tables(measurer, data)
        tables.append(("Beyond Flickr8k: BLV set", blv_table(measurer, data)))
        if examples:
            tables.append(("Beyond Flickr8k: examples", examples_table(measurer, examples, examples.parent / "images")))
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
