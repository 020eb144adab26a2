"""The scorer, and functions that score in one call: images and captions in, a result out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encode import EncodedRun, RunEncoder, as_embeddings
from i0tscore.encoders.options import DEFAULT_MODEL, EncodeOptions
from i0tscore.errors import InputError, NothingToScoreError, StatisticsError, UsageError
from i0tscore.gap import Statistics
from i0tscore.gap.standardizers import COVARIANCE, HubnessBank, Modality
from i0tscore.metrics.evaluate import evaluate
from i0tscore.metrics.metric import PRESETS, Metric, parse_metrics
from i0tscore.metrics.statistics_choice import (
    WORDS,
    choose_statistics,
    fixed_statistics,
    load_statistics,
    run_statistics,
)
from i0tscore.results import Resampling, Result
from i0tscore.results.signature import SignatureFields

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder


# The arguments of ``I0TScorer.score``, which documents them. Items are images, captions, or embeddings.
Items = Iterable[Any]
References = Iterable[Sequence[str] | str] | None
Ids = Iterable[str] | None
Contexts = Iterable[Any] | None

_FEWEST_CONTEXTS = 2


class I0TScorer:
    """Scores captions, in one call with ``score`` or in a loop with ``update``, ``compute``, and ``reset``.

    Args:
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        statistics: ``auto``, ``builtin``, ``batch``, a file, or ``Statistics``. ``auto`` takes the statistics shipped
            for the model, or else per-run statistics if there are at least 32 images.
        metrics: Names or ``Metric`` values; None for the metrics of the preset.
        preset: ``paper``, ``torchmetrics``, or ``raw``: the default metrics and the caption prefix.
        confidence: Coverage of the intervals.
        resamples: Number of bootstrap resamples; 0 for no intervals.
        seed: Bootstrap seed.
        ranks: Whether to rank each caption among all captions of the run for its image. The time is quadratic in n;
            None to leave ranks out if there are more than 4 billion image–caption pairs.
        **encoding: The other fields of ``EncodeOptions``: ``weights``, ``precision``, ``device``, ``batch_size``,
            ``workers``, ``long_captions``, ``cache_dir``, ``offline``, ``on_error``, ``progress``.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> scorer = I0TScorer(statistics="batch")
        >>> result = scorer.score(rng.normal(size=(200, 8)), rng.normal(size=(200, 8)))
        >>> result.n, list(result)
        (200, ['I0TScore', 'CLIPScore'])
    """

    def __init__(
        self,
        model: str | Encoder = DEFAULT_MODEL,
        *,
        statistics: str | Path | Statistics = "auto",
        metrics: Sequence[str | Metric] | str | None = None,
        preset: str = "paper",
        confidence: float = 0.95,
        resamples: int = 1000,
        seed: int = 12345,
        ranks: bool | None = None,
        **encoding: Any,
    ) -> None:
        if preset not in PRESETS:
            raise UsageError(f"Expected preset to be one of {', '.join(PRESETS)}, got {preset!r}.")
        self._preset = PRESETS[preset]
        self._metrics = None if metrics is None else parse_metrics(metrics)
        # Read now: a wrong file should not be found out only after encoding.
        self._statistics = statistics if statistics in WORDS else load_statistics(statistics)
        self._resampling, self._ranks = Resampling(confidence, resamples, seed), ranks
        self._encoder = RunEncoder(EncodeOptions.of({"model": model, **encoding}), self._preset.prefix)
        self._runs: list[EncodedRun] = []
        self._warned = False

    def score(
        self,
        images: Items,
        captions: Items,
        references: References = None,
        ids: Ids = None,
        contexts: Contexts = None,
    ) -> Result:
        """Score captions, each against the image at the same position.

        Each argument is a list, tuple, array, generator, or column (pandas, Arrow, or datasets), and is always taken by
        position, never by the labels of an index. A column of a dataset is read a few images at a time.

        Args:
            images: Paths, PIL images, uint8 arrays or tensors (H, W, 3) or (3, H, W); or embeddings, one float array
                (n, d). Repeated images are encoded once.
            captions: Strings without prefix, or embeddings (n, d).
            references: For each caption a string or a list of strings, or embeddings (k, d).
            ids: Ids of the samples. Default: image stems or positions.
            contexts: For each caption the text in which the image appears, such as an article or its title, without
                prefix; None or blank for none. Or embeddings (n, d).

        Raises:
            InputError: Lengths differ, an argument is a mapping, set, or table, an image cannot be read, or a caption
                or reference is missing (None or NaN), empty, or not a string.
            NothingToScoreError: Every sample was skipped.
            StatisticsError: A metric needs statistics, and there are too few samples for per-run statistics.
        """
        self.metrics_for(references is not None, contexts is not None)  # what is missing is found before encoding
        return self.evaluate(self.encode(images, captions, references, ids, contexts))

    def encode(
        self,
        images: Items,
        captions: Items,
        references: References = None,
        ids: Ids = None,
        contexts: Contexts = None,
    ) -> EncodedRun:
        """Encode samples for ``evaluate`` or ``fit_run``, for example to score them under several statistics.

        Args:
            images: As for ``score``.
            captions: As for ``score``.
            references: As for ``score``.
            ids: As for ``score``.
            contexts: As for ``score``.

        Raises:
            InputError: As for ``score``.
        """
        if self._statistics not in ("auto", "batch") and as_embeddings(images) is None:
            self.statistics  # noqa: B018  (wrong statistics are reported before encoding)
        return EncodedRun.concat(list(self._encoder.runs(images, captions, references, ids, contexts)))

    def update(
        self,
        images: Items,
        captions: Items,
        references: References = None,
        ids: Ids = None,
        contexts: Contexts = None,
    ) -> None:
        """Encode more samples, and keep their embeddings until ``reset``.

        Args:
            images: As for ``score``.
            captions: As for ``score``.
            references: As for ``score``; either all batches have references, or none has.
            ids: As for ``score``.
            contexts: As for ``score``.

        Raises:
            InputError: As for ``score``.
        """
        start = sum(run.n + len(run.skipped) for run in self._runs)
        self._runs.extend(self._encoder.runs(images, captions, references, ids, contexts, start=start))

    def compute(self) -> Result:
        """Score everything since the last ``reset``; raises as ``score``."""
        if not self._runs:
            raise InputError("Nothing to compute. Call update(images, captions) first.")
        self._runs = [EncodedRun.concat(self._runs)]
        return self.evaluate(self._runs[0])

    def reset(self) -> None:
        """Discard all samples."""
        self._runs = []

    def similarity(
        self,
        first: Items,
        second: Items,
        *,
        kinds: tuple[Modality, Modality] = ("image", "caption"),
        metric: str | Metric = "I0TScore",
    ) -> NDArray[np.float64]:
        """Compute similarities of all pairs, on one scale across and within modalities.

        Args:
            first: M images or captions, as for ``score``.
            second: N images or captions.
            kinds: Modality of each, ``image`` or ``caption``.
            metric: A metric without references or contexts.

        Returns:
            Shape (M, N), float64.

        Raises:
            StatisticsError: The metric needs fixed statistics.
            UsageError: The metric needs references or contexts, or is undefined within a modality.
        """
        (chosen,) = parse_metrics(metric)
        if chosen.needs_references or chosen.needs_context:
            raise UsageError(f"{chosen} needs references or contexts. Use a metric without.")
        if kinds[0] == kinds[1] and chosen.standardizer.spec.cross_modal_only:
            raise UsageError(f"{chosen} only compares images with captions, not {kinds[0]}s with {kinds[1]}s.")
        sides = [self._encoder.vectors(items, kind) for items, kind in zip((first, second), kinds, strict=True)]
        if chosen.needs_statistics:
            statistics = fixed_statistics(self._statistics, self._encoder.used_fingerprint, self._preset.prefix)
            if statistics is None:
                raise StatisticsError(
                    f"{chosen} of single items needs fixed statistics, and none are shipped for this encoder. "
                    "Fit some with `i0tscore fit` and pass statistics=FILE."
                )
            known = statistics.gap_statistics
            sides = [chosen.standardizer.apply(x, known, kind) for x, kind in zip(sides, kinds, strict=True)]
        return chosen.value(np.asarray(sides[0] @ sides[1].T, dtype=np.float64))

    def fit(
        self,
        images: Items,
        captions: Items,
        *,
        contexts: Contexts = None,
        name: str = "fitted",
        source: str = "",
        reference: bool = True,
    ) -> Statistics:
        """Fit reference statistics. Each sample counts once, so statistics of shards can be merged.

        Args:
            images: As for ``score``.
            captions: Matched captions, as for ``score``.
            contexts: As for ``score``, for the distributions of ContextI0TScore.
            name: Short name, shown in signatures.
            source: Description of the data.
            reference: Whether to include the score distributions that percentiles and p_match need.

        Raises:
            InputError: As for ``score``.
            NothingToScoreError: Every sample was skipped.
            StatisticsError: There are no two different images, or all images or all captions are alike.
        """
        run = self.encode(images, captions, contexts=contexts)
        statistics = self.fit_run(run, name=name, source=source, reference=reference)
        if run.skipped:
            first = f"{run.skipped[0].id}: {run.skipped[0].reason}"
            warnings.warn(f"Skipped {len(run.skipped)} samples. First: {first}", UserWarning, stacklevel=2)
        return statistics

    def fit_run(
        self, run: EncodedRun, *, name: str, source: str = "", reference: bool = True, bank_size: int = 0
    ) -> Statistics:
        """Fit reference statistics to samples from ``encode``, with arguments and errors as for ``fit``.

        ``bank_size`` is the number of images and captions to keep for ``nnn``; 0 for none.
        """
        if not run.n:
            raise NothingToScoreError("No samples to fit statistics to: every sample was skipped.")
        for note in run.notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        statistics = run_statistics(run, self._encoder.used_fingerprint, self._preset.prefix, name=name, source=source)
        if bank_size:
            statistics = statistics.with_fitted(bank=HubnessBank.sample(run.images, run.texts, bank_size))
        if not reference:
            return statistics
        contexts = None if run.contexts is None else (run.contexts.vectors, run.contexts.index)
        if contexts is not None and len(contexts[0]) < _FEWEST_CONTEXTS:
            note = f"Expected at least {_FEWEST_CONTEXTS} different contexts, got {len(contexts[0])}."
            warnings.warn(f"{note} Percentiles of ContextI0TScore will be null.", UserWarning, stacklevel=2)
            contexts = None
        return statistics.with_reference(*run.pairs, run.image_index, contexts=contexts)

    @property
    def statistics(self) -> Statistics | None:
        """The fixed statistics; None if each run has its own."""
        return fixed_statistics(self._statistics, self._encoder.fingerprint, self._preset.prefix)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded at first use."""
        return self._encoder.encoder

    @property
    def signature_fields(self) -> SignatureFields:
        """The settings that signatures and intervals depend on."""
        return SignatureFields(*self._encoder.signature_fields, self._resampling, self._ranks)

    def evaluate(self, run: EncodedRun) -> Result:
        """Compute the metrics of samples that ``encode`` encoded.

        Args:
            run: Encoded samples.

        Raises:
            NothingToScoreError: Every sample was skipped.
            StatisticsError: As for ``score``.
        """
        if not run.n:
            raise NothingToScoreError("Nothing to score: every sample was skipped.")
        metrics = self.metrics_for(run.references is not None, run.contexts is not None)
        statistics, notes = choose_statistics(
            self._statistics,
            self._encoder.used_fingerprint,
            self._preset.prefix,
            run,
            metrics,
            covariance=any(metric.standardizer.spec.need == COVARIANCE for metric in metrics),
        )
        result = evaluate(run, metrics, statistics, self.signature_fields, notes=notes)
        fit = result.statistics_fit
        if fit is not None and not fit.fits and not self._warned:  # once, since training loops evaluate every batch
            self._warned = True
            warnings.warn(fit.notes[-1], UserWarning, stacklevel=2)
        return result

    def metrics_for(self, references: bool, contexts: bool = False) -> tuple[Metric, ...]:
        """Return the metrics for input with or without references and contexts.

        Raises:
            InputError: A metric needs references or contexts and there are none.
        """
        metrics = self._metrics or parse_metrics(self._preset.choose(references, contexts))
        needing = [str(metric) for metric in metrics if metric.needs_references]
        if needing and not references:
            raise InputError(
                f"{', '.join(needing)} needs references for every caption, but none were given. Give them with "
                "--references FILE (references=), or leave the metric out."
            )
        needing = [str(metric) for metric in metrics if metric.needs_context]
        if needing and not contexts:
            raise InputError(
                f"{', '.join(needing)} needs contexts, but none were given. Add a column with the text in which each "
                "image appears (--context-column NAME, contexts=), or leave the metric out."
            )
        return metrics


def i0t_score(
    images: Items,
    captions: Items,
    references: References = None,
    *,
    model: str | Encoder = DEFAULT_MODEL,
    statistics: str | Path | Statistics = "auto",
    ids: Ids = None,
    contexts: Contexts = None,
    **options: Any,
) -> Result:
    """Compute I0TScore; with references also RefI0TScore, and with contexts ContextI0TScore.

    Args:
        images: As for ``I0TScorer.score``; embeddings (n, d) need no model.
        captions: As for ``I0TScorer.score``.
        references: For each caption a string or a list of strings.
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``.
        statistics: ``auto``, ``builtin``, ``batch``, a file, or ``Statistics``.
        ids: Ids of the samples.
        contexts: For each caption the text in which the image appears, or None.
        **options: Other options of ``I0TScorer``.

    Returns:
        ``result["I0TScore"].mean``, ``.interval``, ``.values``, ``.signature``; ``result.samples``.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(300, 16))
        >>> y = x + rng.normal(size=(300, 16))
        >>> result = i0t_score(x, y, statistics="batch")
        >>> round(result["I0TScore"].mean, 1)
        0.7
    """
    metrics = ["I0TScore", *["RefI0TScore"] * (references is not None), *["ContextI0TScore"] * (contexts is not None)]
    scorer = I0TScorer(model, statistics=statistics, **{"metrics": metrics, **options})
    return scorer.score(images, captions, references, ids, contexts)


def clip_score(
    images: Items,
    captions: Items,
    references: References = None,
    *,
    model: str | Encoder = DEFAULT_MODEL,
    statistics: str | Path | Statistics = "auto",
    ids: Ids = None,
    **options: Any,
) -> Result:
    """Compute CLIPScore (Hessel et al. 2021) and, if references are given, RefCLIPScore.

    Args:
        images: As for ``I0TScorer.score``.
        captions: As for ``I0TScorer.score``.
        references: As for ``I0TScorer.score``.
        model: As for ``I0TScorer``.
        statistics: As for ``I0TScorer``, but only used for the breakdown and the percentiles.
        ids: As for ``I0TScorer.score``.
        **options: Other options of ``I0TScorer``.

    Returns:
        The scores; ``result["CLIPScore"].mean`` is in [0, 2.5].

    Raises:
        InputError: As for ``I0TScorer.score``.

    Examples:
        >>> import numpy as np
        >>> result = clip_score(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]]))
        >>> round(result["CLIPScore"].mean, 3)
        1.5
    """
    metrics = ["CLIPScore"] if references is None else ["CLIPScore", "RefCLIPScore"]
    scorer = I0TScorer(model, statistics=statistics, **{"metrics": metrics, **options})
    return scorer.score(images, captions, references, ids)


def fit(
    images: Items,
    captions: Items,
    *,
    model: str | Encoder = DEFAULT_MODEL,
    contexts: Contexts = None,
    name: str = "fitted",
    source: str = "",
    **options: Any,
) -> Statistics:
    """Fit reference statistics to images with matched captions; ``.save("stats.safetensors")`` saves them.

    Args:
        images: Images like those to be scored, as for ``I0TScorer.score``; at least 500.
        captions: One matched caption per image.
        model: Encoder, as for ``I0TScorer``.
        contexts: As for ``I0TScorer.score``, for the distributions of ContextI0TScore.
        name: Short name, shown in signatures.
        source: Description of the data.
        **options: Other options of ``I0TScorer``, such as ``preset``.

    Returns:
        The statistics, with reference distributions for percentiles and ``p_match``.

    Raises:
        InputError: As for ``I0TScorer.score``.
        StatisticsError: There are no two different images, or all images or all captions are alike.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> fit(rng.normal(size=(50, 8)), rng.normal(size=(50, 8))).image.count
        50
    """
    return I0TScorer(model, **options).fit(images, captions, contexts=contexts, name=name, source=source)
