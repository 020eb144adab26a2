"""I0TScore and CLIPScore as metrics of torchmetrics, for training and evaluation loops.

Every batch is encoded once, without gradients, also by ``forward``. Means need no more state than sums, which
torchmetrics adds up over processes; the encoder is no sub-module, so no ``state_dict`` holds it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch

from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import MissingExtraError, UsageError
from i0tscore.integrations.backbone import Backbone
from i0tscore.metrics.evaluate import NO_DIRECTION
from i0tscore.metrics.metric import Metric as Formula
from i0tscore.metrics.metric import parse_metrics
from i0tscore.metrics.scorer import I0TScorer

try:
    from torchmetrics import Metric
    from torchmetrics.utilities import dim_zero_cat
except ModuleNotFoundError as error:
    raise MissingExtraError("torchmetrics", "torchmetrics", "i0tscore.integrations.torchmetrics") from error

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics

SCORER_OPTIONS = ("preset", "batch_size", "workers", "long_captions", "on_error", "cache_dir")
"""What is passed on to ``I0TScorer``."""


class CaptionScores(Metric):  # type: ignore[misc]
    """Several metrics of captions from one encoding, as a dictionary.

    Args:
        metrics: Names as ``I0TScorer`` takes them, ``RefI0TScore`` and ``DNScore`` among them.
        model: ``lite``, ``arch/tag`` of open_clip, or an ``Encoder``, which moves with the metric if it
            has a method ``to(device)``. Metrics that name the same model share one.
        statistics: Fixed ones, so that a batch's score does not depend on its company: ``builtin``, a
            file or ``Statistics``. ``batch`` takes the means of everything since the last ``reset``:
            then all embeddings are kept, 8·d bytes a sample, and gathered from all processes.
        per_sample: Return the score of every sample instead of the mean; they are kept and gathered.
        weights, precision, offline: As for ``I0TScorer``.
        **options: ``preset``, ``batch_size``, ``workers``, ``long_captions``, ``on_error`` and ``cache_dir``
            of ``I0TScorer``, and what any metric of torchmetrics takes.

    Raises:
        UsageError: An unknown metric or option value, or statistics that are not fixed.

    Example:
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
        weights: str | Path | None = None,
        precision: str = "fp32",
        offline: bool = False,
        **options: Any,
    ) -> None:
        settings = {name: options.pop(name) for name in SCORER_OPTIONS if name in options}
        super().__init__(**options)
        self._formulas = parse_metrics(metrics)
        needy = [str(formula) for formula in self._formulas if formula.needs_statistics]
        if needy and statistics == "auto":
            raise UsageError(
                f'statistics="auto" may take each batch\'s own, and {needy[0]} of two batches could not be '
                'compared; choose "builtin", a file, or "batch" for that of everything since reset()'
            )
        self._from_batch = bool(needy) and statistics == "batch"
        self._per_sample = per_sample
        self._settings = {
            "statistics": statistics if needy else "batch",
            "metrics": self._formulas,
            "resamples": 0,
            "ranks": False,
            **settings,
        }
        self._backbone = Backbone(model, weights=weights, precision=precision, offline=offline)
        self._scorer: I0TScorer | None = None
        self._add_states()

    def _add_states(self) -> None:
        # Kept rows are flat: a process without samples has an empty flat tensor to gather, of no width.
        if self._from_batch:
            self.add_state("embeddings", [], dist_reduce_fx="cat")
            self.add_state("width", torch.tensor(1), dist_reduce_fx="max")
        elif self._per_sample:
            self.add_state("values", [], dist_reduce_fx="cat")
        else:
            count = len(self._formulas)
            self.add_state("sums", torch.zeros(count), dist_reduce_fx="sum")
            self.add_state("defined", torch.zeros(count, dtype=torch.int64), dist_reduce_fx="sum")
            self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")
        # A MetricCollection takes metrics whose states are alike after one batch for one metric. Those that
        # may differ later (clipped or not, long captions cut or split) differ by the name of this state.
        made = self._settings.get("long_captions"), *([] if self._from_batch else map(str, self._formulas))
        self.add_state(f"made_{crc32(repr(made).encode()):08x}", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Sequence[str] | str] | None = None,
    ) -> None:
        """Encode and score a batch.

        Args:
            images: As for ``I0TScorer.score``, e.g. a uint8 tensor (N, 3, H, W), uint8 tensors
                (3, H, W), PIL images or paths.
            captions: N strings, without prefix.
            references: For Ref- metrics: for each caption a string or a list of strings.

        Raises:
            InputError: Lengths differ, or (``on_error="skip"`` warns instead) a sample cannot be scored.
            StatisticsError: No statistics are shipped for the model, or they are of another one.
        """
        if references is not None and self._from_batch:
            raise UsageError('references go with fixed statistics: statistics="batch" keeps pairs only')
        scorer = self._ready()
        with torch.inference_mode():
            run = scorer.encode(images, captions, references)
        if count := len(run.skipped):
            first = f"first {run.skipped[0].id}: {run.skipped[0].reason}"
            warnings.warn(f"{count} of {run.n + count} samples of a batch left out, {first}", stacklevel=2)
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
        """Mean scores of the samples since the last reset, over all processes; or every score.

        Returns:
            For each metric's name a float32 tensor, a scalar or with ``per_sample`` (n,), process after
            process. It is NaN, with a warning that says why, where no score is defined: when an
            embedding equals its reference mean, as all captions of a collapsed captioner do under
            ``statistics="batch"``.
        """
        if self._from_batch or self._per_sample:
            values = self._kept()
            means, defined, total = values.nanmean(dim=0), (~values.isnan()).sum(dim=0), len(values)
        else:
            values, defined, total = None, self.defined, int(self.total)
            means = self.sums / defined
        for formula, count in zip(self._formulas, defined.tolist(), strict=True):
            if count < total:
                message = f"{formula}: {total - count} of {total} samples have {NO_DIRECTION}"
                warnings.warn(message, UserWarning, stacklevel=2)
        columns = values.T if values is not None and self._per_sample else means
        return {str(formula): column for formula, column in zip(self._formulas, columns, strict=True)}

    def _kept(self) -> torch.Tensor:
        """The scores of all samples kept, (n, number of metrics)."""
        state = self.embeddings if self._from_batch else self.values
        rows = dim_zero_cat(state) if len(state) else torch.zeros(0, device=self.device)
        if not self._from_batch or not len(rows):
            return rows.reshape(-1, len(self._formulas))
        images, captions = rows.reshape(-1, 2 * int(self.width)).chunk(2, dim=1)
        result = self._ready().score(images, captions)
        columns = [torch.from_numpy(metric.values) for metric in result.values()]
        return torch.stack(columns, dim=1).float().to(self.device)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot one result or a list of them with matplotlib; returns the figure and its axes."""
        return self._plot(val, ax)

    def _ready(self) -> I0TScorer:
        encoder = self._backbone.on(self.device)
        self._scorer = self._scorer or I0TScorer(encoder, **self._settings)
        return self._scorer

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_scorer": None}


class _OneScore(CaptionScores):
    """One metric, as a tensor; ``_metric`` is its name."""

    _metric: str

    def __init__(self, model: str | Encoder = DEFAULT_MODEL, **options: Any) -> None:
        super().__init__(self._metric, model, **options)

    def compute(self) -> torch.Tensor:
        """The one value of ``CaptionScores.compute``: a scalar, or with ``per_sample`` (n,)."""
        return super().compute()[self._metric]  # type: ignore[no-any-return]


class I0TScore(_OneScore):
    """I0TScore (An et al. 2025), in [-1, 1]; the arguments are those of ``CaptionScores``.

    Example:
        >>> metric = I0TScore("lite")
        >>> images = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
        >>> batch_score = metric(images, ["an empty white page"])
        >>> metric.compute() == batch_score
        tensor(True)
    """

    _metric = "I0TScore"
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0


class CLIPScore(_OneScore):
    """CLIPScore (Hessel et al. 2021), in [0, 2.5]; the arguments are those of ``CaptionScores``.

    It needs no statistics. Unlike the metric of this name in torchmetrics it is the paper's: with its
    prefix, each sample clipped at 0, and captions over the context length cut before their end token.
    """

    _metric = "CLIPScore"
    plot_lower_bound = 0.0
    plot_upper_bound = 2.5
