"""What of I0T_async does what: ``python -m studies.async_ablation --data DIR``.

At the paper's rate of 1e-6 the trained numbers hardly move, so a training that does nothing looks the
same from outside. Each row therefore says how far they moved, and whether the running statistics are the
momentum averages that they should be, computed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from i0tscore.encoders import load_encoder
from i0tscore.encoders.cache import EmbeddingCache
from i0tscore.encoders.loop import embed_captions, embed_images
from i0tscore.errors import I0TScoreError
from i0tscore.gap import NONE, POST, GapStatistics, Moments, Normalization, Standardizer, centroid_distance
from i0tscore.results.retrieval import recall
from i0tscore.training.i0t_async import AsyncRecipe, AsyncTrainer, CachedPairs, DropoutPairs, Pairs, Passes
from i0tscore.training.optimization import IntArray
from studies.evaluation import expert_ratings
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit, Split, read_split
from studies.lite_features import PREFIX

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder

Vectors: TypeAlias = NDArray[np.float32]
Row: TypeAlias = dict[str, Any]
Sides: TypeAlias = tuple[NDArray[Any], NDArray[Any]]

TRAINED = AsyncRecipe(mcsie=False)
VARIANTS: dict[str, AsyncRecipe] = {
    "untrained BN, one pass": replace(TRAINED, epochs=1, learning_rate=0.0),
    "untrained BN, all batches alike": replace(TRAINED, epochs=1, learning_rate=0.0, momentum=None),
    "trained BN": TRAINED,
    "without cyclic losses": replace(TRAINED, cyclic_weight=0.0),
    "rate 1e-4": replace(TRAINED, learning_rate=1e-4),
    "rate 1e-3": replace(TRAINED, learning_rate=1e-3),
    "rate 1e-2": replace(TRAINED, learning_rate=1e-2),
    "rate 1e-2, without cyclic losses": replace(TRAINED, learning_rate=1e-2, cyclic_weight=0.0),
}
"""What is trained on cached embeddings, and thus without MCSIE."""


class Witness:
    """Pairs that compute in float64 what the running statistics must become.

    Args:
        pairs: Where batches come from.
        momentum: As in ``AsyncRecipe``.
    """

    def __init__(self, pairs: Pairs, momentum: float | None) -> None:
        self._pairs, self._momentum = pairs, momentum
        self._updates = [0, 0]
        self.mean, self.variance = np.zeros((2, pairs.dimension)), np.ones((2, pairs.dimension))
        self.image_index, self.dimension, self.identity = pairs.image_index, pairs.dimension, pairs.identity

    def passes(self, rows: IntArray, seed: int) -> Passes:
        """What the pairs give, looked at on its way."""
        passes = self._pairs.passes(rows, seed)
        for side, several in enumerate(passes):
            for vectors in (one.double().numpy() for one in several):
                self._updates[side] += 1
                share = self._momentum or 1 / self._updates[side]
                self.mean[side] += share * (vectors.mean(axis=0) - self.mean[side])
                self.variance[side] += share * (vectors.var(axis=0, ddof=1) - self.variance[side])
        return passes

    def error(self, normalizations: tuple[Normalization, Normalization]) -> float:
        """The largest difference of any running mean or variance from what it must be."""
        return max(
            float(np.abs(found - expected).max())
            for side, one in enumerate(normalizations)
            for found, expected in ((one.mean, self.mean[side]), (one.variance, self.variance[side]))
        )


@dataclass(frozen=True, slots=True)
class Study:
    """Pairs to train on and a measure of held-out pairs.

    Attributes:
        train: Embeddings of the training pairs.
        measure: From what is done to images and to captions to the columns of figures.
        seed: Of every training.
    """

    train: CachedPairs
    measure: Callable[[Callable[[Any], Any], Callable[[Any], Any]], Row]
    seed: int = 7

    def fixed(self, name: str, standardizer: Standardizer) -> Row:
        """The row of a standardizer with the training means."""
        means = GapStatistics(Moments.of(self.train.images).mean, Moments.of(self.train.captions).mean)
        measured = self.measure(
            lambda x: standardizer.apply(x, means, "image"), lambda y: standardizer.apply(y, means, "caption")
        )
        return {"variant": name, "pairs": len(self.train.image_index)} | measured

    def trained(self, name: str, recipe: AsyncRecipe, pairs: Pairs | None = None) -> Row:
        """The row of a training, on ``pairs`` if they are given."""
        witness = Witness(pairs or self.train, recipe.momentum)
        trainer = AsyncTrainer(witness, recipe, self.seed)
        image, caption = found = trainer.run()
        return (
            {"variant": name, "pairs": len(witness.image_index), "steps": trainer.total}
            | self.measure(image, caption)
            | {
                "‖w − 1‖": float(np.linalg.norm([n.weight - 1 for n in found])),
                "‖b‖": float(np.linalg.norm([n.bias for n in found])),
                "buffers off by": witness.error(found),
            }
        )


def lite_rows(
    data: Path,
    *,
    split: Split = "train",
    cache: Path | None = None,
    mcsie_pairs: int = 6000,
    progress: bool = False,
) -> list[Row]:
    """The ablation on ``lite``: trained on a split of Flickr8k, measured on its test split.

    Args:
        data: The folder that holds flickr8k/.
        split: What is trained on.
        cache: Folder of the embedding cache; the user's if left out.
        mcsie_pairs: How many training pairs MCSIE has, drawn at random; 0 leaves its rows out. Their
            captions are encoded six times.
        progress: Whether to show bars on stderr.

    Returns:
        One dict a variant: CD, R@1 in percent, Kendall τ-c × 100 with Flickr8k-Expert, the norm of
        what weights and biases moved (both modalities), and the error of the running statistics.
    """
    encoder = load_encoder("lite")
    with EmbeddingCache(encoder, cache) as kept:

        def embed(name: Split) -> Sides:
            found = read_split(data, name)
            x = embed_images(encoder, found.images, cache=kept, progress=progress)
            return x.vectors[x.index], captions_of(found.captions)

        def captions_of(texts: tuple[str, ...]) -> Vectors:
            y = embed_captions(encoder, texts, prefix=PREFIX, cache=kept, progress=progress)
            return y.vectors[y.index]

        x, y = embed(split)
        test = embed("test")
        ratings = expert_ratings(data, read_split(data, "test").images)
        rated = test[0][ratings.images], captions_of(ratings.captions)

    def measure(image: Callable[[Any], Any], caption: Callable[[Any], Any]) -> Row:
        tau = ratings.tau_c(image(rated[0]), caption(rated[1]))
        return figures(image(test[0]), caption(test[1])) | {"τ-c Expert": tau}

    groups = np.repeat(np.arange(len(x)), CAPTIONS_PER_IMAGE)
    study = Study(CachedPairs(x[groups], y, groups), measure)
    rows = [study.fixed("none", NONE), study.fixed("post", POST)]
    rows += [study.trained(name, recipe) for name, recipe in VARIANTS.items()]
    if mcsie_pairs:
        rows += _mcsie_rows(study, encoder, read_split(data, split), mcsie_pairs)
    return rows


def clip_rows(data: Path) -> list[Row]:
    """Untrained rows on 500 pairs of CLIP ViT-B/32: statistics from one half, measured on the other.

    250 pairs are four batches of 64, which leave a momentum average near where it began; hence one row
    with the whole half as one batch.
    """
    images, captions = np.load(data / "clip_vitb32_pairs" / "image_text_500.npy")
    order = np.random.default_rng(0).permutation(len(images))
    fitted, rest = order[: len(order) // 2], order[len(order) // 2 :]
    train = CachedPairs(images[fitted], captions[fitted], np.arange(len(fitted)))
    study = Study(train, lambda image, caption: figures(image(images[rest]), caption(captions[rest])))
    still = replace(TRAINED, epochs=1, learning_rate=0.0, momentum=None, batch_size=len(fitted))
    return [
        study.fixed("none", NONE),
        study.fixed("post", POST),
        study.trained("untrained BN, one batch", still),
    ]


def figures(images: NDArray[Any], captions: NDArray[Any]) -> Row:
    """Centroid distance and R@1 in percent of unit embeddings (n, d) and (k·n, d)."""
    (forth,), (back,) = recall(images, captions, (1,))
    return {"CD": centroid_distance(images, captions), "R@1 i→t": forth, "R@1 t→i": back}


def _mcsie_rows(study: Study, encoder: Encoder, split: Flickr8kSplit, count: int) -> Iterator[Row]:
    """The paper's recipe with MCSIE, and without on the same pairs."""
    every = study.train
    chosen = np.sort(np.random.default_rng(study.seed).permutation(len(every.image_index))[:count])
    some = CachedPairs(every.images[chosen], every.captions[chosen], every.image_index[chosen])
    images = [split.images[group] for group in some.image_index]
    captions = [PREFIX + split.captions[row] for row in chosen]
    recipe = replace(TRAINED, mcsie=True)
    dropped = DropoutPairs(encoder, images, captions, some, recipe.dropout)
    yield study.trained("with MCSIE", recipe, dropped)
    yield study.trained("the same pairs without MCSIE", TRAINED, some)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="The data folder.")
@click.option("--split", type=click.Choice(["train", "dev"]), default="train", show_default=True)
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Embedding cache.")
@click.option("--mcsie-pairs", type=click.IntRange(min=0), default=6000, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
def main(data: Path, split: Split, cache_dir: Path | None, mcsie_pairs: int, threads: int) -> None:
    """Measure what each part of I0T_async does, on CLIP's pairs and on the embedded model."""
    torch.set_num_threads(threads)
    try:
        rows = lite_rows(data, split=split, cache=cache_dir, mcsie_pairs=mcsie_pairs, progress=True)
        tables = {"500 pairs of CLIP ViT-B/32": clip_rows(data), f"lite, Flickr8k {split} to test": rows}
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    for title, rows in tables.items():
        click.echo(f"\n### {title}\n\n{tabulate(rows, headers='keys', floatfmt='.4g', tablefmt='github')}")


if __name__ == "__main__":
    main()
