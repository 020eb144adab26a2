"""I0T_async from images and captions to statistics that ``AsyncI0TScore`` uses."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.encoders import DEFAULT_MODEL, load_encoder
from i0tscore.encoders.encoded import EncodedRun
from i0tscore.encoders.inputs import as_embeddings
from i0tscore.errors import UsageError
from i0tscore.metrics.metric import PRESETS
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.metrics.statistics import run_statistics
from i0tscore.training.async_pairs import CachedPairs, DropoutPairs, Pairs
from i0tscore.training.async_training import AsyncRecipe, AsyncTrainer

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics

CHECKPOINT = "async.safetensors"
_LOADING = ("weights", "precision", "device", "offline")


def fit_async(
    images: Iterable[Any],
    captions: Iterable[Any],
    *,
    model: str | Encoder = DEFAULT_MODEL,
    recipe: AsyncRecipe | None = None,
    seed: int = 12345,
    name: str = "async",
    source: str = "",
    checkpoints: str | Path | None = None,
    preset: str = "paper",
    **options: Any,
) -> Statistics:
    """Train I0T_async (An et al. 2025) on images with right captions; the metric is ``AsyncI0TScore``.

    The encoder stays as it is. Everything is encoded once, and with MCSIE, the paper's way, twice more in
    each epoch (through the cache only the first time); embeddings, or a recipe without MCSIE, train in
    seconds. Give some thousand pairs: running statistics follow the last batches.

    Args:
        images: As for ``I0TScorer.score``; with MCSIE they are all kept, so give paths.
        captions: One right caption a sample.
        model: The encoder the statistics are for.
        recipe: How to train; the paper's if left out, without MCSIE where embeddings are given.
        seed: Of order and dropout.
        name: Short name, shown in signatures.
        source: What the data are, in words; how it was trained is added.
        checkpoints: Folder of the checkpoint; a run that was broken off goes on from there.
        preset: As for ``I0TScorer``: the prefix of the captions.
        **options: Anything else that ``I0TScorer`` takes.

    Returns:
        Statistics with the trained normalization, the moments of the same pairs, and reference
        distributions from them (in-sample).

    Raises:
        InputError: What ``I0TScorer.score`` raises; fewer than two pairs; a checkpoint of another run.
        UsageError: MCSIE of embeddings, or of captions that are split.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 8)) + 1
        >>> statistics = fit_async(x, x + rng.normal(size=(2000, 8)) - 2)
        >>> [round(float(n.weight.mean()), 2) for n in statistics.normalization]
        [1.0, 1.0]
    """
    embedded = as_embeddings(images) is not None
    recipe = recipe or AsyncRecipe(mcsie=not embedded)
    _check_mcsie(recipe, embedded, options)
    loading = {key: options.pop(key) for key in _LOADING if key in options}
    encoder, positions = None, None
    if not embedded:
        encoder = load_encoder(model, **{"device": "auto", **loading}) if isinstance(model, str) else model
        images = images if hasattr(images, "__getitem__") else list(images)
        captions = captions if isinstance(captions, Sequence) else list(captions)
        positions = map(str, range(len(captions)))
    run = I0TScorer(encoder or model, preset=preset, **options).encode(images, captions, ids=positions)
    if run.skipped:
        warnings.warn(f"{len(run.skipped)} samples left out", UserWarning, stacklevel=2)
    prefix = PRESETS[preset].prefix
    pairs: Pairs = CachedPairs(*run.pairs, run.image_index)
    if recipe.mcsie and encoder is not None:
        pairs = _under_dropout(encoder, images, run, prefix, recipe)
    trainer = AsyncTrainer(pairs, recipe, seed)
    file = None if checkpoints is None else Path(checkpoints) / CHECKPOINT
    normalization = trainer.run(file, progress=bool(options.get("progress")))
    told = "; ".join(part for part in (source, describe(recipe, seed, trainer.total)) if part)
    fingerprint = None if encoder is None else encoder.fingerprint
    statistics = run_statistics(run, fingerprint, prefix, name=name, source=told)
    return replace(statistics, normalization=normalization).with_reference(*run.pairs, run.image_index)


def describe(recipe: AsyncRecipe, seed: int, steps: int) -> str:
    """How a normalization was trained, in words.

    Example:
        >>> describe(AsyncRecipe(mcsie=False), 7, 1404)
        'I0T_async: 1404 steps in 3 epochs, rate 1e-06, cyclic 0.25, no MCSIE, seed 7; measured in-sample'
    """
    mcsie = f"MCSIE dropout {recipe.dropout:g}" if recipe.mcsie else "no MCSIE"
    return (
        f"I0T_async: {steps} steps in {recipe.epochs} epochs, rate {recipe.learning_rate:g}, "
        f"cyclic {recipe.cyclic_weight:g}, {mcsie}, seed {seed}; measured in-sample"
    )


def _check_mcsie(recipe: AsyncRecipe, embedded: bool, options: dict[str, Any]) -> None:
    if recipe.mcsie and embedded:
        raise UsageError("MCSIE encodes anew under dropout, which embeddings cannot be: train without it")
    if recipe.mcsie and options.get("long_captions") == "split":
        raise UsageError("MCSIE takes long captions truncated: train without it, or do not split them")


def _under_dropout(encoder: Encoder, images: Any, run: EncodedRun, prefix: str, recipe: AsyncRecipe) -> DropoutPairs:
    kept = [images[int(position)] for position in run.ids]
    texts = [prefix + caption for caption in run.captions]
    return DropoutPairs(encoder, kept, texts, CachedPairs(*run.pairs, run.image_index), recipe.dropout)
