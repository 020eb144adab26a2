"""The modality gap of a corpus: measures with intervals, and a report on several standardizers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.gap import NONE, POST, GapStatistics, Standardizer, Statistics
from i0tscore.gap.measures import (
    Panel,
    Peaks,
    Separability,
    expected_residual_gap,
    minimum_cosine_distance,
    pair_measures,
    peak_coordinates,
    plot_panel,
    separability,
    severity,
)
from i0tscore.gap.standardizers import all_standardizers
from i0tscore.gap.vectors import dot, normalize
from i0tscore.results.intervals import (
    Estimate,
    Resampling,
    bootstrap_mean,
    cluster_weights,
    format_estimate,
    percentile_interval,
)
from i0tscore.results.report import Part, Report, Signature, plain
from i0tscore.results.signature import SignatureFields, sign
from i0tscore.samples import Skipped

if TYPE_CHECKING:
    from i0tscore.encoders.encode import EncodedRun

ADVISED_MINIMUM = 128
"""Per-run statistics of fewer images come with a warning."""

MEASURES = (
    "centroid_distance",
    "linear_separability",
    "modality_accuracy",
    "minimum_cosine_distance",
    "relative_gap",
    "matched",
    "mismatched",
    "image_image",
    "caption_caption",
)
"""Measures in the order shown; the last four are mean cosines."""

_DRAWS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class GapMeasures(Part):
    """Measures of the modality gap of one corpus.

    Attributes:
        images: Number of distinct images.
        captions: Number of captions.
        dimensions: Dimension of the embeddings.
        severity: Severity of the centroid distance: ``low``, ``moderate`` or ``severe``.
        measures: Estimate of each of ``MEASURES``; see ``measure_gap``.
        separability_rows: Number of rows that the linear separability was fitted to, two per pair; None if undefined.
        separability_without_gap: Linear separability expected without a gap; None if undefined.
        peaks: Coordinates that carry the gap.
        notes: Undefined measures, with reasons.
    """

    images: int
    captions: int
    dimensions: int
    severity: str
    measures: dict[str, Estimate]
    separability_rows: int | None
    separability_without_gap: float | None
    peaks: Peaks
    notes: tuple[str, ...]

    def __getitem__(self, measure: str) -> Estimate:
        """Return the estimate of one of ``MEASURES``."""
        return self.measures[measure]


def measure_gap(
    images: NDArray[Any],
    captions: NDArray[Any],
    image_of: NDArray[np.int64] | None = None,
    resampling: Resampling | None = None,
) -> GapMeasures:
    """Measure the modality gap.

    Intervals resample images, each with its captions. The minimum cosine distance has none, since the
    bootstrap is wrong for extremes. For the linear separability and the accuracy, the held-out pairs are
    resampled without refitting the regression, since copies of a row would be on both sides.
    Noise makes bootstrap draws of a distance too large, so draws of its square are shifted to have the
    measured square as their mean.

    Args:
        images: Unit embeddings of distinct images (m, d).
        captions: Unit embeddings (n, d).
        image_of: Row of the image of each caption (n,); if None, caption i belongs to image i.
        resampling: Settings of the intervals; 1,000 resamples at 95% if None.

    Returns:
        ``centroid_distance`` CD, ``linear_separability`` LS and ``modality_accuracy`` (one caption per
        image), ``minimum_cosine_distance`` MCD, ``relative_gap`` RMG, and the mean cosines ``matched``,
        ``mismatched``, ``image_image`` and ``caption_caption``. Vectors without a direction (NaN) are left
        out, with a note.

    Raises:
        InputError: Fewer than two images with captions.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(1, 1, (50, 4)), rng.normal(-1, 1, (50, 4))
        >>> unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        >>> found = measure_gap(*unit)
        >>> found.severity, found["relative_gap"].value > 0.5
        ('severe', True)
    """
    settings = resampling or Resampling()
    counts = len(images), len(captions)
    images, captions, image_of = _with_direction(images, captions, image_of)
    if len(images) < 2:
        raise InputError(f"Expected at least two images with captions to measure a modality gap, got {len(images)}.")
    notes = []
    if (len(images), len(captions)) != counts:
        left_out = f"{counts[0] - len(images)} images, {counts[1] - len(captions)} captions"
        notes.append(f"Left out because they have no direction: {left_out}.")
    estimates = _from_means(images, captions, image_of, settings)
    distance = minimum_cosine_distance(images, captions)
    estimates["minimum_cosine_distance"] = Estimate(distance, None)
    first = np.unique(image_of, return_index=True)[1]
    fit: Separability | None = None
    linear = accuracy = Estimate(None, None)
    try:
        fit = separability(images, captions[first])
        explained, correct = 1 - fit.squared_errors.mean(axis=1), fit.correct.mean(axis=1)
        linear = Estimate(fit.linear_separability, bootstrap_mean(explained, fit.pairs, settings))
        accuracy = Estimate(fit.accuracy, bootstrap_mean(correct, fit.pairs, settings))
    except InputError as error:
        notes.append(str(error))
    estimates |= {"linear_separability": linear, "modality_accuracy": accuracy}
    return GapMeasures(
        images=len(images),
        captions=len(captions),
        dimensions=images.shape[1],
        severity=severity(estimates["centroid_distance"].value or 0.0),
        measures={name: estimates[name] for name in MEASURES},
        separability_rows=None if fit is None else fit.fitted_rows,
        separability_without_gap=None if fit is None else fit.without_gap,
        peaks=peak_coordinates(images.mean(0, dtype=np.float64), captions.mean(0, dtype=np.float64)),
        notes=tuple(notes),
    )


def _with_direction(
    images: NDArray[Any], captions: NDArray[Any], image_of: NDArray[np.int64] | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Drop vectors that are NaN and images without captions, and renumber the images."""
    owners = np.arange(len(images)) if image_of is None else np.asarray(image_of)
    if owners.shape != (len(captions),):
        raise InputError(f"Expected one image row per caption, shape ({len(captions)},), got {owners.shape}.")
    keep = ~np.isnan(captions).any(axis=1) & ~np.isnan(images).any(axis=1)[owners]
    kept, image_of = np.unique(owners[keep], return_inverse=True)
    return images[kept], captions[keep], image_of


def _from_means(
    images: NDArray[Any], captions: NDArray[Any], image_of: NDArray[np.int64], settings: Resampling
) -> dict[str, Estimate]:
    count = len(images)
    drawn = cluster_weights(np.arange(count), count, settings)
    weights = iter(lambda: list(islice(drawn, _DRAWS_AT_ONCE)), [])
    whole, *parts = pair_measures(images, captions, image_of, chain([None], map(np.stack, weights)))
    measured = {name: float(values[0]) for name, values in whole.items()}
    draws = {name: np.concatenate([p[name] for p in parts]) if parts else np.empty(0) for name in measured}
    squared = draws["centroid_distance"] ** 2
    if len(squared):
        moved = squared - squared.mean() + measured["centroid_distance"] ** 2
        draws["centroid_distance"] = np.sqrt(moved.clip(0))
    return {
        name: Estimate(None if np.isnan(value) else value, percentile_interval(draws[name], settings.confidence, count))
        for name, value in measured.items()
    }


@dataclass(frozen=True, slots=True, repr=False)
class GapReport(Report):
    """Measures of the gap of a corpus under several standardizers.

    Attributes:
        measures: Measures by standardizer, ``none`` first.
        statistics: Statistics that the standardizers used, or None.
        in_sample: Whether the statistics come from the measured samples; None without statistics.
        signatures: Signatures by standardizer.
    """

    SCHEMA = "i0tscore.gap/1"

    measures: dict[str, GapMeasures]
    statistics: Statistics | None
    in_sample: bool | None
    signatures: dict[str, Signature]
    resampling: Resampling
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]

    def figures(self) -> dict[str, str]:
        """Return the centroid distance by standardizer."""
        distances = {name: format_estimate(found["centroid_distance"]) for name, found in self.measures.items()}
        return {"measure": "centroid_distance", **distances}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/gap.schema.json``; undefined values are None."""
        s = self.statistics
        return {
            "schema": self.SCHEMA,
            "statistics": None
            if s is None
            else {"name": s.name, "digest": s.digest, "source": s.source, "in_sample": self.in_sample},
            "resampling": {"over": "images", **self.resampling.to_dict()},
            "standardizers": {
                name: {**found.to_dict(), "signature": str(self.signatures[name])}
                for name, found in self.measures.items()
            },
            "skipped": plain(self.skipped),
            "notes": list(self.notes),
        }


def report_gap(
    run: EncodedRun,
    statistics: Statistics | None,
    standardizers: Sequence[Standardizer] = (),
    *,
    settings: SignatureFields | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> GapReport:
    """Measure the gap of a run without a standardizer and under each of several.

    Args:
        run: Embeddings of at least two images with captions.
        statistics: Statistics for the standardizers, or None.
        standardizers: Standardizers to measure. If empty, every standardizer that the statistics support and that
            moves embeddings; a note lists the others.
        settings: Settings of signatures and intervals; those of embeddings if None.
        skipped: Samples left out before the run.
        notes: Further notes for the reader.

    Raises:
        InputError: Fewer than two images, or a given standardizer does not move embeddings.
        StatisticsError: The statistics lack what a given standardizer needs.
    """
    settings = settings or SignatureFields((), (), Resampling())
    notes = [*notes]
    if statistics is not None and statistics.per_run and any(s != NONE for s in standardizers or [POST]):
        notes += warn_few_images(run, statistics)
    standardizers = list(standardizers) or _usable(statistics, notes)
    measures, signatures = {}, {}
    for standardizer in dict.fromkeys([NONE, *standardizers]):
        x, y, owners = _standardized(run, statistics, standardizer)
        measures[str(standardizer)] = measure_gap(x, y, owners, settings.resampling)
        signatures[str(standardizer)] = sign("gap", run, standardizer, statistics, settings)
    in_sample = None
    if statistics is not None:
        pairs = zip(run.pairs, (statistics.image.mean, statistics.caption.mean), strict=True)
        in_sample = all(np.allclose(v.mean(axis=0, dtype=np.float64), mean, rtol=0, atol=1e-6) for v, mean in pairs)
        notes.append(
            "In-sample: the statistics come from the measured samples, so the remaining gaps are smaller than on new "
            "data."
            if in_sample
            else "Held-out: the statistics do not come from the measured samples."
        )
    if in_sample and str(POST) in measures:
        expected = expected_residual_gap(measures[str(POST)]["matched"].value or 0.0, len(run.images))
        notes.append(f"After post, a gap of about {expected:.3f} is expected on new data.")
    if scaled := [str(s) for s in standardizers if s.spec.similarity == "dot"]:
        notes.append(f"{', '.join(scaled)}: measured on vectors scaled to unit length.")
    skipped = (*skipped, *run.skipped)
    return GapReport(measures, statistics, in_sample, signatures, settings.resampling, skipped, tuple(notes))


def warn_few_images(run: EncodedRun, statistics: Statistics) -> list[str]:
    """Warn if per-run statistics come from few images, and return the warning as a note."""
    if not statistics.per_run or len(run.images) >= ADVISED_MINIMUM:
        return []
    images, captions = statistics.standardize(POST, run.images[:], run.texts[:])
    scores = dot(images[run.image_index], captions[run.text_index])
    defined = scores[~np.isnan(scores)]
    gap = expected_residual_gap(float(defined.mean()) if len(defined) else 0.0, len(run.images))
    note = (
        f"The statistics were computed from only {len(run.images)} scored images. Expect a remaining gap of about "
        f"{gap:.2f} on new data. Scores also depend on the other samples in the run. Prefer fixed statistics "
        "(`i0tscore fit`)."
    )
    warnings.warn(note, UserWarning, stacklevel=2)
    return [note]


def gap_panels(
    run: EncodedRun, statistics: Statistics | None, standardizers: Sequence[Standardizer]
) -> dict[str, Panel]:
    """Return the panels of a plot by standardizer; see ``plot_panel``."""
    return {str(s): plot_panel(*_standardized(run, statistics, s)) for s in standardizers}


def _usable(statistics: Statistics | None, notes: list[str]) -> list[Standardizer]:
    known = GapStatistics() if statistics is None else statistics.gap_statistics
    usable = []
    for standardizer in all_standardizers(grid=False):
        if standardizer.spec.cross_modal_only:
            notes.append(f"{standardizer} is left out: it changes similarities, not embeddings.")
        elif standardizer.spec.need is None or known.has(standardizer.spec.need):
            usable.append(standardizer)
        else:
            notes.append(f"{standardizer} is left out: the statistics have no {standardizer.spec.need.name}.")
    return usable


def _standardized(
    run: EncodedRun, statistics: Statistics | None, standardizer: Standardizer
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return unit vectors of the distinct images and of all captions, and the image of each caption."""
    if standardizer.spec.cross_modal_only:
        raise InputError(
            f"Expected a standardizer of embeddings, got {standardizer}, which changes similarities and has no gap. "
            "Remove it."
        )
    known = GapStatistics() if statistics is None else statistics.gap_statistics
    x = standardizer.apply(run.images[:], known, "image")
    y = standardizer.apply(run.texts[:], known, "caption")[run.text_index]
    if standardizer.spec.similarity == "dot":
        x, y = normalize(x), normalize(y)
    return x, y, run.image_index
