"""A result as flat rows, one a sample, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from i0tscore.results import Result, SampleResult


def render_csv(result: Result) -> str:
    """CSV with a header and one row a sample; what is undefined is an empty cell.

    Columns: ``id``, ``caption``, ``tokens``, ``tokens_cut``; for each metric its name and
    ``<metric>.percentile_matched``, ``.percentile_mismatched``, ``.p_match``, ``.rank``, ``.rank_of``;
    the parts of the breakdown; ``notes``. Numbers are written in full.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(result), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(sample) for sample in result.samples)
    return text.getvalue()


def per_instance(result: Result) -> str:
    """CLIPScore's file of single scores: JSON with every metric's value by sample id.

    An id that several samples share has a list, in their order.
    """
    by_id: dict[str, list[dict[str, float | None]]] = {}
    for sample in result.samples:
        values = {name: score.value for name, score in sample.scores.items()}
        by_id.setdefault(sample.id, []).append(values)
    data = {name: values[0] if len(values) == 1 else values for name, values in by_id.items()}
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _columns(result: Result) -> list[str]:
    kinds = ("", ".percentile_matched", ".percentile_mismatched", ".p_match", ".rank", ".rank_of")
    scores = [name + kind for name in result for kind in kinds]
    return ["id", "caption", "tokens", "tokens_cut", *scores, *(result.breakdown or {}), "notes"]


def _row(sample: SampleResult) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": sample.id,
        "caption": sample.caption,
        "tokens": sample.tokens,
        "tokens_cut": sample.tokens_cut,
        **(sample.breakdown or {}),
        "notes": "; ".join(sample.notes),
    }
    for name, score in sample.scores.items():
        rank, rank_of = score.rank or (None, None)
        row |= {
            name: score.value,
            f"{name}.percentile_matched": score.percentile_matched,
            f"{name}.percentile_mismatched": score.percentile_mismatched,
            f"{name}.p_match": score.p_match,
            f"{name}.rank": rank,
            f"{name}.rank_of": rank_of,
        }
    return row
