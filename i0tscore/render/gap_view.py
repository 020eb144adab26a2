"""The modality gap and reference statistics, as documents and CSV."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from i0tscore.gap import POST, Quartiles, Statistics, centroid_distance, expected_residual_gap
from i0tscore.gap.measures import TRAINED_SHARE
from i0tscore.render.cells import csv_text, describe_intervals, format_estimate, format_number, skipped_table
from i0tscore.render.document import Document, Notes, Paragraph, Signatures, Table
from i0tscore.results.gap import MEASURES, GapMeasures, GapReport

HEADINGS = {
    "centroid_distance": "CD",
    "linear_separability": "LS",
    "modality_accuracy": "accuracy",
    "minimum_cosine_distance": "MCD",
    "relative_gap": "RMG",
    "matched": "matched",
    "mismatched": "mismatched",
    "image_image": "image–image",
    "caption_caption": "text–text",
}
"""Column headings of the measures."""

LEGEND = (
    "CD: distance between the centroids (low below 0.19, severe from 0.63; An et al. 2025). LS: 1 − mean squared "
    "error of a linear regression of the modality on held-out pairs, with its accuracy. MCD: smallest cosine "
    "distance between an image and a text. RMG: relative modality gap (Schrodi et al. 2025)."
)


class StatisticsSummary(NamedTuple):
    """Summary of reference statistics.

    Attributes:
        n: Number of pairs behind the means.
        gap: Distance between the two means.
        gap_expected: Distance that ``post`` is expected to leave on new data; None without a distribution.
        quartiles: Quartiles of the similarities of matched and of mismatched pairs, by standardizer.
    """

    n: int
    gap: float
    gap_expected: float | None
    quartiles: dict[str, tuple[Quartiles, Quartiles]]


def gap_document(report: GapReport) -> Document:
    """Return a document with tables of distances, of mean cosines, and of the coordinates that carry the gap."""
    before = next(iter(report.measures.values()))
    title = f"Modality gap, {before.images:,} images, {before.captions:,} captions"
    distances = [
        [name, found.severity, *(format_estimate(found[m]) for m in MEASURES[:5])]
        for name, found in report.measures.items()
    ]
    cosines = [[name, *(format_estimate(found[m]) for m in MEASURES[5:])] for name, found in report.measures.items()]
    coordinates = [
        [
            f"{peak.coordinate}{' (peak)' if peak.coordinate in before.peaks.peaks else ''}",
            format_number(peak.image_mean),
            format_number(peak.caption_mean),
            f"{peak.share:.1%}",
        ]
        for peak in before.peaks.largest
    ]
    headings = list(HEADINGS.values())
    return Document(
        [
            Table(["standardizer", "severity", *headings[:5]], distances, title, left=2),
            Table(["standardizer", *headings[5:]], cosines, "Mean cosines"),
            Table(
                ["coordinate", "image mean", "text mean", "share of CD²"],
                coordinates,
                "Coordinates that carry most of the gap under none",
            ),
            skipped_table(report.skipped),
            Notes([LEGEND, *_notes(report, before)]),
            Signatures(str(signature) for signature in report.signatures.values()),
        ]
    )


def gap_csv(report: GapReport) -> str:
    """Return CSV with one row per standardizer.

    Columns: ``standardizer``, ``images``, ``captions``, ``band`` (severity), and each measure with ``_low`` and
    ``_high``.
    """
    rows = []
    for name, found in report.measures.items():
        row = {"standardizer": name, "images": found.images, "captions": found.captions, "band": found.severity}
        rows.append({**row, **{measure: found[measure] for measure in MEASURES}})
    return csv_text(rows)


def describe_separability(found: GapMeasures) -> str:
    """Describe what the linear separability was fitted to and its value without a gap."""
    return (
        f"LS: regression of 0 for images and 1 for texts, fitted to {found.separability_rows:,} rows of "
        f"{found.dimensions} dimensions ({100 * TRAINED_SHARE:.0f}% of the pairs); without a gap it would be "
        f"{format_number(found.separability_without_gap)}."
    )


def summarize_statistics(statistics: Statistics) -> StatisticsSummary:
    """Summarize reference statistics."""
    n = statistics.image.count
    post = statistics.reference.get(str(POST))
    return StatisticsSummary(
        n=n,
        gap=centroid_distance(statistics.image.mean[None], statistics.caption.mean[None]),
        gap_expected=None if post is None else expected_residual_gap(float(np.mean(post.matched)), n),
        quartiles={name: reference.quartiles() for name, reference in statistics.reference.items()},
    )


def statistics_document(statistics: Statistics, closing: Paragraph | None = None) -> Document:
    """Return a document with the size, gap and quartiles of reference statistics.

    Args:
        statistics: Fitted statistics.
        closing: Lines to add at the end, such as where the statistics were written.
    """
    summary = summarize_statistics(statistics)
    source = f" ({statistics.source})" if statistics.source else ""
    gap = f"Modality gap (centroid distance): {summary.gap:.3f} between the means"
    if summary.gap_expected is not None:
        gap += f"; after post, about {summary.gap_expected:.3f} is expected on new data"
    quartiles = None
    if summary.quartiles:
        rows = [
            [name, *(" ".join(map(format_number, quartiles)) for quartiles in pair)]
            for name, pair in summary.quartiles.items()
        ]
        quartiles = Table(["similarity under", "matched pairs", "mismatched pairs"], rows, wrap=False)
    return Document(
        [
            Paragraph(
                [f"{statistics.name}-{statistics.digest}: {summary.n} pairs{source}, {statistics.encoder}", f"{gap}."]
            ),
            quartiles,
            Notes(["Quartiles: 25%, 50% and 75% of the pairs score lower."] if quartiles else []),
            closing,
        ]
    )


def _notes(report: GapReport, before: GapMeasures) -> list[str]:
    notes = []
    if before.separability_rows is not None:
        notes.append(describe_separability(before))
    if before.peaks.peaks:
        notes.append(f"The peaks limit cosines to at most {format_number(before.peaks.ceiling)}.")
    if report.resampling.resamples:
        notes.append(
            f"In parentheses: {describe_intervals(report.resampling, 'images')}; neither statistics nor the "
            "regression are refitted."
        )
    if report.statistics is not None:
        source = f" ({report.statistics.source})" if report.statistics.source else ""
        notes.append(f"Statistics: {report.statistics.name}{source}.")
    standardizers: dict[str, list[str]] = {}
    for name, found in report.measures.items():
        for note in found.notes:
            standardizers.setdefault(note, []).append(name)
    own = [
        note if len(names) == len(report.measures) else f"{', '.join(names)}: {note}"
        for note, names in standardizers.items()
    ]
    return [*notes, *report.notes, *own]
