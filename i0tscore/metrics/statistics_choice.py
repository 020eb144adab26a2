"""Choice of a run's reference statistics: shipped with the encoder, from a file, or of the run itself.

In every function, ``choice`` is ``auto``, ``builtin``, ``batch``, a file, or statistics; ``fingerprint`` is that of the
encoder, None for given embeddings; and ``prefix`` is the text before every caption.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from i0tscore.encoders.encode import EncodedRun
from i0tscore.errors import StatisticsError, did_you_mean
from i0tscore.gap import Statistics
from i0tscore.metrics.metric import Metric

if TYPE_CHECKING:
    from i0tscore.encoders.base import Fingerprint

AUTO_MINIMUM = 32
"""Minimum number of images for which ``auto`` uses per-run statistics.

A run's own means push its mismatched pairs below 0 by about the matched score / (n − 1): by .010 in runs of 32 pairs of
CLIP, and by .044 in runs of 8 (reports/gap-clip-vitb32.md).
"""

Choice = str | Path | Statistics

WORDS = ("auto", "builtin", "batch")
"""Choices that are not statistics or a file of them."""

_UNKNOWN = "embeddings of an unknown encoder"
_HOW_TO_FIT = (
    "Fit some on images with matched captions, similar to those to score, with the same --model and --preset: "
    "`i0tscore fit captions.json images/ --output stats.safetensors`. Then pass `--statistics stats.safetensors`."
)


def builtin_statistics(fingerprint: Fingerprint) -> Statistics | None:
    """Return the statistics shipped for exactly this encoder and its weights, or None."""
    resource = files("i0tscore.encoders") / "data" / f"{fingerprint.name.replace('/', '--')}-statistics.safetensors"
    if not resource.is_file():
        return None
    with as_file(resource) as path:
        statistics = Statistics.load(path)
    return statistics if statistics.space == fingerprint.space else None


def load_statistics(choice: Choice) -> Statistics:
    """Return statistics, read from a file unless they are given.

    Raises:
        StatisticsError: The file does not exist, or cannot be read.
    """
    if isinstance(choice, Statistics):
        return choice
    if not Path(choice).exists() and (near := did_you_mean(str(choice), WORDS)):
        raise StatisticsError(f"No statistics file {choice}.{near}")
    return Statistics.load(choice)


def fixed_statistics(choice: Choice, fingerprint: Fingerprint | None, prefix: str) -> Statistics | None:
    """Return statistics that do not depend on the run, or None.

    Raises:
        StatisticsError: No statistics are shipped for ``builtin``, or the statistics belong to another encoder or
            prefix, or the file cannot be read.
    """
    if choice == "batch":
        return None
    name, space = ("given embeddings", "") if fingerprint is None else (fingerprint.name, fingerprint.space)
    if choice in ("auto", "builtin"):
        shipped = None if fingerprint is None else builtin_statistics(fingerprint)
        if choice == "auto":
            return shipped if shipped is not None and shipped.prefix == prefix else None
        if shipped is None:
            raise StatisticsError(
                f"No statistics are shipped for {fingerprint.name if fingerprint else _UNKNOWN}. {_HOW_TO_FIT}"
            )
        choice = shipped
    return load_statistics(choice).require(name, space, prefix)


def checked_statistics(
    choice: Choice, fingerprint: Fingerprint | None, prefix: str, dimension: int
) -> tuple[Statistics | None, list[str]]:
    """Return what ``fixed_statistics`` returns and notes for the result, after checking the dimension.

    Raises:
        StatisticsError: As ``fixed_statistics``, or the statistics do not have ``dimension`` dimensions.
    """
    fixed = fixed_statistics(choice, fingerprint, prefix)
    if fixed is None:
        return None, []
    if len(fixed.image.mean) != dimension:
        raise StatisticsError(
            f"Statistics {fixed.name!r} of {fixed.encoder} have {len(fixed.image.mean)} dimensions, the embeddings "
            f"{dimension}. {_HOW_TO_FIT}"
        )
    if bool(fixed.space) == (fingerprint is not None):
        return fixed, []
    used_for = fingerprint.name if fingerprint else _UNKNOWN
    note = (
        f"Statistics {fixed.name!r} of {fixed.encoder} are used for {used_for}. Whether they match cannot be checked."
    )
    warnings.warn(note, UserWarning, stacklevel=2)
    return fixed, [note]


def choose_statistics(
    choice: Choice,
    fingerprint: Fingerprint | None,
    prefix: str,
    run: EncodedRun,
    metrics: Sequence[Metric],
    *,
    covariance: bool = True,
) -> tuple[Statistics | None, list[str]]:
    """Return the statistics for a run, per-run ones without covariances on request, and notes for its result.

    Raises:
        StatisticsError: As ``checked_statistics``, or a metric needs statistics and there are none.
    """
    fixed, notes = checked_statistics(choice, fingerprint, prefix, run.images.shape[1])
    if fixed is not None:
        return fixed, notes
    if choice == "batch" or len(run.images) >= AUTO_MINIMUM:
        return replace(run_statistics(run, fingerprint, prefix, name="batch", covariance=covariance), per_run=True), []
    if needing := [str(metric) for metric in metrics if metric.needs_statistics]:
        raise StatisticsError(
            f"{', '.join(needing)} needs reference statistics. None are shipped for this encoder with the prefix "
            f"{prefix!r}, and {len(run.images)} images are too few for per-run statistics (at least {AUTO_MINIMUM}). "
            f"{_HOW_TO_FIT} `--statistics batch` forces per-run statistics."
        )
    return None, []


def run_statistics(
    run: EncodedRun,
    fingerprint: Fingerprint | None,
    prefix: str,
    *,
    name: str,
    source: str = "",
    covariance: bool = True,
) -> Statistics:
    """Fit statistics to a run, with equal weight for each sample and without reference distributions."""
    encoder, space = ("embeddings", "") if fingerprint is None else (fingerprint.name, fingerprint.space)
    images, captions = run.rows
    return Statistics.fit(
        images, captions, covariance=covariance, name=name, encoder=encoder, space=space, prefix=prefix, source=source
    )
