"""I0TScore and CLIPScore as torchmetrics metrics, for training and evaluation loops.

Each batch is encoded once, without gradients, also in ``forward``. The state of a mean is a sum, which torchmetrics
reduces over processes. The encoder is not a submodule, so no ``state_dict`` contains it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary
from zlib import crc32

import torch

from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.options import DEFAULT_MODEL, EncodeOptions
from i0tscore.errors import MissingExtraError, UsageError
from i0tscore.metrics.evaluate import NO_DIRECTION
from i0tscore.metrics.metric import PREFIX, parse_metrics
from i0tscore.metrics.metric import Metric as Formula
from i0tscore.metrics.scorer import I0TScorer

try:
    from torchmetrics import Metric
    from torchmetrics.utilities import dim_zero_cat
except ModuleNotFoundError as error:
    raise MissingExtraError("torchmetrics", "torchmetrics", "i0tscore.integrations.torchmetrics") from error

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics

ENCODING = tuple(field.name for field in fields(EncodeOptions) if field.name not in ("model", "device"))
"""Fields of ``EncodeOptions`` that a metric accepts; its device is set by ``to``."""

_LOADED: WeakValueDictionary[tuple[Any, ...], Encoder] = WeakValueDictionary()


class _SharedEncoder:
    """An encoder that is loaded at first use, once for all metrics with the same options.

    A deep copy shares it. A pickle contains the name of the model, or the ``Encoder`` that was given.
    """

    def __init__(self, options: EncodeOptions) -> None:
        self._options = options
        self._encoder: Encoder | None = None if isinstance(options.model, str) else options.model

    def on(self, device: torch.device) -> Encoder:
        """Return the encoder, moved to a device if it has a method ``to``."""
        if self._encoder is None:
            given = self._options
            key = given.model, given.weights, given.precision, given.offline
            self._encoder = _LOADED.get(key) or RunEncoder(replace(given, device=str(device)), PREFIX).encoder
            _LOADED[key] = self._encoder
        move = getattr(self._encoder, "to", None)
        if move is not None:
            move(device)
        return self._encoder

    def __deepcopy__(self, memo: dict[int, Any]) -> _SharedEncoder:
        return self

    def __getstate__(self) -> dict[str, Any]:
        model = self._options.model
        return {"_options": self._options, "_encoder": None if isinstance(model, str) else model}


class CaptionScores(Metric):  # type: ignore[misc]
    """Several caption metrics from one encoding, as a dictionary.

    Args:
        metrics: Names as for ``I0TScorer``, including ``RefI0TScore`` and ``DNScore``.
        model: ``lite``, an open_clip model as ``architecture/tag``, or an ``Encoder``, which moves with the metric if
            it has a method ``to(device)``. Metrics with the same model share it.
        statistics: Fixed statistics, so that scores do not depend on the batch: ``builtin``, a file, or
            ``Statistics``. ``batch`` computes them from all samples since the last ``reset``; then all embeddings are
            kept, 8·d bytes per sample, and gathered from all processes.
        per_sample: Whether to return the score of every sample instead of the mean. Scores are kept and gathered.
        preset: As for ``I0TScorer``.
        **options: Fields of ``EncodeOptions`` besides ``device``, and options of any torchmetrics metric.

    Raises:
        UsageError: A metric or option value is unknown, or ``statistics`` is ``auto``.

    Examples:
        >>> metric = CaptionScores(("I0TScore", "CLIPScore"), model="lite")
        >>> images = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
        >>> metric.update(images, ["an empty white page"])
        >>> sorted(metric.compute())
        ['CLIPScore', 'I0TScore']
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False

    sums: torch.Tensor
    defined: torch.Tensor
    total: torch.Tensor

    def __init__(
        self,
        metrics: Sequence[str | Formula] | str = ("I0TScore", "CLIPScore"),
        model: str | Encoder = DEFAULT_MODEL,
        *,
        statistics: str | Path | Statistics = "builtin",
        per_sample: bool = False,
        preset: str = "paper",
        **options: Any,
    ) -> None:
        encoding = {name: options.pop(name) for name in ENCODING if name in options}
        super().__init__(**options)
        self._formulas = parse_metrics(metrics)
        needing = [str(formula) for formula in self._formulas if formula.needs_statistics]
        if needing and statistics == "auto":
            raise UsageError(
                f'With statistics="auto", each batch may use different statistics, so {needing[0]} is not comparable '
                'across batches. Use "builtin", a file, or "batch" (all samples since reset()).'
            )
        self._from_batch = bool(needing) and statistics == "batch"
        self._per_sample = per_sample
        self._encoder = _SharedEncoder(EncodeOptions.of({"model": model, **encoding}))
        self._scorer: I0TScorer | None = None
        self._scorer_options = {
            "statistics": statistics if needing else "batch",
            "metrics": self._formulas,
            "preset": preset,
            "resamples": 0,
            "ranks": False,
            **encoding,
        }
        # Embeddings and scores are flat: a process without samples gathers an empty tensor of unknown width.
        if self._from_batch:
            self.add_state("embeddings", [], dist_reduce_fx="cat")
            self.add_state("width", torch.tensor(1), dist_reduce_fx="max")
        elif per_sample:
            self.add_state("values", [], dist_reduce_fx="cat")
        else:
            count = len(self._formulas)
            self.add_state("sums", torch.zeros(count), dist_reduce_fx="sum")
            self.add_state("defined", torch.zeros(count, dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")
        # A MetricCollection merges metrics whose states are equal after one batch. The name of this state
        # distinguishes those that may differ later: clipped or not, long captions truncated or split.
        variant = encoding.get("long_captions"), *([] if self._from_batch else map(str, self._formulas))
        self.add_state(f"variant_{crc32(repr(variant).encode()):08x}", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Sequence[str] | str] | None = None,
    ) -> None:
        """Encode and score a batch.

        Args:
            images: As for ``I0TScorer.score``, e.g. a uint8 tensor (N, 3, H, W), uint8 tensors (3, H, W), PIL images,
                or paths.
            captions: N strings, without prefix.
            references: For metrics with references: for each caption a string or a list of strings.

        Raises:
            InputError: Lengths differ, or a sample cannot be scored (with ``on_error="skip"`` this is a warning).
            StatisticsError: No statistics are shipped for the model, or they belong to another one.
        """
        if references is not None and self._from_batch:
            raise UsageError('References need fixed statistics, since statistics="batch" keeps only pairs.')
        scorer = self._ready()
        with torch.inference_mode():
            run = scorer.encode(images, captions, references)
        if count := len(run.skipped):
            first = f"First: {run.skipped[0].id}: {run.skipped[0].reason}"
            warnings.warn(f"Skipped {count} of {run.n + count} samples of a batch. {first}", stacklevel=2)
        if not run.n:
            return
        if self._from_batch:
            pairs = torch.from_numpy(run.pairs[0]), torch.from_numpy(run.pairs[1])
            self.width = torch.tensor(pairs[0].shape[1], device=self.device)
            self.embeddings.append(torch.cat(pairs, dim=1).flatten().to(self.device))
            return
        result = scorer.evaluate(run)
        values = torch.stack([torch.from_numpy(metric.values) for metric in result.values()], dim=1)
        if self._per_sample:
            self.values.append(values.float().flatten().to(self.device))
            return
        self.sums = self.sums + values.nansum(dim=0).to(self.sums)
        self.defined = self.defined + (~values.isnan()).sum(dim=0).to(self.device)
        self.total = self.total + len(values)

    def compute(self) -> Any:
        """Compute mean scores of the samples since the last reset, over all processes, or return every score.

        Returns:
            For each metric's name a float32 tensor, a scalar or with ``per_sample`` (n,), in the order of the
            processes. It is NaN, with a warning that gives the reason, where no score is defined: if an embedding
            equals its reference mean, as with identical captions for all images under ``statistics="batch"``.
        """
        values = None
        if self._from_batch or self._per_sample:
            values = self._gathered_scores()
            means, defined, total = values.nanmean(dim=0), (~values.isnan()).sum(dim=0), len(values)
        else:
            defined, total = self.defined, int(self.total)
            means = self.sums / defined
        for formula, count in zip(self._formulas, defined.tolist(), strict=True):
            if count < total:
                message = f"{formula}: {total - count} of {total} samples have {NO_DIRECTION}"
                warnings.warn(message, UserWarning, stacklevel=2)
        columns = values.T if values is not None and self._per_sample else means
        return {str(formula): column for formula, column in zip(self._formulas, columns, strict=True)}

    def _gathered_scores(self) -> torch.Tensor:
        """Return the scores of all samples (n, number of metrics)."""
        state = self.embeddings if self._from_batch else self.values
        rows = dim_zero_cat(state) if len(state) else torch.zeros(0, device=self.device)
        if not self._from_batch or not len(rows):
            return rows.reshape(-1, len(self._formulas))
        images, captions = rows.reshape(-1, 2 * int(self.width)).chunk(2, dim=1)
        result = self._ready().score(images, captions)
        columns = [torch.from_numpy(metric.values) for metric in result.values()]
        return torch.stack(columns, dim=1).float().to(self.device)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot one result or a list of results with matplotlib; returns the figure and its axes."""
        return self._plot(val, ax)

    def _ready(self) -> I0TScorer:
        """Return the scorer, with the encoder on the metric's device."""
        encoder = self._encoder.on(self.device)
        self._scorer = self._scorer or I0TScorer(encoder, **self._scorer_options)
        return self._scorer

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_scorer": None}


class _SingleScore(CaptionScores):
    """One metric, as a tensor; ``_metric`` is its name."""

    _metric: str

    def __init__(self, model: str | Encoder = DEFAULT_MODEL, **options: Any) -> None:
        super().__init__(self._metric, model, **options)

    def compute(self) -> torch.Tensor:
        """Return the value of ``CaptionScores.compute``: a scalar, or with ``per_sample`` (n,)."""
        return super().compute()[self._metric]  # type: ignore[no-any-return]


class I0TScore(_SingleScore):
    """I0TScore (An et al. 2025), in [-1, 1]; see ``CaptionScores`` for the arguments.

    Examples:
        >>> metric = I0TScore("lite")
        >>> images = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
        >>> batch_score = metric(images, ["an empty white page"])
        >>> metric.compute() == batch_score
        tensor(True)
    """

    _metric = "I0TScore"
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0


class CLIPScore(_SingleScore):
    """CLIPScore (Hessel et al. 2021), in [0, 2.5]; see ``CaptionScores`` for the arguments.

    Needs no statistics. Unlike the torchmetrics metric of this name, it follows the paper: it adds the prefix, clips
    each sample at 0, and truncates captions over the context length before their end token.
    """

    _metric = "CLIPScore"
    plot_lower_bound = 0.0
    plot_upper_bound = 2.5
