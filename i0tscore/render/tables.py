"""The tables of a result as rows of strings; how they are drawn is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from i0tscore.gap import Quartiles
from i0tscore.render.strings import UNDEFINED, number, one_line
from i0tscore.results import MetricResult, Result, SampleResult
from i0tscore.samples import Skipped

PARTS = ("semantic", "image_bias", "caption_bias")
"""Parts of the breakdown that differ between samples, in the order shown."""


class Table(NamedTuple):
    """A table of strings.

    Attributes:
        header: Column names.
        rows: One list of cells a row.
        align: ``left`` or ``right`` for each column.
    """

    header: list[str]
    rows: list[list[str]]
    align: list[str]


def summary_table(result: Result) -> Table:
    """One row a metric: mean, interval, number of scores, and what is usual where that is known."""
    confidence = next(iter(result.metrics.values())).confidence
    header = ["metric", "mean", f"{100 * confidence:g} % interval", "n"]
    scaled = any(m.scale is not None for m in result.metrics.values())
    zeros = any(m.zeros for m in result.metrics.values())
    header += ["zeros"] * zeros + ["matched pairs", "mismatched pairs"] * scaled
    rows = []
    for name, metric in result.metrics.items():
        row = [name, number(metric.mean), _interval(metric), str(np.count_nonzero(~np.isnan(metric.values)))]
        if zeros:
            row.append(f"{metric.zeros:.0%}")
        if scaled:
            scale = metric.scale
            row += [UNDEFINED] * 2 if scale is None else [_quartiles(scale.matched), _quartiles(scale.mismatched)]
        rows.append(row)
    return Table(header, rows, ["left"] + ["right"] * (len(header) - 1))


def sample_table(result: Result) -> Table:
    """One row a sample: id, caption, every metric, and for the first calibrated one p(match) and rank.

    Captions come whole, on one line; columns that would be empty are left out.
    """
    leading = next((n for n, m in result.metrics.items() if m.p_match is not None), next(iter(result)))
    calibrated = result[leading].p_match is not None
    parts = PARTS if result.breakdown is not None else ()
    captioned = bool(result.captions)
    header = ["id", *["caption"] * captioned, *result, *["p(match)"] * calibrated, "rank"]
    header += [part.replace("_", " ") for part in parts]
    rows = []
    for sample in result.samples:
        score = sample.scores[leading]
        row = [one_line(sample.id), *[one_line(sample.caption or "")] * captioned]
        row += [number(s.value) for s in sample.scores.values()]
        row += [number(score.p_match, 2)] * calibrated
        row.append(UNDEFINED if score.rank is None else "{}/{}".format(*score.rank))
        row += [number((sample.breakdown or {}).get(part)) for part in parts]
        rows.append(row)
    left = 1 + captioned
    return Table(header, rows, ["left"] * left + ["right"] * (len(header) - left))


def skipped_table(skipped: Sequence[Skipped]) -> Table:
    """One row a skipped sample."""
    rows = [[one_line(s.id), one_line(s.reason)] for s in skipped]
    return Table(["skipped", "reason"], rows, ["left", "left"])


def remarks(result: Result) -> Iterator[str]:
    """What is to be said below the tables, one line each, signatures apart."""
    scales = [metric.scale for metric in result.metrics.values() if metric.scale is not None]
    if scales:
        sources = "; ".join(dict.fromkeys(one_line(scale.source) for scale in scales))
        yield (
            "matched, mismatched pairs: quartiles of reference images with their own and with other images' "
            f"captions ({sources})"
        )
    if result.gap:
        distances = [f"{number(value)} under {name}" for name, value in result.gap.items()]
        yield f"modality gap of this run (centroid distance): {', '.join(distances)}"
    yield from (one_line(note) for note in result.notes)
    yield from _sample_notes(result)


def _sample_notes(result: Result) -> Iterator[str]:
    """Each note of single samples once, with the samples it is about."""
    about: dict[str, list[SampleResult]] = {}
    for position, notes in sorted(result.sample_notes.items()):
        for note in notes:
            about.setdefault(note, []).append(result.samples[position])
    for note, samples in about.items():
        shown = ", ".join(one_line(s.id) for s in samples[:3])
        more = f" and {len(samples) - 3} more" if len(samples) > 3 else ""
        yield f"{shown}{more}: {one_line(note)}"


def _interval(metric: MetricResult) -> str:
    if metric.interval is None:
        return UNDEFINED
    return f"{number(metric.interval[0])} to {number(metric.interval[1])}"


def _quartiles(quartiles: Quartiles) -> str:
    return " ".join(number(q, 2) for q in quartiles)
