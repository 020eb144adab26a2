"""What the callbacks share: fixed images, scored again and again with the captions of a model in training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from i0tscore.encoders import load_encoder
from i0tscore.encoders.base import Encoder
from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.inputs import strings
from i0tscore.encoders.options import DEFAULT_MODEL, EncodeOptions
from i0tscore.errors import InputError, UsageError
from i0tscore.gap import Statistics
from i0tscore.metrics.metric import PREFIX, Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Result

Generate = Callable[[Any, Any], Iterable[str]]
"""``generate(model, images)`` gives a caption for each image, in order."""


class Validation:
    """Scores a model's captions of validation images, which are encoded once and not at each call.

    Args:
        images: As for ``I0TScorer.score``; ``generate`` gets them as they are.
        generate: Called as ``generate(model, images)``, the model in evaluation mode and without
            gradients; gives one caption an image, in order.
        references: For each image a list of strings, where a metric needs them.
        ids: Names of the images.
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``.
        statistics: ``builtin``, a file, or ``Statistics``: fixed, so that epochs can be compared.
            ``batch`` takes each epoch's own, which move as the captions do.
        metrics: Names or values.
        cache_dir: Folder of the embedding cache; None for none.
        resamples: Of the bootstrap; 0 for no intervals.

    Attributes:
        images: As given.
        result: Of the last call, with signatures and every sample; None before, and when no caption
            could be scored.

    Example:
        >>> x = np.eye(3, 256, dtype=np.float32)
        >>> validation = Validation(x, lambda model, images: ["a dog"] * len(images), model="lite")
        >>> scores = validation(nn.Identity())
        >>> list(scores)
        ['I0TScore', 'I0TScore_low', 'I0TScore_high', 'I0TScore_n']
    """

    def __init__(
        self,
        images: Any,
        generate: Generate,
        *,
        references: Sequence[Sequence[str] | str] | None = None,
        ids: Sequence[str] | None = None,
        model: str | Encoder = DEFAULT_MODEL,
        statistics: str | Path | Statistics = "builtin",
        metrics: Sequence[str | Metric] | str = ("I0TScore",),
        cache_dir: str | Path | None = None,
        resamples: int = 1000,
    ) -> None:
        self.images = images if hasattr(images, "__len__") else list(images)
        self.result: Result | None = None
        self._generate = generate
        self._references = references
        self._ids = ids
        self._model = model
        self._metrics = parse_metrics(metrics)
        if statistics == "auto" and any(metric.needs_statistics for metric in self._metrics):
            raise UsageError(
                'statistics="auto" may take each epoch\'s own, and epochs could not be compared: give '
                '"builtin" or a file of `i0tscore fit`, or say "batch"'
            )
        self._statistics = statistics
        self._cache_dir = cache_dir
        self._resamples = resamples
        self._scorer: I0TScorer | None = None
        self._embeddings: Any = None

    @property
    def worst(self) -> dict[str, float]:
        """What each metric gives for opposite embeddings, −1 for I0TScore.

        What picks the best model is told this where a score is undefined: it needs a number, and an
        epoch without a score must not be the best.
        """
        opposite = np.array([-1.0])
        return {str(metric): float(metric.value(opposite, opposite)[0]) for metric in self._metrics}

    def prepare(self) -> None:
        """Load the encoder and encode the images, unless that is done: problems show before training.

        Raises:
            InputError: An image cannot be read.
            ModelError: The encoder cannot be loaded.
            StatisticsError: No statistics are shipped for the encoder, or they belong to another.
        """
        if self._scorer is not None:
            return
        encoder = load_encoder(self._model, device="auto") if isinstance(self._model, str) else self._model
        scorer = I0TScorer(
            encoder,
            statistics=self._statistics,
            metrics=self._metrics,
            on_error="skip",
            cache_dir=self._cache_dir,
            resamples=self._resamples,
        )
        _ = scorer.statistics  # which raises what is wrong with them
        self._embeddings = embed_images(encoder, self.images, cache_dir=self._cache_dir)
        self._scorer = scorer

    def __call__(self, model: nn.Module) -> dict[str, float | None]:
        """Caption the images and score the captions.

        Args:
            model: Passed to ``generate``.

        Returns:
            For each metric its mean over the defined scores, ``_low`` and ``_high``, the ends of its
            interval, and ``_n``, how many scores are defined. What is undefined is None, and a warning
            says why: empty captions are left out, and a caption that equals the mean has no score, as
            when all captions are the same under batch statistics.

        Raises:
            InputError: ``generate`` gave something else than one string an image.
        """
        self.prepare()
        with evaluating(model):
            captions = strings(self._generate(model, self.images), "what generate gives")
        if wrong := [type(caption).__name__ for caption in captions if not isinstance(caption, str)]:
            raise InputError(f"generate must give strings, one an image; there is {wrong[0]} among them")
        if len(captions) != len(self.images):
            raise InputError(f"generate gave {len(captions)} captions for {len(self.images)} images")
        self.result = self._score(captions) if any(caption.strip() for caption in captions) else None
        self._warn()
        return {key: value for metric in self._metrics for key, value in _summary(str(metric), self.result).items()}

    def _score(self, captions: list[str]) -> Result:
        assert self._scorer is not None  # noqa: S101  (prepared)
        return self._scorer.score(self._embeddings, captions, self._references, self._ids)

    def _warn(self) -> None:
        result = self.result
        if result is None:
            reason = "every caption is empty"
        elif result.skipped:
            reason = f"{len(result.skipped)} left out, first {result.skipped[0].id}: {result.skipped[0].reason}"
        elif result.sample_notes:
            first = min(result.sample_notes)
            reason = f"{len(result.sample_notes)} undefined, first {first}: {result.sample_notes[first][0]}"
        else:
            return
        total = len(self.images)
        warnings.warn(f"validation captions without a score ({total} images): {reason}", stacklevel=3)


def embed_images(encoder: Encoder, images: Any, *, cache_dir: str | Path | None = None) -> Any:
    """Unit float32 embeddings (n, d), a numpy array, of images as ``I0TScorer.score`` takes them.

    Raises:
        InputError: An image cannot be read.
    """
    run = RunEncoder(EncodeOptions(encoder, cache_dir=cache_dir), PREFIX)
    return run.vectors(images, "image")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each part is in the mode it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _summary(name: str, result: Result | None) -> dict[str, float | None]:
    if result is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_n": 0.0}
    metric = result[name]
    low, high = metric.interval or (None, None)
    defined = float(np.isfinite(metric.values).sum())
    return {name: metric.mean, f"{name}_low": low, f"{name}_high": high, f"{name}_n": defined}
