"""``i0tscore score``: scores of a caption file, or of shards on a Ray cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.console import check_output, say, write_output
from i0tscore.cli.options import (
    PATH,
    InputOptions,
    Inputs,
    IntervalOptions,
    ModelOptions,
    ReferencedInputOptions,
    ReferencedReadingOptions,
    format_option,
    make_scorer,
    metric_option,
    read_inputs,
    render,
    statistics_option,
    verb,
)
from i0tscore.errors import I0TScoreError, InputError, UsageError
from i0tscore.options import option
from i0tscore.render import RENDERERS

if TYPE_CHECKING:
    from i0tscore.encoders.encode import EncodedRun
    from i0tscore.metrics.scorer import I0TScorer
    from i0tscore.results import Resampling, Result
    from i0tscore.results.result import MetricSummary
    from i0tscore.samples.schema import ReadOptions

MAX_SHOWN = 50
"""Up to this number of samples, text and Markdown show each of them by default."""


class Threshold(click.ParamType):  # type: ignore[type-arg]
    """``METRIC=VALUE`` as a pair of name and number; the name may contain ``=``."""

    name = "METRIC=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Split at the last ``=``."""
        if isinstance(value, tuple):
            return value
        metric, _, bound = value.rpartition("=")
        try:
            number = float(bound)
        except ValueError:
            number = float("nan")
        if not metric or number != number:
            self.fail(f"Expected a metric and a number, as in I0TScore=0.3, got {value!r}.", param, ctx)
        return metric.strip(), number


@dataclass
class ScoreOptions:
    """What is computed, where, and how it is shown.

    Raises:
        UsageError: An option has no effect on the format.
    """

    statistics: str = statistics_option()
    metric: tuple[str, ...] = metric_option()
    format: str = format_option(*RENDERERS, "json", "jsonl", "csv")
    output: Path | None = option("Write to FILE instead of stdout.", path="FILE")
    per_sample: bool | None = option(
        "Show every sample.",
        default_text=f"up to {MAX_SHOWN} samples; always for json",
        names="--per-sample/--no-per-sample",
    )
    report_samples: int | None = option(
        "Maximum number of thumbnails in --format html: the lowest, the highest, and random scores.",
        default_text="500",
        minimum=0,
    )
    explain: int = option(
        "Explain the N lowest scores of the first metric by words and regions, like the command explain.",
        0,
        minimum=0,
    )
    ranks: bool | None = option(
        "Rank each caption among all captions of the run for its image (takes quadratic time).",
        default_text="up to 4 billion image–caption pairs",
        names="--ranks/--no-ranks",
    )
    save_per_instance: Path | None = option("", type=PATH, hidden=True, names="--save_per_instance")
    compute_other_ref_metrics: str = option(
        "", "0", hidden=True, names="--compute_other_ref_metrics", choices=("0", "1")
    )
    fail_below: tuple[tuple[str, float], ...] = option(
        "Exit with code 1 if the mean of METRIC is below VALUE. Repeatable.", (), type=Threshold(), multiple=True
    )
    engine: str = option(
        "ray: score shards (.parquet, .tar, or a folder of them) on a Ray cluster; --output is a folder.",
        "local",
        choices=("local", "ray"),
    )
    actors: int | None = option("Ray actors.", default_text="as many as the cluster has resources for", minimum=1)

    def __post_init__(self) -> None:
        """Check for conflicting options."""
        if self.report_samples is not None and (self.format != "html" or self.engine == "ray"):
            raise UsageError("--report-samples requires --format html without --engine ray. Leave it out.")


@verb("Score captions against their images (the default command).")
def score(
    inputs: ReferencedInputOptions,
    reading: ReferencedReadingOptions,
    options: ScoreOptions,
    intervals: IntervalOptions,
    model: ModelOptions,
) -> int:
    """Score the captions in the file CAPTIONS against the images in the folder IMAGES.

    CAPTIONS is a caption file, or - for standard input. Formats are JSON, JSON lines, CSV, TSV, Excel, Karpathy
    splits, COCO annotations and results, answers of vision-language models, Hugging Face datasets, WebDataset
    archives, and clip-retrieval embeddings. Without IMAGES, images are looked up next to CAPTIONS.
    """
    if options.engine == "ray":
        failures = _score_shards(inputs, reading, options, intervals.resampling, model)
    else:
        failures = _score_samples(inputs, reading, options, intervals.resampling, model)
    for failure in failures:
        say("error", failure)
    return I0TScoreError.exit_code if failures else 0


def _score_samples(
    inputs: InputOptions, reading: ReadOptions, options: ScoreOptions, resampling: Resampling, model: ModelOptions
) -> list[str]:
    """Score samples and write the result; return messages for the means that are too low."""
    from i0tscore.views.score_view import per_instance_json

    if options.actors is not None:
        raise UsageError("--actors requires --engine ray.")
    check_output(options.output)
    check_output(options.save_per_instance)
    if options.per_sample is False and options.format in ("jsonl", "csv", "html"):
        raise UsageError(f"--format {options.format} always lists the samples. Leave out --no-per-sample.")

    if options.explain and (inputs.read_embeddings or options.format == "csv"):
        what = "--format csv" if options.format == "csv" else "embeddings"
        raise UsageError(f"--explain requires images and captions, and is not available for {what}. Leave it out.")

    found = read_inputs(inputs, reading, model)
    classic = [_classic_note(found)] if options.compute_other_ref_metrics == "1" else []
    scorer = make_scorer(
        model,
        inputs.on_error,
        statistics=options.statistics,
        metrics=options.metric or None,
        ranks=options.ranks,
        **asdict(resampling),
    )
    # What a metric needs and the file lacks is found before encoding.
    metrics = scorer.metrics_for(found.references is not None, found.contexts is not None)
    _check_bounds(options.fail_below, list(map(str, metrics)))
    run = scorer.encode(found.images, found.captions, found.references, found.ids, found.contexts)
    result = scorer.evaluate(run)
    if options.explain:
        result = _explained(result, run, options.explain, scorer, found, model)
    result = result.with_skipped(found.skipped, [*found.notes, *classic])
    if found.texts:
        result = replace(result, captions=found.texts)
    failures = _failures(options.fail_below, result)
    if options.save_per_instance is not None:
        write_output(per_instance_json(result), options.save_per_instance)
    write_output(_formatted(result, options, None if inputs.read_embeddings else found), options.output)
    if options.format in ("jsonl", "csv") and not model.quiet:  # these formats do not list skipped samples
        for skipped in result.skipped:
            say("warning", f"skipped {skipped.id}: {skipped.reason}")
    return failures


def _classic_note(found: Inputs) -> str:
    """Return a note with the classic metrics of all captions together, as ``clipscore.py`` prints them.

    Raises:
        InputError: None can be computed on this machine.
        UsageError: There are no references.
    """
    from i0tscore.metrics.classic import classic_scores

    if found.references is None:
        raise UsageError("--compute_other_ref_metrics compares captions with references. Give --references FILE.")
    scores = classic_scores(found.captions, found.references)
    reasons = "; ".join(f"{name} {reason}" for name, reason in scores.unavailable.items())
    if not scores.corpus:
        raise InputError(f"--compute_other_ref_metrics: {reasons}")
    values = ", ".join(f"{name} {value:.4f}" for name, value in scores.corpus.items())
    return (
        f"Classic metrics of all {len(found.captions):,} captions (pycocoevalcap): {values}.{reasons and f' {reasons}'}"
    )


def _explained(
    result: Result, run: EncodedRun, count: int, scorer: I0TScorer, found: Inputs, model: ModelOptions
) -> Result:
    """Return a result with explanations of its lowest scores, under the statistics of the run."""
    from i0tscore.explanation import explain_worst

    statistics = scorer.statistics or replace(scorer.fit_run(run, name="batch", reference=False), per_run=True)
    same = replace(model, model=scorer.encoder)
    single = make_scorer(same, "raise", statistics=statistics, metrics=tuple(result), resamples=0, ranks=False)
    references = found.references or [()] * len(found.ids)
    samples = zip(found.ids, found.captions, found.images, references, strict=True)
    # Samples may have been skipped; the others are in the same order.
    kept = [next(one for one in samples if one[:2] == own) for own in zip(result.ids, result.captions, strict=True)]
    images, own_references = [one[2] for one in kept], [one[3] for one in kept]
    return explain_worst(single, result, count, images, own_references if found.references else None)


def _formatted(result: Result, options: ScoreOptions, found: Inputs | None) -> str | Iterable[str]:
    """Return a result in the format of the options; ``found`` holds the images, None for embeddings."""
    from i0tscore.views.score_view import score_csv, score_document

    if options.format == "json":
        return result.to_json(per_sample=options.per_sample is not False) + "\n"
    if options.format == "jsonl":
        return result.json_lines()
    if options.format == "csv":
        return score_csv(result)
    if options.format == "html":
        images = None if found is None else found.images
        if found is not None and len(found.images) != result.n:  # samples were skipped
            images = dict(zip(found.ids, found.images, strict=True))
        return result.to_html(images=images, thumbnails=options.report_samples)
    per_sample = result.n <= MAX_SHOWN if options.per_sample is None else options.per_sample
    return render(score_document(result, per_sample=per_sample), options.format, options.output)


def _score_shards(
    inputs: InputOptions, reading: ReadOptions, options: ScoreOptions, resampling: Resampling, model: ModelOptions
) -> list[str]:
    """Score shards on a Ray cluster, with the summary on stdout; return messages for the means that are too low."""
    given = {
        "--image-embeddings": inputs.image_embeddings,
        "--references": inputs.references,
        "--cache-dir": model.cache_dir,
        "--per-sample": options.per_sample,
        "--ranks": options.ranks,
        "--save_per_instance": options.save_per_instance,
        "--compute_other_ref_metrics": options.compute_other_ref_metrics == "1" or None,
        "--explain": options.explain or None,
        f"--format {options.format}": None if options.format in (*RENDERERS, "json") else options.format,
    }
    unused = [*(name for name, value in given.items() if value is not None), *reading.changed]
    if unused:
        raise UsageError(
            f"--engine ray does not support {', '.join(unused)}. Shards hold captions and references; scores of "
            "samples are written to shards in the folder --output."
        )

    from i0tscore.integrations.ray import score as score_shards
    from i0tscore.results.report import dumps
    from i0tscore.views.score_view import corpus_document

    captions = inputs.captions or Path()
    encoding = model.encoding(inputs.on_error) | {"cache_dir": None}
    if model.weights is not None:
        encoding["weights"] = Path(model.weights).absolute()
    summary = score_shards(
        captions,
        output=options.output or captions.with_name(f"{captions.absolute().stem}.scores"),
        images=inputs.images,
        actors=options.actors,
        statistics=options.statistics,
        metrics=options.metric or None,
        preset=model.preset,
        **encoding,
        **asdict(resampling),
    )
    if options.format == "json":
        write_output(dumps(summary.to_dict(), indent=2) + "\n")
    else:
        write_output(render(corpus_document(summary), options.format))
    return _failures(options.fail_below, summary.metrics)


def _check_bounds(fail_below: tuple[tuple[str, float], ...], computed: Collection[str]) -> list[tuple[str, float]]:
    """Return the bounds with the full names of their metrics.

    Raises:
        UsageError: A metric is not computed.
    """
    from i0tscore.metrics.metric import Metric

    bounds = [(str(Metric.parse(name)), bound) for name, bound in fail_below]
    for name, _ in bounds:
        if name not in computed:
            raise UsageError(f"--fail-below {name}: Not computed. Choose from {', '.join(computed)}, or add --metric.")
    return bounds


def _failures(fail_below: tuple[tuple[str, float], ...], result: Mapping[str, MetricSummary]) -> list[str]:
    """Return a message for each mean below its bound; raises as ``_check_bounds``."""
    failures = []
    for name, bound in _check_bounds(fail_below, result):
        mean = result[name].mean
        if mean is None or mean < bound:
            failures.append(f"{name} is {'undefined' if mean is None else f'{mean:.6g}'}, below {bound:g}")
    return failures
