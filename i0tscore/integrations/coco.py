"""Metrics with the interface of pycocoevalcap's scorers, for COCO evaluation scripts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.encoders.encode import listing
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import InputError, UsageError
from i0tscore.metrics.evaluate import NO_DIRECTION
from i0tscore.metrics.metric import Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.samples.diagnostics import UnusableError
from i0tscore.samples.images import ImageFolder

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.results import Result

Captions = Mapping[Any, Sequence[Any]]
"""Captions by image id: strings, or dictionaries with ``caption`` as in pycocotools."""


class CocoScorer:
    """A scorer with ``compute_score(gts, res)`` and ``method()``, like Bleu and Cider of pycocoevalcap.

    Args:
        metric: Name of a metric; or several names, for which ``compute_score`` returns lists, like Bleu.
        images: For each image id an image as for ``I0TScorer.score``, or the folder of the images.
        annotations: With a folder: a ``pycocotools.coco.COCO``, whose ``imgs[id]["file_name"]`` is the name of the
            image in the folder.
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        **options: Other arguments of ``I0TScorer``, such as ``statistics``, except ``on_error``: every image must have
            a score.

    Attributes:
        names: Names of the metrics.
        result: Result of the last ``compute_score``, with intervals and signatures; None before.

    Raises:
        UsageError: A metric or option value is unknown, or a folder comes without annotations.
        InputError: The folder does not exist.

    Examples:
        >>> import numpy as np
        >>> page = np.full((64, 64, 3), 255, dtype=np.uint8)
        >>> scorer = CocoScorer("CLIPScore", {7: page}, model="lite")
        >>> mean, scores = scorer.compute_score({7: ["a page"]}, {7: ["an empty white page"]})
        >>> scorer.method(), bool(mean == scores[0])
        ('CLIPScore', True)
    """

    def __init__(
        self,
        metric: str | Metric | Sequence[str | Metric],
        images: Mapping[Any, Any] | str | Path,
        annotations: Any = None,
        *,
        model: str | Encoder = DEFAULT_MODEL,
        **options: Any,
    ) -> None:
        if (annotations is None) != isinstance(images, Mapping):
            raise UsageError(
                "Expected a mapping from image ids to images, or a folder with its annotations as a COCO object."
            )
        self._metrics = parse_metrics(metric)
        self._single = isinstance(metric, str | Metric)
        self._images = images if isinstance(images, Mapping) else ImageFolder(Path(images))
        self._annotations = annotations
        # Skips, so that one error can list all problems; see compute_score.
        self._scorer = I0TScorer(model, metrics=self._metrics, on_error="skip", **options)
        self.names = [str(one) for one in self._metrics]
        self.result: Result | None = None

    def method(self) -> str:
        """Return the names of the metrics."""
        return ", ".join(self.names)

    def compute_score(self, gts: Captions, res: Captions) -> tuple[Any, Any]:
        """Score one caption per image.

        Pass captions as they were written. The tokenizer of pycocoevalcap removes punctuation, which models see.

        Args:
            gts: References by image id; they may be empty unless a metric needs them.
            res: For each image id a list with the caption to score.

        Returns:
            The mean and the scores (n,), float64, in the order of ``gts``; lists of both if several metrics were given.
            Undefined scores are NaN, with a warning that gives the reason.

        Raises:
            InputError: The ids differ, an image does not have exactly one caption or cannot be read, or a reference
                that a metric needs is missing; the message lists all such problems.
            StatisticsError: As for ``I0TScorer.score``.
        """
        captions, images = self._captions_and_images(gts, res)
        references = None
        if any(metric.needs_references for metric in self._metrics):
            references = [[_text(item) for item in own] if _is_list(own) else own for own in gts.values()]
        run = self._scorer.encode(images, captions, references, [str(identifier) for identifier in gts])
        if run.skipped:
            raise InputError(listing(run.skipped))
        self.result = self._scorer.evaluate(run)
        means, scores = [], []
        for name, metric in self.result.items():
            undefined = int(np.isnan(metric.values).sum())
            if undefined:
                message = f"{name}: {undefined} of {len(captions)} captions have {NO_DIRECTION}"
                warnings.warn(message, UserWarning, stacklevel=2)
            means.append(float("nan") if metric.mean is None else metric.mean)
            scores.append(metric.values)
        return (means[0], scores[0]) if self._single else (means, scores)

    def _captions_and_images(self, gts: Captions, res: Captions) -> tuple[list[str], list[Any]]:
        """Return captions and images in the order of ``gts``."""
        for name, given in (("references", gts), ("captions", res)):
            if not isinstance(given, Mapping):
                raise InputError(f"Expected {name} by image id, as {{7: [...]}}, got a {type(given).__name__}.")
        extra = [identifier for identifier in res if identifier not in gts]
        if extra and {str(identifier) for identifier in extra} <= {str(identifier) for identifier in gts}:
            types = [type(next(iter(ids))).__name__ for ids in (gts, extra)]
            raise InputError(f"Expected ids of captions to be {types[0]} like those of references, got {types[1]}.")
        problems = [(repr(identifier), "among the captions, but not among the references") for identifier in extra]
        captions, images = [], []
        for identifier in gts:
            found = res.get(identifier, ())
            if not _is_list(found) or len(found) != 1:
                problems.append((repr(identifier), f"expected a list of one caption, got {found!r}"))
                continue
            captions.append(_text(found[0]))
            try:
                images.append(self._image(identifier))
            except UnusableError as error:
                problems.append((repr(identifier), str(error)))
        if problems:
            raise InputError(f"{len(problems)} images cannot be scored:\n{listing(problems)}")
        return captions, images

    def _image(self, identifier: Any) -> Any:
        if isinstance(self._images, ImageFolder):
            entry = self._annotations.imgs.get(identifier)
            if entry is None:
                raise UnusableError("no image with this id in the annotations")
            return self._images.find(entry["file_name"])
        if identifier not in self._images:
            raise UnusableError("no image with this id in the mapping")
        return self._images[identifier]


def _is_list(items: Any) -> bool:
    return isinstance(items, list | tuple | np.ndarray)


def _text(item: Any) -> Any:
    """Return the caption of a pycocotools annotation, or a caption as it is."""
    return item["caption"] if isinstance(item, Mapping) else item
