"""``i0tscore score --engine ray``: scores shards on a Ray cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from i0tscore.cli.console import write_output
from i0tscore.cli.measures import rendered
from i0tscore.cli.options import InputOptions, ModelOptions
from i0tscore.cli.score_options import ReportOptions
from i0tscore.errors import UsageError
from i0tscore.render.document import RENDERERS

if TYPE_CHECKING:
    from i0tscore.integrations.shard_corpus import CorpusMetric, CorpusSummary


def score_shards(inputs: InputOptions, model: ModelOptions, report: ReportOptions) -> dict[str, CorpusMetric]:
    """Score shards, write the scores to a folder and the summary to stdout; the summary's metrics."""
    _refuse_unused(inputs, model, report)
    captions = inputs.captions or Path()
    from i0tscore.integrations.ray import score

    summary = score(
        captions,
        output=report.output or captions.with_name(f"{captions.absolute().stem}.scores"),
        images=inputs.folder,
        actors=report.actors,
        progress=sys.stderr.isatty() and not model.quiet,
        model=model.model,
        weights=None if model.weights is None else model.weights.absolute(),
        statistics=report.statistics,
        metrics=report.metric or None,
        preset=model.preset,
        precision=model.precision,
        device=model.device,
        batch_size=model.batch_size,
        workers=model.workers,
        long_captions=model.long_captions,
        on_error=inputs.on_error,
        offline=model.offline,
        confidence=report.confidence,
        resamples=report.resamples,
        seed=report.seed,
    )
    write_output(_rendered(summary, report.form))
    return summary.metrics


def _refuse_unused(inputs: InputOptions, model: ModelOptions, report: ReportOptions) -> None:
    """Refuse what shards are not scored with, and say what to do instead."""
    given = {
        "embeddings (--image-embeddings)": inputs.captions is None,
        "--references": inputs.references_file is not None,
        "--annotations": inputs.annotations is not None,
        "--input-format": inputs.input_format is not None,
        "--cache-dir": model.cache_dir is not None,
        "--per-sample": report.per_sample is not None,
        "--save_per_instance": report.save_per_instance is not None,
        f"--format {report.form}": report.form not in (*RENDERERS, "json"),
    }
    unused = [name for name, is_given in given.items() if is_given]
    if unused:
        raise UsageError(
            f"--engine ray does not take {', '.join(unused)}: shards hold captions and references, and the "
            "scores of single samples are written to shards in the folder --output"
        )


def _rendered(summary: CorpusSummary, form: str) -> str:
    from i0tscore.render.score_view import corpus_document
    from i0tscore.results.report import dumps

    if form == "json":
        return dumps(summary.to_dict(), indent=2) + "\n"
    return rendered(corpus_document(summary), form, None)
