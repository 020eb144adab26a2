"""Which captions of a result to keep: the decision, and thresholds with an expected precision."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import StatisticsError, UsageError, did_you_mean
from i0tscore.render.document import Table, format_number
from i0tscore.results.report import Part, Report, Signature, plain
from i0tscore.samples.rules import PER_METRIC, Criterion, SelectionRules, field_key
from i0tscore.samples.sample import Skipped

Column = NDArray[np.float64]

_LADDERS: dict[str, Sequence[float]] = {
    "p_match": (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95),
    **dict.fromkeys(PER_METRIC[1:], (1, 5, 10, 25, 50, 75, 90, 95)),
}
_PRECISIONS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_DECILES = np.arange(1, 10) / 10
_BORDERLINE = 3
_RARE = 0.001
"""Shares of mismatched reference pairs below this are between the last two quantiles, so they are uncertain."""


@dataclass(frozen=True, slots=True)
class Threshold(Part):
    """A threshold of a metric, and its expected precision and recall.

    Attributes:
        metric: The metric.
        value: Smallest score to keep.
        prior: Share of matched pairs in the corpus.
        precision: Expected share of matched pairs among those kept.
        recall: Expected share of the matched pairs that are kept.
        mismatched: Share of mismatched reference pairs that score at least the threshold.
    """

    metric: str
    value: float
    prior: float
    precision: float
    recall: float
    mismatched: float


def precision_threshold(
    metric: str, scores: Column, mismatched: Column, precision: float, prior: float, *, mixed: bool = False
) -> Threshold:
    """Return the smallest threshold whose expected precision is at least ``precision``.

    With π for the prior, u(t) for the share of mismatched reference pairs that score at least t, and m(t) for that of
    matched ones, the expected precision is π·m(t) / (π·m(t) + (1 − π)·u(t)), by Bayes' rule. With the share M(t) of the
    pairs of the corpus in place of m(t), it is 1 − (1 − π)·u(t) / M(t): one minus the false discovery rate.

    Args:
        metric: Name of the metric.
        scores: Scores of matched reference pairs, or their quantiles, in ascending order (q,).
        mismatched: The same for mismatched reference pairs (p,).
        precision: Precision to reach, in (0, 1).
        prior: Share of matched pairs in the corpus, in (0, 1).
        mixed: Whether ``scores`` are those of the corpus itself.

    Raises:
        StatisticsError: No threshold reaches it.

    Source:
        Storey 2002, JRSS B 64, equation 2, for the false discovery rate, with a known share of true null hypotheses.

    Examples:
        >>> scores = np.linspace(0, 1, 1001)
        >>> found = precision_threshold("toy", scores + 0.5, scores, 0.9, 0.5)
        >>> round(found.value, 2), round(found.precision, 2)
        (0.94, 0.9)
    """
    candidates = np.unique(np.concatenate([scores, mismatched]))
    passing, false = _share_at_least(scores, candidates), _share_at_least(mismatched, candidates)
    bad = (1 - prior) * false
    whole = passing if mixed else prior * passing + bad
    expected = np.divide(whole - bad, whole, out=np.zeros_like(whole), where=whole > 0)
    reached = np.flatnonzero(expected >= precision)
    if not len(reached):
        raise StatisticsError(
            f"No threshold of {metric} is expected to reach a precision of {precision:g} at a prior of {prior:g}: the "
            f"highest is {expected.max():.3f}. Lower --keep-precision (keep_precision=), or use another metric."
        )
    i = int(reached[0])
    recall = min(float((whole - bad)[i]) / prior, 1.0)
    return Threshold(metric, float(candidates[i]), prior, float(expected[i]), recall, float(false[i]))


def _share_at_least(quantiles: Column, thresholds: Column) -> Column:
    """Return the share of a distribution at or above each threshold; equal quantiles, as of clipped scores, count."""
    shares: Column = np.interp(-thresholds, -quantiles[::-1], np.linspace(0, 1, len(quantiles)))
    return shares


@dataclass(frozen=True, slots=True)
class Step(Part):
    """One rule, and how many captions it rejected."""

    rule: str
    rejected: int


class Scored(NamedTuple):
    """The columns of a result that rules use.

    Attributes:
        fields: Values (n,) by field, NaN where undefined; None if the run has none. The first one is the default of
            ``by``.
        reference: Quantiles of the scores of matched and of mismatched reference pairs by metric.
        ids: Sample ids (n).
        captions: Captions (n); empty if they are not known.
        images: Identity of each sample's image (n).
        notes: Reasons for undefined values by position.
    """

    fields: Mapping[str, Column | None]
    reference: Mapping[str, tuple[Column, Column]]
    ids: Sequence[str]
    captions: Sequence[str]
    images: Sequence[Hashable]
    notes: Mapping[int, tuple[str, ...]]

    def find(self, name: str) -> tuple[str, Column]:
        """Return a field's name and values.

        Raises:
            UsageError: There is no such field; the message lists the fields.
            StatisticsError: The run has no values for it.
        """
        known = {field_key(one): one for one in self.fields}
        if (key := field_key(name)) not in known:
            shown = [one for one in self.fields if "(" not in one or field_key(one)[0] not in PER_METRIC]
            raise UsageError(
                f"Unknown field {name!r}.{did_you_mean(name, shown)} The fields are {', '.join(shown)}; and "
                "p_match(METRIC) for a metric other than the first."
            )
        values = self.fields[known[key]]
        if values is None:
            raise StatisticsError(
                f"{known[key]} is undefined: the statistics of this run have no reference distribution for it. Fit "
                "some with `i0tscore fit`, and pass --statistics FILE (statistics=)."
                if key[0] in PER_METRIC
                else f"{known[key]} is undefined for this run. Use another field."
            )
        return known[key], values


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class Selection(Report):
    """Which captions of a result are kept, and why the others are not.

    Attributes:
        kept: Whether each sample is kept (n,), bool.
        scored: Whether each sample has all the values that the rules need (n,), bool.
        reasons: Why each sample is rejected or not scored (n); empty if it is kept.
        steps: The rules in order.
        threshold: The threshold of ``keep_precision``, or None.
        skipped: Captions that could not be read or encoded.
        ids: Sample ids (n).
        captions: Captions (n); empty if they are not known.
        border: The criterion on which the selection depends first: that of the first rule, or the lowest score kept.
        values: Values of its field (n,).
        ladder: Other thresholds of this field, each with the number of captions that it alone would keep.
        signatures: Signatures of the metrics by name.
    """

    SCHEMA = "i0tscore.selection/1"

    kept: NDArray[np.bool_]
    scored: NDArray[np.bool_]
    reasons: tuple[str, ...]
    steps: tuple[Step, ...]
    threshold: Threshold | None
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    ids: tuple[str, ...]
    captions: tuple[str, ...]
    border: Criterion
    values: Column
    ladder: tuple[tuple[str, int], ...]
    signatures: Mapping[str, Signature] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of captions that are kept, rejected, and not scored, which add up to all captions."""
        kept, scored = int(self.kept.sum()), int(self.scored.sum())
        missing = len(self.scored) - scored + len(self.skipped)
        return {"kept": kept, "rejected": scored - kept, "not_scored": missing}

    def figures(self) -> dict[str, str]:
        """Return the numbers of captions kept, rejected, and not scored."""
        return {name: str(count) for name, count in self.counts.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in ``docs/reference/selection.schema.json``."""
        unscored = [Skipped(self.ids[i], self.reasons[i]) for i in np.flatnonzero(~self.scored)]
        return {
            "schema": self.SCHEMA,
            **self.counts,
            "steps": plain(self.steps),
            "threshold": plain(self.threshold),
            "ladder": [{"threshold": threshold, "kept": count} for threshold, count in self.ladder],
            "skipped": plain([*self.skipped, *unscored]),
            "notes": list(self.notes),
            "signatures": {name: str(signature) for name, signature in self.signatures.items()},
        }

    def tables(self) -> list[Table]:
        """Return the numbers of captions, and how many each rule rejected."""
        total = max(sum(self.counts.values()), 1)
        rows = [[name.replace("_", " "), str(n), f"{n / total:.1%}"] for name, n in self.counts.items()]
        steps = [[step.rule, str(step.rejected)] for step in self.steps]
        return [Table(["", "captions", "share"], rows), Table(["rule", "rejected"], steps)]

    def preview(self) -> list[Table]:
        """Return how many captions other thresholds would keep, and those next to the border of the first rule."""
        (name, low, high, _), values = self.border, self.values
        n = max(int(self.scored.sum()), 1)
        ladder = [[threshold, str(count), f"{count / n:.1%}"] for threshold, count in self.ladder]
        distance = np.minimum(np.abs(values - low), np.abs(values - high))
        order = np.argsort(distance, kind="stable")
        inside = ((values >= low) & (values <= high))[order]
        nearest = [order[inside][:_BORDERLINE], order[~inside & self.scored[order]][:_BORDERLINE]]
        rows = [
            [self.ids[i], self.captions[i] if self.captions else "", format_number(values[i]), decision]
            for found, decision in zip(nearest, ("inside", "outside"), strict=True)
            for i in found
        ]
        widths = {"id": 20, "caption": None}
        return [
            Table(["other threshold", "captions", "share"], ladder, wrap=False),
            Table(["id", "caption", name, "range"], rows, "Captions next to the border", left=2, shorten=widths),
        ]


def select(scored: Scored, rules: SelectionRules, skipped: tuple[Skipped, ...] = (), **labels: Any) -> Selection:
    """Decide which samples to keep.

    Args:
        scored: The columns that the rules use.
        rules: What to keep.
        skipped: Captions that could not be read or encoded.
        labels: ``notes`` and ``signatures`` of the selection.

    Raises:
        UsageError: A rule names an unknown field; the message lists the fields.
        StatisticsError: A rule needs reference distributions that the statistics do not have.
    """
    used = [scored.find(criterion.field) for criterion in rules.criteria]
    by, order = scored.find(rules.by or next(iter(scored.fields)))
    if rules.ordering:
        used.append((by, order))
    n, reasons = len(scored.ids), [""] * len(scored.ids)
    defined = np.ones(n, dtype=np.bool_)
    for name, values in used:
        for i in np.flatnonzero(np.isnan(values) & defined):
            reasons[i] = f"{name} is undefined: {'; '.join(scored.notes.get(int(i), ())) or 'no value'}"
        defined &= ~np.isnan(values)
    kept, steps, notes = defined.copy(), [], list(labels.pop("notes", ()))
    threshold = None
    if rules.keep_precision is not None:
        threshold = _threshold(scored, rules, by, rules.keep_precision)
        if threshold.mismatched < _RARE:
            notes.append(
                f"Less than {_RARE:.1%} of mismatched reference pairs reach the threshold, so its precision is "
                "uncertain."
            )
    for rule, find in _rules(scored, rules, (by, order), threshold):
        found = find(kept)
        for row, reason in found.items():
            reasons[row] = reason
        kept[list(found)] = False
        steps.append(Step(rule, len(found)))
    name, values = used[0] if used else (by, order)
    low = threshold.value if threshold is not None else values[kept].min(initial=np.inf)
    border = rules.criteria[0] if rules.criteria else Criterion(name, float(low), np.inf, "")
    return Selection(
        kept=kept,
        scored=defined,
        reasons=tuple(reasons),
        steps=tuple(steps),
        threshold=threshold,
        skipped=skipped,
        notes=tuple(notes),
        ids=tuple(scored.ids),
        captions=tuple(scored.captions),
        border=border._replace(field=name),
        values=values,
        ladder=tuple(_ladder(scored, rules, name, values[defined])),
        **labels,
    )


def _threshold(scored: Scored, rules: SelectionRules, metric: str, precision: float) -> Threshold:
    if metric not in scored.reference:
        raise StatisticsError(
            f"--keep-precision needs reference distributions of {metric}, and the statistics of this run have none. "
            "Fit some on matched pairs with `i0tscore fit`, and pass --statistics FILE (statistics=)."
        )
    (matched, mismatched), prior = scored.reference[metric], rules.prior or 0.0
    if rules.precision_from == "reference":
        return precision_threshold(metric, matched, mismatched, precision, prior)
    values = scored.find(metric)[1]
    return precision_threshold(metric, np.sort(values[~np.isnan(values)]), mismatched, precision, prior, mixed=True)


_Reject = Callable[[NDArray[np.bool_]], dict[int, str]]
"""Returns what a rule rejects of the captions that are left, with reasons by position."""


def _rules(
    scored: Scored, rules: SelectionRules, order: tuple[str, Column], threshold: Threshold | None
) -> list[tuple[str, _Reject]]:
    by, values = order
    found: list[tuple[str, _Reject]] = [
        (one.text, partial(_outside, *scored.find(one.field), one)) for one in rules.criteria
    ]
    if threshold is not None:
        text = f"{by} >= {threshold.value:.6g}"
        rule = (
            f"{text} (precision {rules.keep_precision:g}, recall {threshold.recall:.3g} at prior {threshold.prior:g})"
        )
        found.append((rule, partial(_outside, by, values, Criterion(by, threshold.value, np.inf, text))))
    if rules.max_caption_repeats is not None:
        most = rules.max_caption_repeats
        found.append((f"captions with at most {most} images", partial(_repeated, scored, most)))
    if rules.best_per_image:
        found.append((f"best of each image by {by}", partial(_not_best, scored.images, by, values)))
    if rules.keep_fraction is not None or rules.keep_number is not None:
        number = rules.keep_number or round((rules.keep_fraction or 0) * int((~np.isnan(values)).sum()))
        found.append((f"highest {number} by {by}", partial(_below_top, by, values, number)))
    return found


def _outside(name: str, values: Column, criterion: Criterion, left: NDArray[np.bool_]) -> dict[int, str]:
    rows = np.flatnonzero(left & ~((values >= criterion.low) & (values <= criterion.high)))
    return {int(i): f"{name} is {values[i]:.4g}; required: {criterion.text}" for i in rows}


def _repeated(scored: Scored, most: int, left: NDArray[np.bool_]) -> dict[int, str]:
    texts = [" ".join(caption.casefold().split()) for caption in scored.captions]
    images: dict[str, set[Hashable]] = defaultdict(set)
    for text, image in zip(texts, scored.images, strict=True):
        images[text].add(image)
    counts = {i: len(images[texts[i]]) for i in np.flatnonzero(left).tolist()}
    return {i: f"the caption occurs with {n} images, more than {most}" for i, n in counts.items() if n > most}


def _not_best(images: Sequence[Hashable], by: str, values: Column, left: NDArray[np.bool_]) -> dict[int, str]:
    best: dict[Hashable, int] = {}
    rows = np.flatnonzero(left).tolist()
    for i in rows:
        if images[i] not in best or values[i] > values[best[images[i]]]:
            best[images[i]] = i
    return {
        i: f"{by} is {values[i]:.4g}, and another caption of the image has {values[best[images[i]]]:.4g}"
        for i in rows
        if i != best[images[i]]
    }


def _below_top(by: str, values: Column, number: int, left: NDArray[np.bool_]) -> dict[int, str]:
    rows = np.flatnonzero(left)
    below = rows[np.argsort(-values[rows], kind="stable")][number:].tolist()
    return {i: f"{by} is {values[i]:.4g}, not among the highest {number}" for i in below}


def _ladder(scored: Scored, rules: SelectionRules, name: str, values: Column) -> list[tuple[str, int]]:
    """Return other thresholds of a field, or for other expected precisions, and how many captions each would keep."""
    if not len(values):
        return []
    if rules.keep_precision is not None and not rules.criteria:
        found = []
        with suppress(StatisticsError):  # the higher ones may be out of reach
            for precision in _PRECISIONS:
                one = _threshold(scored, rules, name, precision)
                text = f"precision {precision:g}, recall {one.recall:.2f}: {name} >= {one.value:.3f}"
                found.append((text, int((values >= one.value).sum())))
        return found
    steps = _LADDERS.get(field_key(name)[0]) or np.unique(np.quantile(values, _DECILES).round(3)).tolist()
    if rules.criteria and np.isinf(rules.criteria[0].low):
        return [(f"{name} <= {most:g}", int((values <= most).sum())) for most in steps]
    return [(f"{name} >= {least:g}", int((values >= least).sum())) for least in steps]
