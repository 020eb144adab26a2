"""``i0tscore score``: scores a caption file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.console import check_output, say, write_output
from i0tscore.cli.measures import rendered
from i0tscore.cli.options import InputOptions, ModelOptions, input_options, model_options
from i0tscore.cli.score_options import SHORT_RUN, ReportOptions, report_options
from i0tscore.cli.scoring import make_scorer, read_inputs, refuse_unused
from i0tscore.cli.shards import score_shards
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.results import Result
    from i0tscore.results.result import MetricSummary


@click.command(short_help="Score a caption file (the default).")
@input_options
@model_options
@report_options
def score(**options: Any) -> int:
    """Score the captions in the file CAPTIONS on the images in the folder IMAGES.

    CAPTIONS is CLIPScore's JSON, a JSON list, JSON lines, CSV, TSV, COCO results, a Hugging Face data set
    or clip-retrieval's folder of embeddings. Without IMAGES, images are looked for beside it.
    """
    inputs, model = InputOptions.take(options), ModelOptions.take(options)
    report = ReportOptions.take(options)
    if report.engine == "ray":
        metrics = score_shards(inputs, model, report)
        return _judge(metrics, _thresholds(report.fail_below, metrics))
    if report.actors is not None:
        raise UsageError("--actors is of --engine ray: give both")
    check_output(report.output)
    check_output(report.save_per_instance)
    if report.per_sample is False and report.form in ("jsonl", "csv"):
        raise UsageError(f"--format {report.form} is one sample a row: --no-per-sample leaves nothing")
    refuse_unused(inputs, model)
    found = read_inputs(inputs)
    scorer = make_scorer(
        model,
        on_error=inputs.on_error,
        statistics=report.statistics,
        metrics=report.metric or None,
        confidence=report.confidence,
        resamples=report.resamples,
        seed=report.seed,
    )
    result = scorer.score(found.images, found.captions, found.references, found.ids)
    result = result.with_skipped(found.skipped, found.notes)
    if found.texts:
        result = replace(result, captions=found.texts)
    thresholds = _thresholds(report.fail_below, result)
    _write(result, report)
    if not model.quiet:
        _mention_skipped(result, report.form)
    return _judge(result, thresholds)


def _thresholds(wanted: tuple[tuple[str, float], ...], result: Mapping[str, Any]) -> dict[str, float]:
    """Bounds by the name that the result has for each metric."""
    from i0tscore.metrics.metric import Metric

    bounds = {str(Metric.parse(name)): bound for name, bound in wanted}
    absent = [name for name in bounds if name not in result]
    if absent:
        raise UsageError(f"--fail-below {absent[0]}: not computed; there are {', '.join(result)}")
    return bounds


def _write(result: Result, report: ReportOptions) -> None:
    from i0tscore.render.score_view import per_instance_json

    if report.save_per_instance is not None:
        write_output(per_instance_json(result), report.save_per_instance)
    write_output(_rendered(result, report), report.output)


def _rendered(result: Result, report: ReportOptions) -> str:
    from i0tscore.render.score_view import score_csv, score_document

    if report.form == "json":
        return result.to_json(per_sample=report.per_sample is not False) + "\n"
    if report.form == "jsonl":
        return result.to_jsonl()
    if report.form == "csv":
        return score_csv(result)
    per_sample = result.n <= SHORT_RUN if report.per_sample is None else report.per_sample
    return rendered(score_document(result, per_sample=per_sample), report.form, report.output)


def _mention_skipped(result: Result, form: str) -> None:
    """Say on stderr what rows of samples have no place for."""
    if form in ("jsonl", "csv"):
        for skipped in result.skipped:
            say("warning", f"skipped {skipped.id}: {skipped.reason}")


def _judge(result: Mapping[str, MetricSummary], thresholds: dict[str, float]) -> int:
    """Exit code, with a message for every mean below its bound."""
    failed = False
    for name, bound in thresholds.items():
        mean = result[name].mean
        if mean is None or mean < bound:
            failed = True
            say("error", f"{name} is {'undefined' if mean is None else f'{mean:.6g}'}, below {bound:g}")
    return 1 if failed else 0
