"""The paragraphs and tables that reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from human_judgments.arguments import Arguments
from human_judgments.preference_evidence import PairEvidence
from human_judgments.published import Published
from human_judgments.rating_sets import KnownSet
from human_judgments.report import UNDEFINED, bullets, p_value, percent, table
from human_judgments.scores import Scores
from i0tscore.render.comparison_view import SYMBOLS, agreement_table
from i0tscore.render.document import markdown_table
from i0tscore.results.correlation import CorrelationName
from i0tscore.results.correlation_report import CorrelationReport
from i0tscore.results.intervals import Estimate

ALIKE = {
    "flickr8k_expert": "`lite`'s heads are trained on the training split of Flickr8k: photographs and "
    "captions of the same kind as here. Its figures are not zero-shot; do not compare them with such.",
}
ALIKE["flickr8k_cf"] = ALIKE["flickr8k_expert"]
RATERS = (
    "The raters themselves: each rating against the mean of the other ratings of its item, which is about "
    "what a metric could reach; these means take few values, and such ties lower τ-c more than τ-b."
)
OTHERWISE = (
    "`lite`'s heads are trained on the training split of Flickr8k; this set is of another kind. "
    "It is a small model and not CLIP."
)


def introduction(known: KnownSet, arguments: Arguments, counts: Mapping[str, int]) -> str:
    """What the set is and the command that makes the report."""
    counted = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"Data: {known.origin}.\n\nCounts: {counted}.\n\nMade by\n\n```console\n$ {arguments.command}\n```"


def agreement_blocks(
    found: CorrelationReport,
    headline: CorrelationName,
    arguments: Arguments,
    *,
    averaging: str = "which the published figures do not do",
) -> list[str]:
    """The tables of agreement, of differences, of accuracy, and by part.

    Args:
        found: What was measured.
        headline: The correlation that the tables after the first are about.
        arguments: Of the command line.
        averaging: Who averages the ratings of this set, or that nobody does.
    """
    blocks = [figures(found)]
    if found.differences:
        symbol = SYMBOLS[headline]
        blocks += [
            f"Difference in {symbol} from {arguments.baseline} on the same ratings, paired bootstrap; "
            "p two-sided, with Holm's correction for the comparisons of this table.",
            difference_table(found, arguments.resampling.resamples),
        ]
    if found.averaged:
        means = ", ".join(f"{name} {_hundred(value)}" for name, value in found.averaged.items())
        symbol = SYMBOLS[headline]
        blocks.append(f"If the ratings of each item were averaged first, {averaging}, {symbol} would be: {means}.")
    if found.accuracy:
        rows = [[name, percent(value), str(pairs)] for name, (value, pairs) in found.accuracy.items()]
        blocks += [
            "Preference accuracy: share of pairs of captions of one image in one situation whose scores are "
            "in the order of their mean ratings; equal scores count half, equal ratings do not count.",
            table(["metric", "accuracy", "pairs"], rows),
        ]
    if found.parts:
        rows = [[part, *map(percent, by_metric.values())] for part, by_metric in parts_by_label(found).items()]
        blocks += [f"{SYMBOLS[headline]} by part of the set:", table(["part", *found.agreement], rows)]
    return blocks


def parts_by_label(found: CorrelationReport) -> dict[str, dict[str, Estimate]]:
    """Return the parts by label alone, for sets whose columns share none."""
    return {label: estimates for by_label in found.parts.values() for label, estimates in by_label.items()}


def figures(found: CorrelationReport) -> str:
    """The table of agreement, × 100."""
    return markdown_table(agreement_table(found, format_cell=percent, name_heading="metric", cluster_heading="images"))


def difference_table(found: CorrelationReport, resamples: int) -> str:
    """Differences from the baseline."""
    rows = [
        [name, percent(d.estimate, signed=True), p_value(d.p_value, resamples), p_value(d.p_holm, resamples)]
        for name, d in found.differences.items()
    ]
    return table(["metric", "difference", "p", "p, Holm"], rows)


def pair_table(found: Mapping[str, PairEvidence], baseline: str) -> str:
    """Accuracy by metric and category, with the difference from the baseline."""
    parts = list(dict.fromkeys(part for value in found.values() for part in value.parts))
    compared = any(value.difference is not None for value in found.values())
    header = ["metric", *parts, "all", *[f"difference from {baseline}"] * compared, "ties", "pairs"]
    rows = []
    for name, value in found.items():
        row = [name, *(percent(value.parts.get(part)) for part in parts), percent(value.accuracy)]
        row += [percent(value.difference, signed=True)] * compared
        rows.append([*row, f"{value.ties:.1%}", f"{value.n:,}"])
    return table(header, rows)


def published_blocks(published: Sequence[Published]) -> list[str]:
    """Figures of others, apart from ours."""
    if not published:
        return []
    rows = [
        [row.metric, row.condition, row.source, SYMBOLS.get(row.figure, row.figure), f"{row.value:g}"]
        for row in published
    ]
    return [
        "## Published figures of others\n\nMade by others under the conditions stated; not measured here.",
        table(["metric", "condition", "source", "figure", "× 100"], rows, left=4),
    ]


def closing_blocks(known: KnownSet, notes: Sequence[str], scores: Scores, arguments: Arguments) -> list[str]:
    """Conditions, notes, what is missing and why, and the signatures."""
    blocks = ["## Conditions and signatures"]
    if arguments.label == "lite":
        blocks.append(ALIKE.get(known.name, OTHERWISE))
    reasons: dict[str, list[str]] = {}
    for name, reason in scores.unavailable.items():
        reasons.setdefault(reason, []).append(name)
    missing = [f"not here: {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    if notes or missing:
        blocks.append(bullets([*notes, *missing]))
    blocks.append("\n".join(["```", *scores.signatures.values(), "```"]))
    return blocks


def _hundred(value: float | None) -> str:
    return UNDEFINED if value is None else f"{100 * value:.1f}"
