"""Scores of a model's captions of fixed validation images during training, as used by the callbacks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import nn, no_grad

from i0tscore.encoders.base import Encoder
from i0tscore.encoders.encode import RunEncoder, as_embeddings, ordered, same_length
from i0tscore.encoders.images import decode
from i0tscore.encoders.options import DEFAULT_MODEL, EncodeOptions
from i0tscore.errors import ImageError, InputError, UsageError
from i0tscore.gap import Statistics
from i0tscore.metrics.metric import PREFIX, Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.render.document import Table, format_number, markdown_table
from i0tscore.render.page import require_jinja2
from i0tscore.results import Result

Generate = Callable[[Any, Any], Iterable[str]]
"""``generate(model, images)`` returns a caption for each image, in order."""


_LOGGED_PIXELS = 320


class LowScore(NamedTuple):
    """A sample with a low score.

    Attributes:
        id: The id of the image; its position if no ids were given.
        image: The image, at most 320 pixels wide and high.
        caption: The generated caption.
        score: The score of the first metric.
    """

    id: str
    image: Image.Image
    caption: str
    score: float


class Validation:
    """Scores a model's captions of validation images, which are encoded only once.

    Args:
        images: As for ``I0TScorer.score``; passed to ``generate`` as they are, a generator as a list.
        generate: Called as ``generate(model, images)``, with the model in evaluation mode and without gradients;
            returns one caption per image, in order.
        references: For each image a list of strings, if a metric needs them.
        ids: Unique ids of the images, such as file names; positions by default.
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        statistics: ``builtin``, a file, or ``Statistics``: fixed, so that epochs can be compared. ``batch`` computes
            them in each epoch, so they change with the captions.
        metrics: Names or values.
        resamples: Number of bootstrap resamples; 0 for no intervals.
        report_dir: Folder in which each call writes a page, as ``Result.to_html`` does: ``validation-0001.html`` and so
            on. Pages of earlier runs are kept, and numbering continues. Requires the extra ``report``.
        **encoding: Other fields of ``EncodeOptions``, such as ``cache_dir``; empty captions are always skipped.

    Raises:
        InputError: The images have no order, there are not as many references or ids, or ids repeat.
        MissingExtraError: ``report_dir`` is given, and Jinja2 is not installed.
        OSError: ``report_dir`` cannot be created.
        UsageError: The statistics are not fixed, or a metric or option is unknown.

    Attributes:
        images: As given.
        result: Result of the last call, with signatures and all samples; None before, and if no caption could be
            scored.

    Examples:
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
        resamples: int = 1000,
        report_dir: str | Path | None = None,
        **encoding: Any,
    ) -> None:
        listed = ordered(images, "images")
        self.images = images if hasattr(images, "__len__") else list(listed)
        self.result: Result | None = None
        self._generate = generate
        self._references = None if references is None else list(ordered(references, "references"))
        self._ids = None if ids is None else list(ordered(ids, "ids"))
        same_length(images=self.images, references=self._references, ids=self._ids)
        if self._ids is not None and len(set(self._ids)) < len(self._ids):
            twice = next(name for name in self._ids if self._ids.count(name) > 1)
            raise InputError(f"Expected unique ids, got {twice!r} more than once. Give each image its own id.")
        self._report_dir = None if report_dir is None else Path(report_dir)
        if self._report_dir is not None:
            require_jinja2()
            self._report_dir.mkdir(parents=True, exist_ok=True)
        self._metrics = parse_metrics(metrics)
        if statistics == "auto" and any(metric.needs_statistics for metric in self._metrics):
            raise UsageError(
                'With statistics="auto", each epoch may use different statistics, so epochs are not comparable. Use '
                '"builtin", a file from `i0tscore fit`, or "batch".'
            )
        self._encoding = {**encoding, "on_error": "skip"}
        self._encoder = RunEncoder(EncodeOptions.of({"model": model, **self._encoding}), PREFIX)
        self._scoring: dict[str, Any] = {
            "statistics": statistics,
            "metrics": self._metrics,
            "resamples": resamples,
        }
        self._scorer: I0TScorer | None = None
        self._embeddings: Any = None

    @property
    def worst(self) -> dict[str, float]:
        """Each metric's score of opposite embeddings, −1 for I0TScore.

        Replaces undefined scores where the best model is selected, which needs a number in every epoch.
        """
        opposite = np.array([-1.0])
        return {str(metric): float(metric.value(opposite, opposite)[0]) for metric in self._metrics}

    def prepare(self) -> None:
        """Load the encoder and encode the images, unless done before, so that problems show before training.

        Raises:
            InputError: An image cannot be read.
            ModelError: The encoder cannot be loaded.
            StatisticsError: No statistics are shipped for the encoder, or they belong to another one.
        """
        if self._scorer is None:
            scorer = I0TScorer(self._encoder.encoder, **self._scoring, **self._encoding)
            _ = scorer.statistics  # raises if they cannot be used
            self._embeddings = self._encoder.vectors(self.images, "image")
            self._scorer = scorer

    def __call__(self, model: nn.Module) -> dict[str, float | None]:
        """Caption the images and score the captions.

        Args:
            model: Passed to ``generate``.

        Returns:
            For each metric the mean of the defined scores, the ends of its interval as ``_low`` and ``_high``, and the
            number of defined scores as ``_n``. Undefined values are None, with a warning that gives the reason: empty
            captions are skipped, and a caption that equals the reference mean has no score, as with identical captions
            under per-run statistics. Another warning appears if more than half of the captions are the same.

        Raises:
            InputError: ``generate`` did not return one string per image.
        """
        self.prepare()
        assert self._scorer is not None  # noqa: S101  (set by prepare)
        with evaluating(model):
            captions = list(ordered(self._generate(model, self.images), "captions from generate"))
        if wrong := [type(caption).__name__ for caption in captions if not isinstance(caption, str)]:
            raise InputError(f"Expected generate to return strings, got {wrong[0]}. Return one string per image.")
        if len(captions) != len(self.images):
            raise InputError(f"Expected one caption per image, got {len(captions)} for {len(self.images)} images.")
        result, reason = None, "Every caption is empty."
        if any(caption.strip() for caption in captions):
            result = self._scorer.score(self._embeddings, captions, self._references, self._ids)
            reason = ""
            if result.skipped:
                first = result.skipped[0]
                reason = f"{len(result.skipped)} skipped. First: {first.id}: {first.reason}"
            elif result.sample_notes:
                row = min(result.sample_notes)
                reason = f"{len(result.sample_notes)} undefined. First: {row}: {result.sample_notes[row][0]}"
        caption, count = Counter(captions).most_common(1)[0] if captions else ("", 0)
        if caption.strip() and count > 1 and 2 * count > len(captions):
            warnings.warn(f"{count} of {len(captions)} captions are the same: {caption!r}.", stacklevel=2)
        if reason:
            message = f"Some captions of the {len(self.images)} validation images have no score. {reason}"
            warnings.warn(message, stacklevel=2)
        self.result = result
        if self._report_dir is not None and result is not None:
            number = 1 + sum(1 for _ in self._report_dir.glob("validation-*.html"))
            result.to_html(self._report_dir / f"validation-{number:04d}.html", self._images_by_id())
        scores: dict[str, float | None] = {}
        for name in map(str, self._metrics):
            metric = None if result is None else result[name]
            low, high = (None if metric is None else metric.interval) or (None, None)
            scores[name] = None if metric is None else metric.mean
            scores |= {f"{name}_low": low, f"{name}_high": high}
            scores[f"{name}_n"] = 0.0 if metric is None else float(np.isfinite(metric.values).sum())
        return scores

    def lowest(self, k: int) -> list[LowScore]:
        """Return up to k samples of the last call with the lowest scores of the first metric, the lowest first.

        The list is empty before the first call and for embeddings. An image that can no longer be read is left out with
        a warning, so that training continues.

        Args:
            k: Maximum number of samples.
        """
        images = self._images_by_id()
        if self.result is None or images is None:
            return []
        values = self.result[str(self._metrics[0])].values
        order = [int(i) for i in np.argsort(values, kind="stable")[:k] if np.isfinite(values[i])]
        found = []
        for i in order:
            try:
                image = decode(images[self.result.ids[i]])
            except ImageError as error:
                warnings.warn(f"{self.result.ids[i]}: {error}", stacklevel=2)
                continue
            image.thumbnail((_LOGGED_PIXELS, _LOGGED_PIXELS))
            found.append(LowScore(self.result.ids[i], image, self.result.captions[i], float(values[i])))
        return found

    def _images_by_id(self) -> dict[str, Any] | None:
        """Return the images by id, or None for embeddings."""
        if as_embeddings(self.images) is not None:
            return None
        ids = map(str, range(len(self.images))) if self._ids is None else self._ids
        return dict(zip(ids, ordered(self.images, "images"), strict=True))


def write_lowest(writer: Any, name: str, samples: Sequence[LowScore], step: int) -> None:
    """Write images, and a table of their captions and scores, to a TensorBoard ``SummaryWriter``."""
    if not samples:
        return
    for number, sample in enumerate(samples, 1):
        writer.add_image(f"{name}/{number}", np.asarray(sample.image), step, dataformats="HWC")
    rows = [[str(number), one.id, format_number(one.score), one.caption] for number, one in enumerate(samples, 1)]
    writer.add_text(name, markdown_table(Table(["image", "id", "score", "caption"], rows)), step)


def embed_images(encoder: Encoder, images: Any, **encoding: Any) -> Any:
    """Return unit float32 embeddings (n, d), a numpy array, of images as for ``I0TScorer.score``.

    Raises:
        InputError: An image cannot be read.
    """
    return RunEncoder(EncodeOptions.of({"model": encoder, **encoding}), PREFIX).vectors(images, "image")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, without gradients, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
