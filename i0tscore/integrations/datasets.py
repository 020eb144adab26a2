"""Scores as new columns of a Hugging Face data set, on disk or streamed.

from i0tscore.integrations.datasets import score_batch
dataset.map(score_batch, batched=True, batch_size=64, fn_kwargs={"model": "lite"})
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import NothingToScoreError, StatisticsError, UsageError
from i0tscore.integrations.huggingface import cached_scorer, from_cell, models_loaded, score_columns
from i0tscore.metrics.metric import PRESETS, Metric, parse_metrics

if TYPE_CHECKING:
    from pathlib import Path

    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics
    from i0tscore.metrics.scorer import I0TScorer


def score_batch(
    batch: Mapping[str, Any],
    *,
    model: str | Encoder = DEFAULT_MODEL,
    image: str = "image",
    caption: str = "caption",
    references: str | None = None,
    statistics: str | Path | Statistics = "auto",
    metrics: Sequence[str | Metric] | str | None = None,
    output: str = "{metric}",
    **options: Any,
) -> dict[str, list[Any]]:
    """Score the captions of a batch of rows, for ``Dataset.map`` with ``batched=True``.

    A row's score does not depend on the batch it is in, so statistics must be fixed ones.

    Args:
        batch: Columns by name, all of one length.
        model: As for ``I0TScorer``; each process loads it once.
        image: Column of images: decoded, undecoded (``Image(decode=False)``), paths or bytes.
        caption: Column of captions: strings, or lists of strings to be scored one by one.
        references: Column of references, a string or a list of strings a row; None for none.
        statistics: ``auto`` or ``builtin`` where some are shipped for the model, a file, or ``Statistics``.
        metrics: As for ``I0TScorer``; None for those of the preset.
        output: Names of the new columns, with ``{metric}`` in the place of the metric's name.
        **options: Anything else that ``I0TScorer`` takes; ``on_error="skip"`` gives None, with a warning, for
            rows that cannot be scored.

    Returns:
        A column a metric: floats, or lists of floats where the captions are lists; None where undefined.

    Raises:
        UsageError: A column is missing, or this is not a batch.
        StatisticsError: There are no fixed statistics.
        InputError: A row cannot be scored; it is named by its place in the batch.

    Example:
        >>> import numpy as np
        >>> rows = {"image": [np.zeros((9, 9, 3), dtype=np.uint8)], "caption": ["Night."]}
        >>> list(score_batch(rows, model="lite", metrics="CLIPScore", output="lite {metric}"))
        ['lite CLIPScore']
    """
    rows = [_column(batch, name) for name in (image, caption, references) if name is not None]
    scorer, chosen = _scorer(model, metrics, references is not None, statistics=statistics, **options)
    names = {str(metric): output.format(metric=metric) for metric in chosen}
    if len(set(names.values())) < len(names):
        raise UsageError(f"output={output!r} gives several columns one name; put {{metric}} into it")
    samples = {
        f"row {row}, caption {place}" if _several(cells[1]) else f"row {row}": (cells[0], text, *cells[2:])
        for row, cells in enumerate(zip(*rows, strict=True))
        for place, text in enumerate(cells[1] if _several(cells[1]) else [cells[1]])
    }
    scores = _score(scorer, samples, list(names), skip=options.get("on_error") == "skip")
    return {names[metric]: _regroup(column, rows[1]) for metric, column in scores.items()}


def _column(batch: Mapping[str, Any], name: str) -> list[Any]:
    """The cells of a column.

    Raises:
        UsageError: There is no such column, or only one row's cell.
    """
    if name not in batch:
        raise UsageError(
            f"no column {name!r}; there are {', '.join(batch)}: name it by image=, caption= or references="
        )
    column = batch[name]
    if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
        raise UsageError(f"column {name!r} holds one row; call map with batched=True")
    return list(column)


def _several(cell: Any) -> bool:
    return isinstance(cell, list | tuple | np.ndarray)


def _scorer(
    model: str | Encoder, metrics: Any, referenced: bool, **options: Any
) -> tuple[I0TScorer, tuple[Metric, ...]]:
    """A scorer with fixed statistics, and the metrics it computes."""
    before = models_loaded()
    in_worker = _in_a_worker()
    if in_worker:
        # A forked process that starts threads of OpenMP's, where its parent has run some, waits for ever.
        import torch

        torch.set_num_threads(1)
    scorer = cached_scorer(model, metrics=metrics, **{"resamples": 0, **options})
    if in_worker and models_loaded() > before:
        warnings.warn(
            f"this worker process has loaded {model!r} for itself, and so does every other: call "
            "score_batch(dataset[:1], **fn_kwargs) before map, and forked processes share that copy",
            UserWarning,
            stacklevel=3,
        )
    chosen = parse_metrics(metrics or PRESETS[options.get("preset", "paper")].choose(referenced))
    needy = [str(metric) for metric in chosen if metric.needs_statistics]
    if needy and scorer.statistics is None:
        raise StatisticsError(
            f"{', '.join(needy)} of a batch needs fixed statistics, or a row's score would depend on its "
            "batch; none are shipped for this model: fit some with `i0tscore fit` and pass statistics=FILE"
        )
    return scorer, chosen


def _in_a_worker() -> bool:
    """Whether multiprocessing started this process, or multiprocess, the form of it that map uses."""
    started_by = (multiprocessing, sys.modules.get("multiprocess"))
    return any(module.parent_process() is not None for module in started_by if module)


def _score(
    scorer: I0TScorer, samples: dict[str, tuple[Any, ...]], metrics: list[str], *, skip: bool
) -> dict[str, list[float | None]]:
    """Score samples (image, caption and perhaps references by id) by metric; None where left out."""
    nothing: dict[str, list[float | None]] = {metric: [None] * len(samples) for metric in metrics}
    if not samples:
        return nothing
    images, captions, *rest = zip(*samples.values(), strict=True)
    references = rest[0] if rest else None
    try:
        result = scorer.score([from_cell(cell) for cell in images], captions, references, ids=samples)
    except NothingToScoreError:
        if not skip:
            raise
        warnings.warn(f"all {len(samples)} captions of a batch left out", UserWarning, stacklevel=3)
        return nothing
    if result.skipped:
        warnings.warn(
            f"{len(result.skipped)} of {len(samples)} captions of a batch left out, first "
            f"{result.skipped[0].id}: {result.skipped[0].reason}",
            UserWarning,
            stacklevel=3,
        )
    return score_columns(result, samples)


def _regroup(column: list[float | None], captions: list[Any]) -> list[Any]:
    """A list of scores for each list of captions, and a score for each caption."""
    scores = iter(column)
    return [[next(scores) for _ in cell] if _several(cell) else next(scores) for cell in captions]
