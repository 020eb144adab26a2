"""Which reference statistics a run uses: shipped ones, a file, or the run's own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from i0tscore.encoders.encoded import EncodedRun
from i0tscore.errors import StatisticsError
from i0tscore.gap import POST, Moments, Statistics, dot, expected_residual_gap
from i0tscore.metrics.metric import Metric

if TYPE_CHECKING:
    from i0tscore.encoders.base import Fingerprint

AUTO_MINIMUM = 32
"""``auto`` takes a run's own statistics from this many images on."""

ADVISED_MINIMUM = 128
"""Below this many images their own statistics come with a warning."""

_HOW_TO_FIT = (
    "fit them on images with right captions, like those to be scored: "
    "`i0tscore fit captions.json images/ --output stats.safetensors` with the same --model and --preset, "
    "then `--statistics stats.safetensors`"
)


def builtin_statistics(fingerprint: Fingerprint) -> Statistics | None:
    """The statistics shipped for an encoder, or None; they belong to its very weights."""
    resource = files("i0tscore.encoders") / "data" / f"{fingerprint.name.replace('/', '--')}-statistics.safetensors"
    if not resource.is_file():
        return None
    with as_file(resource) as path:
        statistics = Statistics.load(path)
    return statistics if statistics.space == fingerprint.space else None


def fixed_statistics(
    choice: str | Path | Statistics, fingerprint: Fingerprint | None, prefix: str
) -> Statistics | None:
    """Statistics that do not depend on the run, or None.

    Args:
        choice: ``auto``, ``builtin``, ``batch``, a file, or statistics.
        fingerprint: Of the encoder; None when embeddings were given.
        prefix: Text before every caption.

    Raises:
        StatisticsError: ``builtin`` was asked for and none are shipped, or a file is unusable.
    """
    if choice == "batch":
        return None
    if choice in ("auto", "builtin"):
        shipped = None if fingerprint is None else builtin_statistics(fingerprint)
        if shipped is None or (choice == "auto" and shipped.prefix != prefix):
            if choice == "builtin":
                name = "embeddings of an unknown encoder" if fingerprint is None else fingerprint.name
                raise StatisticsError(f"no statistics are shipped for {name}; {_HOW_TO_FIT}")
            return None
        statistics = shipped
    else:
        statistics = choice if isinstance(choice, Statistics) else Statistics.load(choice)
    name, space = ("given embeddings", "") if fingerprint is None else (fingerprint.name, fingerprint.space)
    return statistics.require(name, space, prefix)


def needed_statistics(
    choice: str | Path | Statistics, fingerprint: Fingerprint | None, prefix: str, metric: Metric
) -> Statistics:
    """Fixed statistics, as ``fixed_statistics`` finds them, for what has no run of its own.

    Raises:
        StatisticsError: There are none.
    """
    statistics = fixed_statistics(choice, fingerprint, prefix)
    if statistics is None:
        raise StatisticsError(
            f"{metric} of single items needs fixed statistics: none are shipped for "
            "this encoder; fit some with `i0tscore fit` and pass statistics=FILE"
        )
    return statistics


def checked_statistics(
    choice: str | Path | Statistics, fingerprint: Fingerprint | None, prefix: str, dimension: int
) -> tuple[Statistics | None, list[str]]:
    """Fixed statistics, as ``fixed_statistics`` finds them, of that dimension, with notes for the reader.

    Raises:
        StatisticsError: As there, or the dimension is another.
    """
    fixed = fixed_statistics(choice, fingerprint, prefix)
    if fixed is None:
        return None, []
    if len(fixed.image.mean) != dimension:
        raise StatisticsError(
            f"statistics {fixed.name!r} of {fixed.encoder} have {len(fixed.image.mean)} dimensions, "
            f"the embeddings {dimension}; {_HOW_TO_FIT}"
        )
    return fixed, _unchecked(fixed, fingerprint)


def choose_statistics(
    choice: str | Path | Statistics,
    fingerprint: Fingerprint | None,
    prefix: str,
    run: EncodedRun,
    metrics: Sequence[Metric],
) -> tuple[Statistics | None, list[str]]:
    """The statistics of a run, with notes for its reader.

    Raises:
        StatisticsError: A metric needs statistics and there are none, or the dimension is another.
    """
    fixed, notes = checked_statistics(choice, fingerprint, prefix, run.images.shape[1])
    if fixed is not None:
        return fixed, notes
    needy = [str(m) for m in metrics if m.needs_statistics]
    if choice == "batch" or len(run.images) >= AUTO_MINIMUM:
        statistics = run_statistics(run, fingerprint, prefix)
        return statistics, _small_batch(run, statistics) if needy else []
    if needy:
        raise StatisticsError(
            f"{', '.join(needy)} needs reference statistics: none are shipped for this encoder with the "
            f"prefix {prefix!r}, and {len(run.images)} images are too few for their own (at least "
            f"{AUTO_MINIMUM}); {_HOW_TO_FIT}. `--statistics batch` takes the samples' own all the same"
        )
    return None, []


def _unchecked(statistics: Statistics, fingerprint: Fingerprint | None) -> list[str]:
    """Warn where only one side says what encoder it is of; the warning is also the reader's note."""
    if bool(statistics.space) == (fingerprint is not None):
        return []
    other = "embeddings of an unknown encoder" if fingerprint is None else fingerprint.name
    note = f"statistics {statistics.name!r} of {statistics.encoder} are used for {other}: unchecked"
    warnings.warn(note, UserWarning, stacklevel=2)
    return [note]


def run_statistics(
    run: EncodedRun, fingerprint: Fingerprint | None, prefix: str, *, name: str = "batch", source: str = ""
) -> Statistics:
    """Statistics of a run's own samples, each of which counts once; without reference distributions."""
    x, y = run.pairs
    encoder, space = ("embeddings", "") if fingerprint is None else (fingerprint.name, fingerprint.space)
    return Statistics(name, encoder, space, prefix, Moments.of(x), Moments.of(y), source=source)


def _small_batch(run: EncodedRun, statistics: Statistics) -> list[str]:
    """Warn of means that come from few samples; the warning is also the reader's note."""
    if len(run.images) >= ADVISED_MINIMUM:
        return []
    scores = dot(*statistics.standardize(POST, *run.pairs))
    defined = scores[~np.isnan(scores)]
    gap = expected_residual_gap(float(defined.mean()) if len(defined) else 0.0, len(run.images))
    note = (
        f"statistics come from the {len(run.images)} scored images themselves; means of so few leave a gap "
        f"of about {gap:.2f} on new data, and scores change with the company: prefer fixed statistics "
        "(`i0tscore fit`)"
    )
    warnings.warn(note, UserWarning, stacklevel=2)
    return [note]
