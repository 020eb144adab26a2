"""The standardizers of a gap report, each with the statistics it uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from i0tscore.gap import HubnessBank, Moments, NormalizationPair, Standardizer, Statistics, all_standardizers
from i0tscore.gap.fitted import NEAREST
from i0tscore.training.i0t_async import AsyncRecipe, AsyncTrainer, CachedPairs
from studies.async_ablation import TRAINED, VARIANTS
from studies.gap_published import CHANGES
from studies.standardizer_study import Condition

Vectors = NDArray[np.float32]

ASYNC = Standardizer("async")
BANK = 1000
SEED = 7
"""Of the training of ``async``; one of the paper's."""
SETTLED = 1000
"""From so many pairs on running statistics follow momentum averages, as the paper's; with fewer, which
would leave these near where they began, every batch weighs the same."""


def conditions(held_out: Statistics) -> Iterator[Condition]:
    """Every standardizer, ``none`` first, with statistics of other pairs; what these lack is left out."""
    yield from _usable([*all_standardizers(), *_published()], held_out)


def published_conditions(own: Statistics) -> Iterator[Condition]:
    """The standardizers of the paper's tables with statistics of what is measured, as there."""
    yield from _usable(_published(), own)


def _published() -> list[Standardizer]:
    return [Standardizer.parse(change.standardizer) for change in CHANGES]


def _usable(standardizers: Sequence[Standardizer], statistics: Statistics) -> Iterator[Condition]:
    for standardizer in dict.fromkeys(standardizers):
        if statistics.gap_statistics.has(standardizer.spec.need):
            yield Condition(standardizer, statistics, statistics.name)


def pair_statistics(images: Vectors, captions: Vectors, name: str) -> Statistics:
    """Moments of images (n, d) and captions (m, d), for use on the spot."""
    return Statistics(name, "", "", "", Moments.of(images), Moments.of(captions))


def held_out_statistics(images: Vectors, captions: Vectors, name: str) -> Statistics:
    """Moments of pairs (n, d) and (n, d), a trained normalization, and a bank of up to 1,000 of them.

    A hub is judged by its 256 nearest in the bank, as in NNN's code, but by no more than a quarter of it:
    the mean over a whole bank is the mean vector, and ``nnn`` would be ``dn``.
    """
    size = min(BANK, len(images))
    bank = HubnessBank.sample(images, captions, size, nearest=max(1, min(NEAREST, size // 4)))
    statistics = pair_statistics(images, captions, name).with_fitted(bank=bank)
    return _with_normalization(statistics, images, captions, _for(TRAINED, len(images)))


def async_variants(statistics: Statistics, images: Vectors, captions: Vectors) -> Iterator[Condition]:
    """``async`` trained on pairs (n, d), (n, d) in the ways of the ablation, each recipe once."""
    recipes = {_for(recipe, len(images)): name for name, recipe in reversed(VARIANTS.items())}
    for recipe, name in reversed(recipes.items()):
        yield Condition(ASYNC, _with_normalization(statistics, images, captions, recipe), name)


def _with_normalization(statistics: Statistics, images: Vectors, captions: Vectors, recipe: AsyncRecipe) -> Statistics:
    pairs = CachedPairs(images, captions, np.arange(len(images)))
    return statistics.with_fitted(normalization=NormalizationPair(*AsyncTrainer(pairs, recipe, SEED).run()))


def _for(recipe: AsyncRecipe, pairs: int) -> AsyncRecipe:
    return recipe if pairs >= SETTLED else replace(recipe, momentum=None)
