"""The summary of a corpus whose single scores are in shards."""

from __future__ import annotations

from i0tscore.integrations.shard_corpus import CorpusSummary
from i0tscore.render.document import Document
from i0tscore.render.strings import UNDEFINED, number, one_line
from i0tscore.render.tables import Table


def corpus_document(summary: CorpusSummary) -> Document:
    """One row a metric, one a skipped sample that is named, and what else there is to say."""
    confidence = next(iter(summary.metrics.values())).confidence
    header = ["metric", "mean", f"{100 * confidence:g} % interval", "n", "zeros"]
    rows = []
    for name, metric in summary.metrics.items():
        low_high = UNDEFINED if metric.interval is None else " to ".join(map(number, metric.interval))
        rows.append([name, number(metric.mean), low_high, str(metric.n), f"{metric.zeros:.0%}"])
    tables = [("", Table(header, rows, ["left"] + ["right"] * 4))]
    if summary.skipped:
        named = [[one_line(s.id), one_line(s.reason)] for s in summary.skipped]
        tables.append((f"skipped: {summary.n_skipped}", Table(["id", "reason"], named, ["left", "left"])))
    gap = ", ".join(f"{number(distance)} under {name}" for name, distance in summary.gap.items())
    remarks = [f"modality gap of this run (centroid distance): {gap}", *summary.notes]
    return Document(tables, remarks, [str(metric.signature) for metric in summary.metrics.values()])
