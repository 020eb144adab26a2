"""Comparisons, correlations, modality gaps, reference statistics and retrieval, as documents and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.gap import POST, Statistics, centroid_distance
from i0tscore.gap.measures import TRAINED_SHARE, expected_residual_gap
from i0tscore.render.document import UNDEFINED, Document, Notes, Paragraph, Signatures, Table, format_number
from i0tscore.results.gap import MEASURES
from i0tscore.results.intervals import SMALLEST_SHOWN_P, Estimate, difference_row, format_estimate, smallest_p
from i0tscore.results.report import plain
from i0tscore.results.retrieval import LABEL_MEASURES
from i0tscore.samples import Skipped
from i0tscore.views.cells import csv_text, describe_intervals, difference_cells, skipped_table

if TYPE_CHECKING:
    from i0tscore.results.comparison import Comparison
    from i0tscore.results.correlation import CorrelationReport
    from i0tscore.results.gap import GapReport
    from i0tscore.results.preferences import PreferenceReport
    from i0tscore.results.retrieval import RetrievalReport
    from i0tscore.results.selection import Selection

SYMBOLS = {"tau_b": "τ-b", "tau_c": "τ-c", "spearman": "Spearman", "pearson": "Pearson", "auc": "AUC"}
"""Display names of correlations."""

PUBLISHED_TITLE = "Published figures × 100, measured by others under the conditions stated"
RATERS = "the raters themselves"
RATERS_NOTE = (
    f"{RATERS.capitalize()}: each rating against the mean of its item's other ratings. With few ratings per item, "
    "these means are uncertain, and a score can agree better than the raters do."
)

HEADINGS = dict(
    zip(
        MEASURES,
        ("CD", "LS", "accuracy", "MCD", "RMG", "matched", "mismatched", "image–image", "text–text"),
        strict=True,
    )
)
"""Column headings of the measures of the gap."""

GAP_LEGEND = (
    "CD: distance between the centroids (low below 0.19, severe from 0.63; An et al. 2025). LS: 1 − mean squared "
    "error of a linear regression of the modality on held-out pairs, with its accuracy. MCD: smallest cosine "
    "distance between an image and a text. RMG: relative modality gap (Schrodi et al. 2025)."
)
RETRIEVAL_LEGEND = (
    "mAP: mean average precision. mAP@R: mean average precision within the first R ranks, for R relevant items "
    "(Musgrave et al. 2020). R-precision: share of relevant items within those ranks. R@k: whether a relevant item "
    "is within the first k."
)


def comparison_document(comparison: Comparison) -> Document:
    """Return a document with one table per metric: means, differences from the baseline, wins and losses."""
    base, settings = comparison.baseline, comparison.resampling
    notes = [
        f"Difference: from {base}, on the same ids.",
        f"Higher, equal, lower: number of ids on which a system scores higher than, equal to or lower than {base}.",
    ]
    if settings.resamples:
        notes.append(f"In parentheses: {describe_intervals(settings, 'images', 'paired bootstrap')}.")
        notes.append("p is two-sided; Holm's p is corrected for all systems in a table.")
        notes += _smallest_p_notes(comparison)
    return Document(
        [
            *comparison.tables(),
            skipped_table(comparison.skipped),
            Notes([*notes, *comparison.notes]),
            Signatures(str(m.signature) for m in comparison.metrics.values() if m.signature is not None),
        ]
    )


def _smallest_p_notes(comparison: Comparison) -> list[str]:
    """Return a note if some p-value is as small as the number of resamples allows."""
    resamples = comparison.resampling.resamples
    floors = {
        floor
        for metric in comparison.metrics.values()
        for compared in metric.systems.values()
        if compared.difference is not None and compared.difference.p_value is not None
        if compared.difference.p_value <= (floor := smallest_p(resamples, metric.groups)) * (1 + 1e-9)
    }
    return [
        f"p = {floor:.3g} is the smallest value that {resamples:,} resamples can give. To find out whether p is "
        "smaller, use more resamples."
        for floor in sorted(floors)
        if floor >= SMALLEST_SHOWN_P
    ]


def comparison_csv(comparison: Comparison) -> str:
    """Return CSV with one row per metric and system.

    Columns: ``metric``, ``system``, ``n``, ``groups`` (number of images), ``mean``, ``mean_low``, ``mean_high``,
    ``baseline``, ``difference``, ``difference_low``, ``difference_high``, ``p``, ``p_holm``, ``wins``, ``ties``,
    ``losses``.
    """
    rows = []
    for name, metric in comparison.metrics.items():
        for system, compared in metric.systems.items():
            row = {"metric": name, "system": system, "n": metric.n, "groups": metric.groups, "mean": compared.mean}
            row |= {"baseline": comparison.baseline, **difference_cells(compared.difference)}
            rows.append({**row, "wins": compared.wins, "ties": compared.ties, "losses": compared.losses})
    return csv_text(rows)


def correlation_document(report: CorrelationReport) -> Document:
    """Return a document with tables of agreement, of differences from the baseline, and of parts."""
    symbol = SYMBOLS[report.headline]
    differences = parts = None
    if report.differences:
        rows = [[name, *difference_row(difference)] for name, difference in report.differences.items()]
        title = f"Difference in {symbol} from {report.baseline}, on the same rows"
        differences = Table(["score", "difference", "p", "Holm's p"], rows, title)
    if report.parts:
        rows = [
            [part, *(format_estimate(by_metric[name]) for name in report.agreement)]
            for part, by_metric in report.parts.items()
        ]
        parts = Table(["part", *report.agreement], rows, f"{symbol} by part")
    notes = []
    if report.resampling.resamples:
        over = "rows" if report.over == "rows" else f"clusters by {report.over}"
        notes.append(f"In parentheses: {describe_intervals(report.resampling, over)}.")
        if report.differences:
            notes.append("p is two-sided; Holm's p is corrected for all scores in the table.")
    notes.append("Ties: share of pairs with different ratings whose scores are equal.")
    if report.systems and report.resampling.resamples:
        notes.append("Between systems, the intervals vary the images, not the systems.")
    if report.raters is not None:
        notes.append(RATERS_NOTE)
    if report.alpha is not None:
        notes.append(f"Krippendorff's α of the ratings, on an interval scale: {format_estimate(report.alpha)}.")
    return Document(
        [
            _agreement_table(report),
            differences,
            parts,
            _systems_table(report),
            published_table(plain(report.published), PUBLISHED_TITLE),
            Notes([*notes, *report.notes]),
            Signatures(report.signatures.values()),
        ],
        title="Agreement of scores with ratings",
    )


def _agreement_table(report: CorrelationReport) -> Table:
    """Return a table of scores by correlation, with ties and counts; the raters' own agreement comes last."""
    raters = {} if report.raters is None else {RATERS: report.raters}
    names = list(next(iter(report.agreement.values())).estimates)
    rows = []
    for name, found in {**report.agreement, **raters}.items():
        cells = [format_estimate(found.estimates[correlation]) for correlation in names]
        rows.append([name, *cells, f"{found.ties:.1%}", f"{found.n:,}", f"{found.groups:,}"])
    return Table(["score", *(SYMBOLS[name] for name in names), "ties", "n", "clusters"], rows)


def _systems_table(report: CorrelationReport) -> Table | None:
    """Return a table of the correlations between systems; None if there are none."""
    if not report.systems:
        return None
    names = list(next(iter(report.systems.values())))
    rows = [[metric, *(format_estimate(own[name]) for name in names)] for metric, own in report.systems.items()]
    title = "Correlation of the mean score and the mean rating of each system"
    return Table(["score", *(SYMBOLS[name] for name in names)], rows, title)


def correlation_csv(report: CorrelationReport) -> str:
    """Return CSV with one row per metric and correlation; rows of parts have the headline correlation only.

    Rows of the part ``systems`` have the correlations between the means of captioning systems.

    Columns: ``metric``, ``part``, ``correlation``, ``n``, ``groups`` (number of clusters), ``value``,
    ``value_low``, ``value_high``, ``ties``, ``baseline``, ``difference``, ``difference_low``,
    ``difference_high``, ``p``, ``p_holm``. The raters' own agreement has the metric ``raters``.
    """
    rows: list[dict[str, Any]] = []
    raters = {} if report.raters is None else {"raters": report.raters}
    for name, found in {**report.agreement, **raters}.items():
        for correlation, estimate in found.estimates.items():
            difference = report.differences.get(name) if correlation == report.headline else None
            row = {"metric": name, "part": "", "correlation": correlation, "n": found.n, "groups": found.groups}
            row |= {"value": estimate, "ties": found.ties, "baseline": difference and difference.second}
            rows.append({**row, **difference_cells(difference)})
    if report.alpha is not None:
        rows.append({"metric": "raters", "part": "", "correlation": "krippendorff_alpha", "value": report.alpha})
    for part, by_metric in report.parts.items():
        for name, estimate in by_metric.items():
            rows.append({"metric": name, "part": part, "correlation": report.headline, "value": estimate})
    for name, found_between in report.systems.items():
        for correlation, estimate in found_between.items():
            rows.append({"metric": name, "part": "systems", "correlation": correlation, "value": estimate})
    return csv_text(rows)


def preference_document(report: PreferenceReport) -> Document:
    """Return a document with a table of accuracy by category, and of differences from the baseline."""
    parts = list(next(iter(report.metrics.values())).parts)
    compared = any(found.difference for found in report.metrics.values())
    rows = [
        [
            name,
            *(format_estimate(found.parts[part]) for part in parts),
            format_estimate(found.accuracy),
            *([format_estimate(found.difference, signed=True) if found.difference else "–"] if compared else []),
            f"{found.ties:.1%}",
            f"{found.n:,}",
        ]
        for name, found in report.metrics.items()
    ]
    header = ["score", *parts, "all", *([f"difference from {report.baseline}"] if compared else []), "ties", "pairs"]
    notes = ["Accuracy: share of pairs whose preferred caption scores higher; equal scores count as half."]
    if report.resampling.resamples:
        notes.append(f"In parentheses: {describe_intervals(report.resampling, 'images')}.")
    return Document(
        [
            Table(header, rows, "Accuracy"),
            published_table(plain(report.published), PUBLISHED_TITLE),
            Notes([*notes, *report.notes]),
            Signatures(report.signatures.values()),
        ]
    )


def preference_csv(report: PreferenceReport) -> str:
    """Return CSV with one row per metric and category; the row of all pairs has an empty category.

    Columns: ``metric``, ``part``, ``n`` (number of pairs), ``accuracy`` and ``difference`` with ``_low`` and ``_high``,
    ``ties``, ``baseline``.
    """
    none = Estimate(None, None)
    rows = []
    for name, found in report.metrics.items():
        whole: dict[str, Any] = {
            "n": found.n,
            "ties": found.ties,
            "baseline": report.baseline if found.difference else None,
        }
        whole |= {"difference": found.difference or none}
        rows.append({"metric": name, "part": "", "accuracy": found.accuracy, **whole})
        rows += [{"metric": name, "part": part, "accuracy": accuracy} for part, accuracy in found.parts.items()]
    return csv_text(rows)


def published_table(published: Sequence[Mapping[str, Any]], title: str = "") -> Table | None:
    """Return a table of published figures, given as plain data; None if there are none."""
    figures = list(dict.fromkeys(row["figure"] for row in published))
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in published:
        values.setdefault((row["metric"], row["condition"], row["source"]), {})[row["figure"]] = row["value"]
    rows = [
        [*key, *(str(own[figure]) if figure in own else UNDEFINED for figure in figures)] for key, own in values.items()
    ]
    header = ["metric", "condition", "source", *(SYMBOLS.get(figure, figure) for figure in figures)]
    return Table(header, rows, title, left=3) if rows else None


def selection_document(selection: Selection, *, preview: bool = False) -> Document:
    """Return a document with the numbers of captions, and what each rule rejected.

    Args:
        selection: Which captions are kept.
        preview: Whether to add what other thresholds would keep, and captions at the border.
    """
    counts, rules = selection.tables()
    missing = [(selection.ids[i], selection.reasons[i]) for i in np.flatnonzero(~selection.scored).tolist()]
    return Document(
        [
            *(selection.preview() if preview else ()),
            rules,
            counts,
            Notes(selection.notes),
            skipped_table([*selection.skipped, *(Skipped(*one) for one in missing)]),
            Signatures(map(str, selection.signatures.values())),
        ]
    )


def gap_document(report: GapReport) -> Document:
    """Return a document with tables of distances, of mean cosines, and of the coordinates that carry the gap."""
    before = next(iter(report.measures.values()))
    distances, cosines = [], []
    for name, found in report.measures.items():
        cells = [format_estimate(found[measure]) for measure in MEASURES]
        distances.append([name, found.severity, *cells[:5]])
        cosines.append([name, *cells[5:]])
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
    title = f"Modality gap, {before.images:,} images, {before.captions:,} captions"
    carriers = "Coordinates that carry most of the gap under none"
    return Document(
        [
            Table(["standardizer", "severity", *headings[:5]], distances, title, left=2),
            Table(["standardizer", *headings[5:]], cosines, "Mean cosines"),
            Table(["coordinate", "image mean", "text mean", "share of CD²"], coordinates, carriers),
            skipped_table(report.skipped),
            Notes([GAP_LEGEND, *_gap_notes(report)]),
            Signatures(map(str, report.signatures.values())),
        ]
    )


def _gap_notes(report: GapReport) -> list[str]:
    before = next(iter(report.measures.values()))
    notes = []
    if before.separability_rows is not None:
        notes.append(
            f"LS: regression of 0 for images and 1 for texts, fitted to {before.separability_rows:,} rows of "
            f"{before.dimensions} dimensions ({100 * TRAINED_SHARE:.0f}% of the pairs); without a gap it would be "
            f"{format_number(before.separability_without_gap)}."
        )
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


def gap_csv(report: GapReport) -> str:
    """Return CSV with one row per standardizer.

    Columns: ``standardizer``, ``images``, ``captions``, ``band`` (severity), and each measure with ``_low`` and
    ``_high``.
    """
    rows = [
        {"standardizer": name, "images": m.images, "captions": m.captions, "band": m.severity, **m.measures}
        for name, m in report.measures.items()
    ]
    return csv_text(rows)


def summarize_statistics(statistics: Statistics) -> dict[str, Any]:
    """Return the main figures of reference statistics, as in the JSON of ``fit``.

    Returns:
        ``n``, the number of pairs behind the means; ``gap``, the distance between the two means; ``gap_expected``,
        the distance that ``post`` is expected to leave on new data, None without a distribution; and ``quartiles``,
        those of the similarities of matched and of mismatched pairs, by standardizer.
    """
    n, post = statistics.image.count, statistics.reference.get(str(POST))
    return {
        "n": n,
        "gap": centroid_distance(statistics.image.mean[None], statistics.caption.mean[None]),
        "gap_expected": None if post is None else expected_residual_gap(float(np.mean(post.matched)), n),
        "quartiles": {name: reference.quartiles() for name, reference in statistics.reference.items()},
    }


def statistics_document(statistics: Statistics, closing: Paragraph | None = None) -> Document:
    """Return a document with the size, gap and quartiles of reference statistics.

    Args:
        statistics: Fitted statistics.
        closing: Lines to add at the end, such as where the statistics were written.
    """
    summary = summarize_statistics(statistics)
    source = f" ({statistics.source})" if statistics.source else ""
    gap = f"Modality gap (centroid distance): {summary['gap']:.3f} between the means"
    if summary["gap_expected"] is not None:
        gap += f"; after post, about {summary['gap_expected']:.3f} is expected on new data"
    rows = [
        [name, *(" ".join(map(format_number, quartiles)) for quartiles in pair)]
        for name, pair in summary["quartiles"].items()
    ]
    header = f"{statistics.name}-{statistics.digest}: {summary['n']} pairs{source}, {statistics.encoder}"
    return Document(
        [
            Paragraph([header, f"{gap}."]),
            Table(["similarity under", "matched pairs", "mismatched pairs"], rows, wrap=False) if rows else None,
            Notes(["Quartiles: 25%, 50% and 75% of the pairs score lower."] if rows else []),
            closing,
        ]
    )


def retrieval_document(report: RetrievalReport) -> Document:
    """Return a document with tables of the measures and of the differences from the baseline."""
    title = f"{report.task} retrieval, {report.queries:,} queries, {report.gallery:,} items in the gallery"
    measures = {"baseline": report.baseline.measures}
    measures |= {name: method.measures for name, method in report.methods.items()}
    differences = {name: method.differences for name, method in report.methods.items()}
    notes = [RETRIEVAL_LEGEND]
    if report.inverted is not None:
        side = "queries are" if report.inverted == "query" else "gallery is"
        notes.append(f"Only the {side} inverted; cosine reached: {format_number(report.cosine)}.")
    if report.left_out:
        notes.append(f"Queries without a relevant item, excluded from every mean: {report.left_out:,}.")
    if report.resampling.resamples:
        described = describe_intervals(report.resampling, report.over)
        notes.append(f"In parentheses: {described}; the gallery is not resampled.")
    change = "Difference from the baseline, query by query"
    return Document(
        [
            _retrieval_table(title, measures, signed=False),
            _retrieval_table(change, differences, signed=True) if differences else None,
            skipped_table(report.skipped),
            Notes([*notes, *report.notes]),
            Signatures([str(report.signature)]),
        ]
    )


def _retrieval_table(title: str, methods: Mapping[str, Mapping[str, Estimate]], *, signed: bool) -> Table:
    rows = [
        [name, *(format_estimate(measures[measure], signed=signed) for measure in LABEL_MEASURES)]
        for name, measures in methods.items()
    ]
    return Table(["method", *LABEL_MEASURES], rows, title)


def retrieval_csv(report: RetrievalReport) -> str:
    """Return CSV with one row per method: each measure and its difference, with ``_low`` and ``_high``."""
    none = Estimate(None, None)
    rows = [
        {
            "way": name,
            "queries": report.queries,
            "gallery": report.gallery,
            **{measure: method.measures[measure] for measure in LABEL_MEASURES},
            **{f"{measure} difference": method.differences.get(measure, none) for measure in LABEL_MEASURES},
        }
        for name, method in {"native": report.baseline, **report.methods}.items()
    ]
    return csv_text(rows)
