"""Scores as new columns of a Hugging Face dataset, on disk or streamed.

from i0tscore.integrations.datasets import score_batch
dataset.map(score_batch, batched=True, batch_size=64, fn_kwargs={"model": "lite"})
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.encoders.encode import ordered, same_length
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import NothingToScoreError, StatisticsError, UsageError
from i0tscore.integrations.huggingface import cached_scorer, models_loaded, score_columns
from i0tscore.metrics.metric import PRESETS, Metric, parse_metrics
from i0tscore.samples.text import is_tokens

if TYPE_CHECKING:
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

    Statistics must be fixed, so that the score of a row does not depend on its batch.

    Args:
        batch: Columns by name, all of one length.
        model: As for ``I0TScorer``; loaded once per process.
        image: Column of images: decoded, undecoded (``Image(decode=False)``), paths, or bytes.
        caption: Column of captions: strings, or lists of strings, each of which is scored.
        references: Column of references, a string or a list of strings per row; None for none.
        statistics: ``auto`` or ``builtin`` if some are shipped for the model, a file, or ``Statistics``.
        metrics: As for ``I0TScorer``; None for the metrics of the preset.
        output: Names of the new columns, in which ``{metric}`` stands for the name of the metric.
        **options: Other arguments of ``I0TScorer``. With ``on_error="skip"``, rows that cannot be scored get None, with
            a warning.

    Returns:
        A column per metric: floats, or lists of floats where the captions are lists; None where undefined.

    Raises:
        UsageError: A column is missing, or ``batch`` is a single row.
        StatisticsError: There are no fixed statistics.
        InputError: A row cannot be scored; the message gives its position in the batch.

    Examples:
        >>> import numpy as np
        >>> rows = {"image": [np.zeros((9, 9, 3), dtype=np.uint8)], "caption": ["Night."]}
        >>> list(score_batch(rows, model="lite", metrics="CLIPScore", output="lite {metric}"))
        ['lite CLIPScore']
    """
    columns = {name: _column(batch, name) for name in (image, caption, references) if name is not None}
    same_length(**columns)
    rows = list(columns.values())
    chosen = parse_metrics(metrics or PRESETS[options.get("preset", "paper")].choose(references is not None))
    scorer = _scorer(model, metrics=metrics, statistics=statistics, **options)
    needing = [str(metric) for metric in chosen if metric.needs_statistics]
    if needing and scorer.statistics is None:
        raise StatisticsError(
            f"{', '.join(needing)} of a batch needs fixed statistics, or the score of a row would depend on its batch, "
            "and none are shipped for this model. Fit some with `i0tscore fit` and pass statistics=FILE."
        )
    names = {str(metric): output.format(metric=metric) for metric in chosen}
    if len(set(names.values())) < len(names):
        raise UsageError(f"output={output!r} gives several columns one name. Include {{metric}}.")
    samples = {
        f"row {row}, caption {number}" if _is_list(cells[1]) else f"row {row}": (cells[0], text, *cells[2:])
        for row, cells in enumerate(zip(*rows, strict=True))
        for number, text in enumerate(cells[1] if _is_list(cells[1]) else [cells[1]])
    }
    scores = _score(scorer, samples, list(names), skip=options.get("on_error") == "skip")
    scored = {}
    for metric, column in scores.items():
        values = iter(column)
        scored[names[metric]] = [
            [next(values) for _ in cell] if _is_list(cell) else next(values)  # one list of scores per list of captions
            for cell in rows[1]
        ]
    return scored


def _column(batch: Mapping[str, Any], name: str) -> list[Any]:
    names = list(getattr(batch, "column_names", batch))  # of an Arrow table, or the keys of a mapping
    if name not in names:
        raise UsageError(
            f"Expected a column {name!r}, got {', '.join(names)}. Name the columns with image=, caption=, references=."
        )
    column = batch[name]
    if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
        raise UsageError(f"Column {name!r} holds a single row. Call map with batched=True.")
    return list(ordered(column, name))


def _is_list(cell: Any) -> bool:
    """Return whether a cell holds several captions; tokens of one caption are left for the scorer to refuse."""
    return isinstance(cell, list | tuple | np.ndarray) and not is_tokens(list(cell))


def _scorer(model: str | Encoder, **options: Any) -> I0TScorer:
    """Return a scorer, with a warning if a worker process had to load its own copy of the model."""
    before = models_loaded()
    # Dataset.map uses multiprocess, a fork of multiprocessing.
    modules = multiprocessing, sys.modules.get("multiprocess")
    in_worker = any(module.parent_process() is not None for module in modules if module)
    if in_worker:
        # If the parent has run OpenMP threads, a forked process that starts some waits forever.
        import torch

        torch.set_num_threads(1)
    scorer = cached_scorer(model, **{"resamples": 0, **options})
    if in_worker and models_loaded() > before:
        warnings.warn(
            f"Each worker process loads its own copy of {model!r}. To share one between forked processes, call "
            "score_batch(dataset[:1], **fn_kwargs) before map.",
            UserWarning,
            stacklevel=3,
        )
    return scorer


def _score(
    scorer: I0TScorer, samples: dict[str, tuple[Any, ...]], metrics: list[str], *, skip: bool
) -> dict[str, list[float | None]]:
    """Score samples (image, caption, and perhaps references, by id) by metric; None where skipped."""
    undefined: dict[str, list[float | None]] = {metric: [None] * len(samples) for metric in metrics}
    if not samples:
        return undefined
    images, captions, *rest = zip(*samples.values(), strict=True)
    references = rest[0] if rest else None
    try:
        result = scorer.score(images, captions, references, ids=list(samples))
    except NothingToScoreError:
        if not skip:
            raise
        warnings.warn(f"Skipped all {len(samples)} captions of a batch.", UserWarning, stacklevel=3)
        return undefined
    if result.skipped:
        first = f"First: {result.skipped[0].id}: {result.skipped[0].reason}"
        message = f"Skipped {len(result.skipped)} of {len(samples)} captions of a batch. {first}"
        warnings.warn(message, UserWarning, stacklevel=3)
    return score_columns(result, samples)
