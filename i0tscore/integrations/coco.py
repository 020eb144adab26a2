"""Metrics in the shape of pycocoevalcap's scorers, for COCO evaluation scripts."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.encoders.encode import SKIP_HINT, listing
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
"""For each image id its captions: strings, or dictionaries with ``caption`` as pycocotools has them."""


class CocoScorer:
    """A scorer with ``compute_score(gts, res)`` and ``method()``, as Bleu and Cider of pycocoevalcap are.

    Args:
        metric: A metric's name, or several, which then come as lists, like those of Bleu.
        images: For each image id an image as ``I0TScorer.score`` takes it; or the folder of the images.
        annotations: With a folder: a ``pycocotools.coco.COCO``, whose ``imgs[id]["file_name"]`` is the
            image's name in the folder.
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``.
        **options: Any others of ``I0TScorer``, such as ``statistics``; all but ``on_error``, since there
            must be a score for each image.

    Attributes:
        names: The metrics' names.
        result: Of the last ``compute_score``, with intervals and signatures; None before.

    Raises:
        UsageError: An unknown metric or option value, or a folder without annotations.
        InputError: There is no such folder.

    Example:
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
                "give a mapping from image ids to images, or a folder and its annotations as a COCO object"
            )
        self._metrics = parse_metrics(metric)
        self._single = isinstance(metric, str | Metric)
        self._images = images if isinstance(images, Mapping) else ImageFolder(Path(images))
        self._annotations = annotations
        self._scorer = I0TScorer(model, metrics=self._metrics, on_error="raise", **options)
        self.names = [str(one) for one in self._metrics]
        self.result: Result | None = None

    def method(self) -> str:
        """The names of the metrics."""
        return ", ".join(self.names)

    def compute_score(self, gts: Captions, res: Captions) -> tuple[Any, Any]:
        """Score one caption for each image.

        Captions should be as they were written: pycocoevalcap's tokenizer drops the punctuation, which
        models see.

        Args:
            gts: For each image id its references; they may be empty unless a metric needs them.
            res: For each image id a list of the one caption to be scored.

        Returns:
            The mean and the scores (n,), float64, in the order of ``gts``; lists of both if several
            metrics were asked for. What is undefined is NaN, with a warning that says why.

        Raises:
            InputError: The ids differ, an image has not one caption or cannot be found, or a needed
                reference is missing; with all of the problems.
            StatisticsError: See ``I0TScorer.score``.
        """
        captions, images = self._checked(gts, res)
        references = None
        if any(metric.needs_references for metric in self._metrics):
            references = [[_text(item) for item in items] for items in gts.values()]
        ids = [str(identifier) for identifier in gts]
        try:
            self.result = self._scorer.score(images, captions, references, ids)
        except InputError as error:
            raise InputError(str(error).removesuffix(f"\n{SKIP_HINT}")) from error
        means, scores = [], []
        for name, metric in self.result.items():
            undefined = int(np.isnan(metric.values).sum())
            if undefined:
                message = f"{name}: {undefined} of {len(ids)} captions have {NO_DIRECTION}"
                warnings.warn(message, UserWarning, stacklevel=2)
            means.append(float("nan") if metric.mean is None else metric.mean)
            scores.append(metric.values)
        return (means[0], scores[0]) if self._single else (means, scores)

    def _checked(self, gts: Captions, res: Captions) -> tuple[list[str], list[Any]]:
        """Captions and images in the order of ``gts``."""
        others = [identifier for identifier in res if identifier not in gts]
        if others and {str(identifier) for identifier in others} <= {str(identifier) for identifier in gts}:
            kinds = (type(next(iter(ids))).__name__ for ids in (others, gts))
            raise InputError("ids of captions are {}, those of references {}: make them alike".format(*kinds))
        problems = [f"{identifier!r}: among the captions, not the references" for identifier in others]
        captions, images = [], []
        for identifier in gts:
            found = res.get(identifier, ())
            if found is None or isinstance(found, str) or len(found) != 1:
                problems.append(f"{identifier!r}: give a list of one caption, not {found!r}")
                continue
            captions.append(_text(found[0]))
            try:
                images.append(self._image(identifier))
            except UnusableError as error:
                problems.append(f"{identifier!r}: {error}")
        if problems:
            raise InputError(f"{len(problems)} images cannot be scored\n{listing(problems)}")
        return captions, images

    def _image(self, identifier: Hashable) -> Any:
        if isinstance(self._images, ImageFolder):
            entry = self._annotations.imgs.get(identifier)
            if entry is None:
                raise UnusableError("no image of this id in the annotations")
            return self._images.find(entry["file_name"])
        if identifier not in self._images:
            raise UnusableError("no image of this id in the mapping")
        return self._images[identifier]


def _text(item: Any) -> Any:
    """A caption from an annotation of pycocotools, or as it is."""
    return item["caption"] if isinstance(item, Mapping) else item
