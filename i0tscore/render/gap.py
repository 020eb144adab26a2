"""The modality gap as tables and flat rows."""

from __future__ import annotations

from typing import Any

from i0tscore.gap.measures import TRAINED_SHARE
from i0tscore.render.document import Document, csv_text, figure, interval_cells, intervals_said
from i0tscore.render.strings import number
from i0tscore.render.tables import Table, skipped_table
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
"""How the measures are called in tables."""

_DISTANCES, _COSINES = MEASURES[:5], MEASURES[5:]

LEGEND = (
    "CD: distance of the centroids (low below 0.19, severe from 0.63; An et al. 2025); LS: 1 − mean squared "
    "error of a linear regression of the modality on held-out pairs, with its accuracy; MCD: smallest cosine "
    "distance of an image and a text; RMG: relative modality gap (Schrodi et al. 2025)"
)


def gap_document(report: GapReport) -> Document:
    """Tables of distances, of mean cosines and of the coordinates that carry the gap; then remarks."""
    before = next(iter(report.measures.values()))
    counts = f"{before.images:,} images, {before.captions:,} captions"
    tables = [
        (f"modality gap, {counts}", _table(report, _DISTANCES, banded=True)),
        ("mean cosines", _table(report, _COSINES, banded=False)),
        ("coordinates that carry most of the gap under none", _coordinates(before)),
    ]
    if report.skipped:
        tables.append(("", skipped_table(report.skipped)))
    signatures = [str(signature) for signature in report.signatures.values()]
    return Document(tables, [LEGEND, *_remarks(report, before)], signatures)


def gap_csv(report: GapReport) -> str:
    """CSV, one row a standardizer: counts, band, and each measure with ``_low`` and ``_high``."""
    rows = [_row(name, found) for name, found in report.measures.items()]
    return csv_text(list(rows[0]), rows)


def _table(report: GapReport, measures: tuple[str, ...], *, banded: bool) -> Table:
    header = ["standardizer", *["band"] * banded, *(HEADINGS[m] for m in measures)]
    rows = [
        [name, *[found.severity] * banded, *(figure(found[m]) for m in measures)]
        for name, found in report.measures.items()
    ]
    left = 1 + banded
    return Table(header, rows, ["left"] * left + ["right"] * len(measures))


def _coordinates(found: GapMeasures) -> Table:
    rows = [
        [
            f"{peak.coordinate}{' (peak)' if peak.coordinate in found.peaks.peaks else ''}",
            number(peak.image_mean),
            number(peak.caption_mean),
            f"{peak.share:.1%}",
        ]
        for peak in found.peaks.largest
    ]
    return Table(["coordinate", "image mean", "text mean", "share of CD²"], rows, ["left"] + ["right"] * 3)


def _remarks(report: GapReport, before: GapMeasures) -> list[str]:
    lines = []
    if before.separability_rows is not None:
        lines.append(separability_said(before))
    if before.peaks.peaks:
        lines.append(f"the peaks leave room for a cosine of at most {number(before.peaks.ceiling)}")
    if report.resampling.resamples:
        said = intervals_said(report.resampling, "images")
        lines.append(f"in parentheses: {said}; neither statistics nor the regression are fitted again")
    if report.statistics is not None:
        known = report.statistics
        source = f" ({known.source})" if known.source else ""
        lines.append(f"statistics: {known.name}{source}")
    return [*lines, *report.notes, *_notes(report)]


def separability_said(found: GapMeasures) -> str:
    """What the linear separability was fitted to, where there is one, and what it is to be compared with."""
    return (
        f"LS is of images as 0 and texts as 1, fitted to {found.separability_rows:,} rows of "
        f"{found.dimensions} dimensions, {100 * TRAINED_SHARE:.0f} % of the pairs; without any gap it would "
        f"be {number(found.separability_without_gap)}"
    )


def _notes(report: GapReport) -> list[str]:
    """Notes on single standardizers, once each with those they are about."""
    about: dict[str, list[str]] = {}
    for name, found in report.measures.items():
        for note in found.notes:
            about.setdefault(note, []).append(name)
    everywhere = len(report.measures)
    return [note if len(names) == everywhere else f"{', '.join(names)}: {note}" for note, names in about.items()]


def _row(name: str, found: GapMeasures) -> dict[str, Any]:
    row: dict[str, Any] = {
        "standardizer": name,
        "images": found.images,
        "captions": found.captions,
        "band": found.severity,
    }
    for measure in MEASURES:
        row |= interval_cells(measure, found[measure])
    return row
