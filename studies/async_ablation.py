"""Ablation of I0T_async: ``python -m studies.async_ablation --data DIR``.

At the paper's learning rate of 1e-6 the parameters hardly change, so that a training that does nothing gives the same
figures. Each row therefore reports how far they moved, and whether the running statistics are the expected momentum
averages, computed independently.
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
from i0tscore.encoders.options import EncodeOptions
from i0tscore.errors import I0TScoreError
from i0tscore.gap import NONE, POST, GapStatistics, Moments, Normalization, Standardizer, centroid_distance
from i0tscore.metrics.metric import PREFIX
from i0tscore.training.i0t_async import AsyncRecipe, AsyncTrainer, CachedPairs, DropoutPairs, Pairs, Passes
from i0tscore.training.trainer import IntArray
from studies.flickr8k import CAPTIONS_PER_IMAGE, Flickr8kSplit, Split, expert_ratings, read_split
from studies.recall import recall

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
"""Recipes that train on cached embeddings, and therefore without MCSIE."""


class Witness:
    """Pairs that also compute the expected running statistics, in float64.

    Args:
        pairs: Source of the batches.
        momentum: Momentum of ``AsyncRecipe``.
    """

    def __init__(self, pairs: Pairs, momentum: float | None) -> None:
        self._pairs, self._momentum = pairs, momentum
        self._updates = [0, 0]
        self.mean, self.variance = np.zeros((2, pairs.dimension)), np.ones((2, pairs.dimension))
        self.image_index, self.dimension, self.identity = pairs.image_index, pairs.dimension, pairs.identity

    def passes(self, rows: IntArray, seed: int) -> Passes:
        """Return the passes of the pairs, and update the expected statistics from them."""
        passes = self._pairs.passes(rows, seed)
        for side, several in enumerate(passes):
            for vectors in (one.double().numpy() for one in several):
                self._updates[side] += 1
                share = self._momentum or 1 / self._updates[side]
                self.mean[side] += share * (vectors.mean(axis=0) - self.mean[side])
                self.variance[side] += share * (vectors.var(axis=0, ddof=1) - self.variance[side])
        return passes

    def error(self, normalizations: tuple[Normalization, Normalization]) -> float:
        """Return the largest difference of a running mean or variance from the expected one."""
        return max(
            float(np.abs(found - expected).max())
            for side, one in enumerate(normalizations)
            for found, expected in ((one.mean, self.mean[side]), (one.variance, self.variance[side]))
        )


@dataclass(frozen=True, slots=True)
class Study:
    """Training pairs and a measure of held-out pairs.

    Attributes:
        train: Embeddings of the training pairs.
        measure: Returns columns of figures, given the functions applied to images and to captions.
        seed: Seed of every training.
    """

    train: CachedPairs
    measure: Callable[[Callable[[Any], Any], Callable[[Any], Any]], Row]
    seed: int = 7

    def fixed(self, name: str, standardizer: Standardizer) -> Row:
        """Return the row of a standardizer with the training means."""
        means = GapStatistics(Moments.of(self.train.images).mean, Moments.of(self.train.captions).mean)
        measured = self.measure(
            lambda x: standardizer.apply(x, means, "image"), lambda y: standardizer.apply(y, means, "caption")
        )
        return {"variant": name, "pairs": len(self.train.image_index)} | measured

    def trained(self, name: str, recipe: AsyncRecipe, pairs: Pairs | None = None) -> Row:
        """Return the row of a training, on ``pairs`` if given."""
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
    data: Path, *, split: Split = "train", cache: Path | None = None, mcsie_pairs: int = 6000, progress: bool = False
) -> list[Row]:
    """Run the ablation on ``lite``: train on a split of Flickr8k, measure on its test split.

    Args:
        data: Folder that holds flickr8k/.
        split: Split to train on.
        cache: Folder of the embedding cache; the user's if None.
        mcsie_pairs: Number of training pairs for MCSIE, sampled at random; 0 leaves its rows out. Their captions are
            encoded six times.
        progress: Whether to show progress bars on stderr.

    Returns:
        One dict per variant: CD, R@1 in percent, Kendall's τ-c × 100 with Flickr8k-Expert, the norms of the changes of
        weights and biases (both modalities), and the error of the running statistics.
    """
    encoder, options = load_encoder("lite"), EncodeOptions(progress=progress)
    with EmbeddingCache(encoder, cache) as opened:

        def embed(name: Split) -> Sides:
            found = read_split(data, name)
            x = embed_images(encoder, found.images, options, cache=opened)
            return x.vectors[x.index], captions_of(found.captions)

        def captions_of(texts: tuple[str, ...]) -> Vectors:
            y = embed_captions(encoder, texts, options, prefix=PREFIX, cache=opened)
            return y.vectors[y.index]

        x, y = embed(split)
        test = embed("test")
        ratings = expert_ratings(data, read_split(data, "test").images)
        rated = test[0][ratings.images], captions_of(ratings.captions)

    def measure(image: Callable[[Any], Any], caption: Callable[[Any], Any]) -> Row:
        tau = ratings.tau_c(image(rated[0]), caption(rated[1]))
        return figures(image(test[0]), caption(test[1])) | {"τ-c Expert": tau}

    image_index = np.repeat(np.arange(len(x)), CAPTIONS_PER_IMAGE)
    study = Study(CachedPairs(x[image_index], y, image_index), measure)
    rows = [study.fixed("none", NONE), study.fixed("post", POST)]
    rows += [study.trained(name, recipe) for name, recipe in VARIANTS.items()]
    if mcsie_pairs:
        rows += _mcsie_rows(study, encoder, read_split(data, split), mcsie_pairs)
    return rows


def clip_rows(data: Path) -> list[Row]:
    """Return untrained rows on 500 pairs of CLIP ViT-B/16: statistics from one half, measured on the other.

    250 pairs are four batches of 64, after which a momentum average is still near its initial value. One row therefore
    uses the whole half as one batch.
    """
    images, captions = np.load(data / "clip_vitb16_pairs" / "image_text_500.npy")
    order = np.random.default_rng(0).permutation(len(images))
    fit, rest = order[: len(order) // 2], order[len(order) // 2 :]
    train = CachedPairs(images[fit], captions[fit], np.arange(len(fit)))
    study = Study(train, lambda image, caption: figures(image(images[rest]), caption(captions[rest])))
    untrained = replace(TRAINED, epochs=1, learning_rate=0.0, momentum=None, batch_size=len(fit))
    return [study.fixed("none", NONE), study.fixed("post", POST), study.trained("untrained BN, one batch", untrained)]


def figures(images: NDArray[Any], captions: NDArray[Any]) -> Row:
    """Return the centroid distance and R@1 in percent of unit embeddings (n, d) and (k·n, d)."""
    (forth,), (back,) = recall(images, captions, (1,))
    return {"CD": centroid_distance(images, captions), "R@1 i→t": forth, "R@1 t→i": back}


def _mcsie_rows(study: Study, encoder: Encoder, split: Flickr8kSplit, count: int) -> Iterator[Row]:
    """Yield the paper's recipe with MCSIE, and without it on the same pairs."""
    every = study.train
    chosen = np.sort(np.random.default_rng(study.seed).permutation(len(every.image_index))[:count])
    some = CachedPairs(every.images[chosen], every.captions[chosen], every.image_index[chosen])
    images = [split.images[row] for row in some.image_index]
    captions = [PREFIX + split.captions[row] for row in chosen]
    recipe = replace(TRAINED, mcsie=True)
    dropped = DropoutPairs(encoder, images, captions, some, recipe.dropout)
    yield study.trained("with MCSIE", recipe, dropped)
    yield study.trained("the same pairs without MCSIE", TRAINED, some)


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Folder that holds flickr8k/."
)
@click.option(
    "--split", type=click.Choice(["train", "dev"]), default="train", show_default=True, help="Split to train on."
)
@click.option("--cache-dir", type=click.Path(path_type=Path), help="Embedding cache.")
@click.option(
    "--mcsie-pairs",
    type=click.IntRange(min=0),
    default=6000,
    show_default=True,
    help="Training pairs with MCSIE; 0 leaves it out.",
)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Threads of torch.")
def main(data: Path, split: Split, cache_dir: Path | None, mcsie_pairs: int, threads: int) -> None:
    """Measure the effect of each part of I0T_async, on CLIP's pairs and on the embedded model."""
    torch.set_num_threads(threads)
    try:
        rows = lite_rows(data, split=split, cache=cache_dir, mcsie_pairs=mcsie_pairs, progress=True)
        tables = {"500 pairs of CLIP ViT-B/16": clip_rows(data), f"lite, Flickr8k {split} to test": rows}
    except I0TScoreError as error:
        raise click.ClickException(str(error)) from error
    for title, rows in tables.items():
        click.echo(f"\n### {title}\n\n{tabulate(rows, headers='keys', floatfmt='.4g', tablefmt='github')}")


if __name__ == "__main__":
    main()
