"""The scorer: images and captions in, a result out."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders import DEFAULT_MODEL
from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.encoded import EncodedRun
from i0tscore.errors import InputError, NothingToScoreError, StatisticsError, UsageError
from i0tscore.gap import Statistics
from i0tscore.gap.standardizers import Modality
from i0tscore.metrics.evaluate import evaluate
from i0tscore.metrics.metric import PRESETS, Metric, parse_metrics
from i0tscore.metrics.statistics_choice import choose_statistics, fixed_statistics, run_statistics
from i0tscore.results import Resampling, Result
from i0tscore.results.signature import SignatureFields

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.encoders.long_captions import LongCaptions


class I0TScorer:
    """Scores captions, at once with ``score`` or in a loop with ``update``, ``compute``, ``reset``.

    Args:
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``.
        weights: A file to use instead of the hub's.
        statistics: ``auto``, ``builtin``, ``batch``, a file, or ``Statistics``. ``auto`` takes those
            shipped for the model, else the samples' own if there are at least 32.
        metrics: Names or values; None for those of the preset.
        preset: ``paper``, ``torchmetrics`` or ``raw``: metrics and caption prefix.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        device: ``auto``, ``cpu``, ``cuda``, …
        batch_size: Images or captions encoded at once.
        workers: Threads that decode images.
        long_captions: ``truncate``, ``split`` or ``error``.
        on_error: ``raise``, or ``skip`` to leave out images that cannot be read.
        cache_dir: Folder of the embedding cache; None for none.
        offline: Never ask a hub.
        confidence: Coverage of the intervals.
        resamples: Bootstrap resamples; 0 for no intervals.
        seed: Of the bootstrap.
        ranks: Rank each caption among all of the run for its image, which takes time quadratic in n.
        progress: Show progress on stderr.

    Example:
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
        weights: str | Path | None = None,
        statistics: str | Path | Statistics = "auto",
        metrics: Sequence[str | Metric] | str | None = None,
        preset: str = "paper",
        precision: str = "fp32",
        device: str = "auto",
        batch_size: int = 32,
        workers: int = 2,
        long_captions: LongCaptions = "truncate",
        on_error: str = "raise",
        cache_dir: str | Path | None = None,
        offline: bool = False,
        confidence: float = 0.95,
        resamples: int = 1000,
        seed: int = 12345,
        ranks: bool = True,
        progress: bool = False,
    ) -> None:
        if preset not in PRESETS:
            raise UsageError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
        if batch_size < 1 or workers < 1:
            raise UsageError("batch_size and workers must be at least 1")
        self._preset = PRESETS[preset]
        self._metrics = None if metrics is None else parse_metrics(metrics)
        self._statistics = statistics
        self._resampling, self._ranks = Resampling(confidence, resamples, seed), ranks
        self._encoder = RunEncoder(
            model,
            prefix=self._preset.prefix,
            weights=weights,
            precision=precision,
            device=device,
            offline=offline,
            batch_size=batch_size,
            workers=workers,
            long_captions=long_captions,
            on_error=on_error,
            cache_dir=cache_dir,
            progress=progress,
        )
        self._runs: list[EncodedRun] = []

    def score(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Sequence[str] | str] | None = None,
        ids: Iterable[str] | None = None,
    ) -> Result:
        """Score captions, each against the image of the same position.

        Args:
            images: Paths, PIL images, uint8 arrays or tensors (H, W, 3) or (3, H, W); or embeddings,
                one float array (n, d). Sequences and generators are taken; an image that occurs several
                times is encoded once.
            captions: Strings, without prefix; or embeddings (n, d).
            references: For each caption a string or a list of strings.
            ids: Names of the samples; image stems or positions if left out.

        Raises:
            InputError: Lengths differ, an image cannot be read, a caption is empty or not a string.
            StatisticsError: No statistics, and too few samples for their own.
        """
        return self.evaluate(self.encode(images, captions, references, ids))

    def encode(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Sequence[str] | str] | None = None,
        ids: Iterable[str] | None = None,
    ) -> EncodedRun:
        """The first half of ``score``, for callers that keep or join embeddings; arguments as there."""
        return EncodedRun.concat(list(self._encoder.runs(images, captions, references, ids)))

    def update(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Sequence[str] | str] | None = None,
        ids: Iterable[str] | None = None,
    ) -> None:
        """Encode more samples and keep their embeddings until ``compute``; arguments as for ``score``."""
        start = sum(run.n + len(run.skipped) for run in self._runs)
        self._runs.extend(self._encoder.runs(images, captions, references, ids, start=start))

    def compute(self) -> Result:
        """Score everything since the last ``reset``; an ``InputError`` if nothing was added."""
        if not self._runs:
            raise InputError("nothing to compute: call update(images, captions) first")
        self._runs = [EncodedRun.concat(self._runs)]
        return self.evaluate(self._runs[0])

    def reset(self) -> None:
        """Forget all samples."""
        self._runs = []

    def similarity(
        self,
        first: Iterable[Any],
        second: Iterable[Any],
        *,
        kinds: tuple[Modality, Modality] = ("image", "caption"),
        metric: str | Metric = "I0TScore",
    ) -> NDArray[np.float64]:
        """Similarity of everything with everything, on one scale across and within modalities.

        Args:
            first: M images or captions, as for ``score``.
            second: N images or captions.
            kinds: What the two are, each ``image`` or ``caption``.
            metric: A metric without references.

        Returns:
            Shape (M, N), float64.

        Raises:
            StatisticsError: The metric needs fixed statistics.
            UsageError: The metric needs references, or says nothing within a modality.
        """
        (chosen,) = parse_metrics(metric)
        if chosen.needs_references:
            raise UsageError(f"{chosen} needs references. Use a metric without.")
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
        images: Iterable[Any],
        captions: Iterable[Any],
        *,
        name: str = "fitted",
        source: str = "",
        reference: bool = True,
    ) -> Statistics:
        """Fit reference statistics; each sample counts once, so that shards can be fitted and merged.

        Args:
            images: As for ``score``; ``captions``, too, right ones only.
            captions: See ``images``.
            name: Short name, shown in signatures.
            source: What the data are, in words.
            reference: Whether to keep the score distributions that percentiles and p_match need.
        """
        run = self.encode(images, captions)
        if not run.n:
            raise InputError("no samples to fit statistics to")
        if run.skipped:
            first = f"{run.skipped[0].id}: {run.skipped[0].reason}"
            warnings.warn(f"{len(run.skipped)} samples left out, first {first}", UserWarning, stacklevel=2)
        statistics = run_statistics(run, self._encoder.used_fingerprint, self._preset.prefix, name=name, source=source)
        return statistics.with_reference(*run.pairs, run.image_index) if reference else statistics

    @property
    def statistics(self) -> Statistics | None:
        """The fixed statistics in use; None where each run has its own."""
        return fixed_statistics(self._statistics, self._encoder.fingerprint, self._preset.prefix)

    def evaluate(self, run: EncodedRun) -> Result:
        """The second half of ``score``, with the same errors: the metrics of samples that are encoded."""
        if not run.n:
            raise NothingToScoreError("Nothing to score: every sample was skipped.")
        metrics = self._metrics or parse_metrics(self._preset.choose(run.references is not None))
        if run.references is None and any(m.needs_references for m in metrics):
            names = ", ".join(str(m) for m in metrics if m.needs_references)
            raise InputError(f"{names} needs references for every caption, and none were given")
        statistics, notes = choose_statistics(
            self._statistics, self._encoder.used_fingerprint, self._preset.prefix, run, metrics
        )
        fields = self._encoder.signature_fields, self._encoder.encoding_fields
        settings = SignatureFields(*fields, self._resampling, self._ranks)
        return evaluate(run, metrics, statistics, settings, notes=notes)
