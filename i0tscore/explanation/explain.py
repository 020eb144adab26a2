"""Explanation of one score: the number, the words, the regions, and how far to trust them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from i0tscore.encoders.base import Encoder, LocalEncoder
from i0tscore.encoders.encode import as_numpy, caption_problem, reference_list
from i0tscore.encoders.images import ImageInput, decode
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import InputError, StatisticsError, UsageError
from i0tscore.explanation.explanation import Deletion, Explanation, NearestReference
from i0tscore.explanation.regions import Hidden, RegionMap, largest, moved, occlusion_values, windows
from i0tscore.explanation.units import LONG, Unit, UnitEffect, split_sentences, split_words, without
from i0tscore.gap import Statistics
from i0tscore.metrics.metric import Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results.result import Result

MAX_UNITS: Final = 200
"""Maximum number of sentences that are explained."""

_ORDERS: Final = 8
_STEPS: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
_SEED: Final = 0
_SIDE: Final = 800  # pixels of the image for views


def explain(
    image: ImageInput,
    caption: str,
    references: Sequence[str] | str | None = None,
    *,
    context: str | None = None,
    model: str | Encoder = DEFAULT_MODEL,
    metric: str | Metric | None = None,
    statistics: str | Path | Statistics = "auto",
    phrase: str | None = None,
    sentence: int | None = None,
    regions: bool = True,
    faithfulness: bool = True,
    **options: Any,
) -> Explanation:
    """Explain the score of one caption.

    The effect of a word is the score of the caption minus the score of the caption without the word. Regions are
    explained by the embeddings of the image's locations if the encoder provides them (``lite``), or else by hiding
    parts of the image.

    Args:
        image: A path, bytes, a PIL image, or an array, as for ``I0TScorer.score``.
        caption: The caption, without prefix.
        references: Human captions of the image, for Ref- metrics and for ``Explanation.references``.
        context: The text in which the image appears, for ContextI0TScore.
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        metric: The metric to explain; None for the first one of the preset, I0TScore by default.
        statistics: ``auto``, ``builtin``, a file, or ``Statistics``.
        phrase: Text to find in the image, instead of the whole caption.
        sentence: Number of the sentence to explain by its words, from 1. A caption of more than 60 words is explained
            by its sentences otherwise.
        regions: Whether to compute the map of the image.
        faithfulness: Whether to measure how faithful the explanation is, which takes most of the time.
        **options: Other options of ``I0TScorer``, such as ``preset`` and ``cache_dir``.

    Raises:
        InputError: The image cannot be read, or the caption is empty.
        StatisticsError: The metric needs statistics and none are shipped for the model. Per-run statistics
            cannot be computed from one sample.
        UsageError: There is no such sentence.

    Examples:
        >>> image = np.full((64, 64, 3), 255, dtype=np.uint8)
        >>> explanation = explain(image, "A white page", model="lite", regions=False, faithfulness=False)
        >>> [effect.text for effect in explanation.effects]
        ['A', 'white', 'page']
    """
    metrics = None if metric is None else parse_metrics(metric)[0].with_parts
    settings = {"metrics": metrics, "statistics": statistics, "resamples": 0, "ranks": False, **options}
    scorer = I0TScorer(model, **settings)
    return explain_pair(
        scorer,
        image,
        caption,
        references,
        context=context,
        phrase=phrase,
        sentence=sentence,
        regions=regions,
        faithfulness=faithfulness,
    )


def explain_pair(
    scorer: I0TScorer,
    image: ImageInput,
    caption: str,
    references: Sequence[str] | str | None = None,
    *,
    context: str | None = None,
    phrase: str | None = None,
    sentence: int | None = None,
    regions: bool = True,
    faithfulness: bool = True,
) -> Explanation:
    """Explain one caption with a scorer, by its first metric; see ``explain`` for the arguments and errors."""
    own, text = None if references is None else reference_list(references), caption if phrase is None else phrase
    _check(image, [caption, text, *(own or ())])
    kind, units, notes = _units(caption, sentence)
    pair = _Pair(scorer, image, caption, own, context)
    effects = pair.effects(units)
    found = pair.regions(text) if regions else None
    (sample,) = pair.result.samples
    if len(units) == 1 and not split_words(without(caption, units)):
        notes.append(f"Without its only {kind[:-1]}, the caption is empty, so the effect is undefined.")
    if found is not None and len(pair.metric.with_parts) > 1:
        other = "references" if pair.metric.needs_references else "the context"
        notes.append(f"The regions explain the similarity between image and text, without {other}.")
    view = pair.image.copy()
    view.thumbnail((_SIDE, _SIDE))
    return Explanation(
        metric=str(pair.metric),
        signature=pair.result[str(pair.metric)].signature,
        sample=sample,
        units=kind,
        effects=tuple(map(UnitEffect, *zip(*map(astuple, units), strict=True), effects)),
        regions=found,
        references=pair.nearest_references(),
        word_deletion=pair.delete_units(units, effects) if faithfulness else None,
        region_deletion=pair.delete_regions(found) if faithfulness and found is not None else None,
        notes=(*pair.result.notes, *notes),
        image=view,
    )


def explain_worst(
    scorer: I0TScorer,
    result: Result,
    count: int,
    images: Sequence[ImageInput],
    references: Sequence[Sequence[str] | None] | None = None,
    *,
    faithfulness: bool = True,
) -> Result:
    """Return a result with explanations of the samples with the lowest scores of its first metric.

    Args:
        scorer: A scorer with the same settings and fixed statistics.
        result: Scores of captions.
        count: Number of samples to explain; those without a score are left out.
        images: The image of each sample.
        references: The references of each sample, or None.
        faithfulness: As for ``explain``.
    """
    values = next(iter(result.metrics.values())).values
    explanations = {}
    for i in np.argsort(values, kind="stable")[: min(count, int((~np.isnan(values)).sum()))].tolist():
        own = None if references is None else references[i]
        context = (result.contexts[i] or "") if result.contexts else None
        found = explain_pair(scorer, images[i], result.captions[i], own, context=context, faithfulness=faithfulness)
        explanations[i] = replace(found, sample=replace(found.sample, id=result.ids[i]))
    return replace(result, explanations=explanations)


def map_regions(
    scorer: I0TScorer, image: Image.Image, text: str, *, metric: str | Metric = "I0TScore", local: bool = True
) -> RegionMap:
    """Return where an image supports a text.

    Args:
        scorer: Computes the similarities.
        image: An RGB image.
        text: A text without prefix.
        metric: A metric without references.
        local: Whether to use embeddings of locations if the encoder has them.
    """
    encoder = scorer.encoder
    if local and isinstance(encoder, LocalEncoder) and encoder.location_grid is not None:
        vectors = encoder.encode_locations(encoder.preprocess(image)[None])[0].cpu().numpy()
        values = scorer.similarity(vectors, [text], metric=metric).reshape(encoder.location_grid)
        left, top, right, bottom = box = encoder.location_box(image.size)
        aspect = (right - left) * image.width / ((bottom - top) * image.height)
        return RegionMap(text, values, "local", box, aspect)
    masks = windows()
    images = Hidden(image, [np.zeros_like(masks[0]), *masks])
    full, *hidden = scorer.similarity(images, [text], metric=metric)[:, 0]
    return RegionMap(text, occlusion_values(full, np.array(hidden)), aspect=image.width / image.height)


def _check(image: Any, texts: Sequence[Any]) -> None:
    """Check that the arguments are not embeddings and that the texts can be scored."""
    for item in (image, *texts):
        array = as_numpy(item)
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.ndim < 3:
            raise InputError("Expected an image and texts, got an embedding. Give the image and the texts.")
    for text in texts:
        if problem := caption_problem(text):
            raise InputError(f"Cannot explain {text!r}: {problem}")


def _units(caption: str, sentence: int | None) -> tuple[Literal["words", "sentences"], list[Unit], list[str]]:
    """Return what a caption is split into, the units, and notes."""
    words, sentences = split_words(caption), split_sentences(caption)
    if not words:
        raise InputError(f"Expected a caption with words, got {caption!r}.")
    if sentence is not None:
        if not 1 <= sentence <= len(sentences):
            raise UsageError(f"Expected a sentence from 1 to {len(sentences)}, got {sentence}.")
        chosen = sentences[sentence - 1]
        return "words", [word for word in words if chosen.start <= word.start < chosen.end], []
    if len(words) <= LONG:
        return "words", words, []
    notes = [
        f"Captions of more than {LONG} words are explained by sentence. To explain the words of sentence N, use "
        "sentence=N (--sentence N)."
    ]
    if len(sentences) > MAX_UNITS:
        notes.append(f"Only the first {MAX_UNITS} of {len(sentences)} sentences are explained.")
    return "sentences", sentences[:MAX_UNITS], notes


class _Pair:
    """One image and caption, and the scores of variants of them."""

    def __init__(
        self,
        scorer: I0TScorer,
        source: ImageInput,
        caption: str,
        references: list[str] | None,
        context: str | None,
    ) -> None:
        self.metric = scorer.metrics_for(references is not None, context is not None)[0]
        if self.metric.needs_statistics and scorer.statistics is None:
            raise StatisticsError(
                f"{self.metric} of one caption needs fixed statistics. Use builtin, if they are shipped for the model, "
                "or a file from `i0tscore fit`: statistics=FILE (--statistics FILE)."
            )
        # The similarity itself: Ref- metrics have no regions, and clipping would hide what is below 0.
        self.similarity = Metric("I0TScore", self.metric.standardizer)
        self.scorer, self.caption, self.references, self.context = scorer, caption, references, context
        self.image = decode(source)
        run = scorer.encode([source], [caption], *self._columns(1))
        self.result, self.vector = scorer.evaluate(run), run.images[:]

    def _columns(self, n: int) -> tuple[list[list[str]] | None, None, list[str] | None]:
        """Return the references, ids, and contexts of n captions of the image, as arguments of the scorer."""
        references = None if self.references is None else [self.references] * n
        return references, None, None if self.context is None else [self.context] * n

    @property
    def score(self) -> float:
        """The score of the caption; NaN if undefined."""
        return float(self.result[str(self.metric)].values[0])

    def score_captions(self, captions: Sequence[str]) -> NDArray[np.float64]:
        """Return the scores (n,) of captions of the image; NaN for those without words."""
        scores = np.full(len(captions), np.nan)
        rows = [row for row, caption in enumerate(captions) if split_words(caption)]
        if rows:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # on long captions, already given for the whole caption
                images = self.vector.repeat(len(rows), axis=0)
                result = self.scorer.score(images, [captions[row] for row in rows], *self._columns(len(rows)))
            scores[rows] = result[str(self.metric)].values
        return scores

    def effects(self, units: Sequence[Unit]) -> list[float | None]:
        """Return the score of the caption minus that without each unit; None where undefined."""
        differences = self.score - self.score_captions([without(self.caption, [unit]) for unit in units])
        return [None if np.isnan(difference) else difference for difference in differences.tolist()]

    def regions(self, text: str) -> RegionMap | None:
        """Return where the image supports a text; None if the similarity is undefined."""
        found = map_regions(self.scorer, self.image, text, metric=self.similarity)
        return None if np.isnan(found.values).any() else found

    def nearest_references(self) -> tuple[NearestReference, ...]:
        """Return the references with their similarity to the caption, the nearest first."""
        if not self.references or self.metric.standardizer.spec.cross_modal_only:
            return ()
        kinds: Any = ("caption", "caption")
        values = self.scorer.similarity([self.caption], self.references, kinds=kinds, metric=self.similarity)[0]
        return tuple(
            NearestReference(self.references[row], None if np.isnan(values[row]) else float(values[row]))
            for row in np.argsort(-values, kind="stable")
        )

    def delete_units(self, units: Sequence[Unit], effects: Sequence[float | None]) -> Deletion | None:
        """Return how the score falls when units are removed; None with fewer than three, or if it is undefined."""
        if len(units) < 3 or None in effects:
            return None
        values, generator = np.array(effects, dtype=np.float64), np.random.default_rng(_SEED)
        orders = [values, *(generator.permutation(values) for _ in range(_ORDERS))]
        steps = np.unique(np.linspace(1, len(units) - 1, min(len(units) - 1, _ORDERS)).round().astype(int))
        parts = [np.argsort(-order, kind="stable")[:step] for order in orders for step in steps]
        scores = self.score_captions([without(self.caption, [units[i] for i in part]) for part in parts])
        return _deletion(self.score, scores.reshape(len(orders), -1))

    def delete_regions(self, regions: RegionMap) -> Deletion | None:
        """Return how the similarity falls when cells are hidden."""
        generator = np.random.default_rng(_SEED)
        orders = [regions.values, *(moved(regions.values, generator) for _ in range(_ORDERS))]
        steps = np.unique(np.ceil(np.array(_STEPS) * regions.values.size).astype(int))
        masks = [largest(order, step) for order in orders for step in steps]
        images = Hidden(self.image, [np.zeros_like(masks[0]), *masks], regions.box)
        full, *scores = self.scorer.similarity(images, [regions.text], metric=self.similarity)[:, 0]
        return _deletion(full, np.reshape(scores, (len(orders), -1)))


def _deletion(full: float, scores: NDArray[np.float64]) -> Deletion | None:
    """Compare the scores (orders, steps) of the first order with those of the others; None if one is undefined."""
    by_effect, *others = scores.mean(axis=1).tolist()
    if np.isnan([by_effect, *others]).any():
        return None
    beaten = sum(other > by_effect for other in others)
    return Deletion(float(full), by_effect, float(np.mean(others)), beaten, len(others))
