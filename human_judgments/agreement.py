"""Scores of a rating set, their agreement with its ratings or preferences, and the report."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from human_judgments.averaged import averaged_data
from human_judgments.report import Data, Page, bullets, command_block, dot_plot, intervals_note, p_value, percent
from human_judgments.script import Arguments, script
from i0tscore.cli.options import make_scorer
from i0tscore.errors import InputError, MissingExtraError
from i0tscore.files import replace_file
from i0tscore.metrics.classic import CLASSIC_METRICS, classic_scores, classic_signature
from i0tscore.metrics.metric import parse_metrics
from i0tscore.metrics.sample_sets import LENGTH, TEXT_METRICS, score_with, word_counts
from i0tscore.render.document import UNDEFINED, Table
from i0tscore.results import Signature
from i0tscore.results.correlation import CorrelationName, CorrelationReport, correlation_report
from i0tscore.results.preferences import preference_report
from i0tscore.samples.preferences import PreferenceSet
from i0tscore.samples.rating_sets import KNOWN_SETS, PUBLISHED, KnownSet, read_known_set, verify
from i0tscore.samples.ratings import RatingSet, read_scores_of
from i0tscore.samples.sample import Sample
from i0tscore.views.report_views import RATERS, RATERS_NOTE, SYMBOLS, published_table

Column = NDArray[np.float64]
Block = str | Table

METRICS = ("I0TScore", "CLIPScore", "DNScore", "CovarianceI0TScore", "I0TScore(clip=yes,weight=2)")
REFERENCE_METRICS = (
    "RefI0TScore",
    "RefI0TScore(reference_rule=mean)",
    "RefI0TScore(reference_rule=mean3)",
    "RefCLIPScore",
)

SAME_KIND = (
    "`lite`'s heads are trained on Flickr8k's training split, whose images and captions are of the same kind as those "
    "rated here. Its figures are not zero-shot; do not compare them with zero-shot figures."
)
OTHER_KIND = (
    "`lite`'s heads are trained on Flickr8k's training split, which is of another kind than this set. It is a small "
    "model and not CLIP."
)


@dataclass(slots=True)
class Scores:
    """Scores of samples.

    Attributes:
        samples: The scored samples (n).
        values: Scores by metric (n,).
        signatures: Signatures by metric.
        unavailable: Reasons why other metrics have no scores.
        notes: Notes for the reader.
    """

    samples: Sequence[Sample]
    values: dict[str, Column] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, samples: Sequence[Sample]) -> dict[str, Column]:
        """Return the scores of samples that have the image and caption of a scored one."""
        position = {_key(sample): i for i, sample in enumerate(self.samples)}
        rows = [position[_key(sample)] for sample in samples]
        return {name: values[rows] for name, values in self.values.items()}


def score_samples(samples: Sequence[Sample], arguments: Arguments) -> Scores:
    """Score samples by a model, from a file, and by the classic metrics, as the options say.

    Raises:
        InputError: No metric could be computed.
    """
    scores = Scores(samples)
    referenced = all(sample.references for sample in samples)
    if arguments.model is not None:
        names = [name for name in arguments.metrics if name not in TEXT_METRICS]
        _score_by_model(scores, arguments, names or METRICS + (REFERENCE_METRICS if referenced else ()))
    if arguments.scores is not None:
        for name, values in read_scores_of(arguments.scores, samples, gaps=True).items():
            scores.values[name] = values
            fields = (("file", arguments.scores.name), ("n", str(len(values))))
            scores.signatures[name] = str(Signature(name, fields))
    requested = arguments.metrics or (CLASSIC_METRICS if arguments.classic else ())
    if LENGTH in requested and LENGTH not in scores.values:
        scores.values[LENGTH] = word_counts(samples)
    classic = [name for name in CLASSIC_METRICS if name in requested and name not in scores.values]
    if classic and referenced:
        _score_classic(scores, classic)
    elif classic:
        scores.unavailable.update(dict.fromkeys(classic, "needs references, and this set has none"))
    if not scores.values:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in scores.unavailable.items())
        raise InputError(f"No metric could be computed ({reasons or 'none was requested'}).")
    if arguments.save_scores is not None:
        _save(scores, arguments.save_scores)
    return scores


def _score_by_model(scores: Scores, arguments: Arguments, names: Sequence[str]) -> None:
    model = arguments.required_model()
    scorer = make_scorer(model, "raise", statistics=arguments.statistics, metrics=names, resamples=0)
    references = any(metric.needs_references for metric in parse_metrics(names))
    result = score_with(scorer, scores.samples, references=references)
    for name, metric in result.items():
        scores.values[name] = metric.values
        scores.signatures[name] = str(metric.signature)
        if undefined := int(np.isnan(metric.values).sum()):
            scores.notes.append(f"{name} is undefined for {undefined} captions, which are left out of its row.")
    if result.tokens_cut is not None and (cut := int((result.tokens_cut > 0).sum())):
        scores.notes.append(f"{cut} captions exceed the model's context length and are truncated.")


def _score_classic(scores: Scores, names: Sequence[str]) -> None:
    samples = scores.samples
    try:
        found = classic_scores([s.caption for s in samples], [s.references for s in samples], names)
    except MissingExtraError as error:
        scores.unavailable.update(dict.fromkeys(names, str(error)))
        return
    scores.unavailable.update(found.unavailable)
    for name, values in found.values.items():
        scores.values[name] = values
        scores.signatures[name] = str(classic_signature(name, len(samples)))


def _save(scores: Scores, file: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "caption", *scores.values])
    for i, sample in enumerate(scores.samples):
        cells = [values[i] for values in scores.values.values()]
        row = ["" if np.isnan(value) else repr(float(value)) for value in cells]
        writer.writerow([sample.image.name, sample.caption, *row])
    replace_file(file, text.getvalue().encode())


def _key(sample: Sample) -> tuple[str, str]:
    return sample.image.name, " ".join(sample.caption.split())


def rating_script(name: str, *extra: Callable[[Any], Any]) -> click.Command:
    """Return the command of a set in ``KNOWN_SETS``; extra options are arguments of ``read_known_set``."""
    known = KNOWN_SETS[name]

    def measure(arguments: Arguments, **options: Any) -> tuple[str, Data]:
        found, path, files = read_set(known, arguments, **options)
        return measure_agreement(known, found, arguments, path=path, files=files)

    measure.__doc__ = known.help
    return script(f"human_judgments.{name}", render, *extra)(measure)


def read_set(
    known: KnownSet, arguments: Arguments, **options: Any
) -> tuple[RatingSet | PreferenceSet, Path, dict[str, Path]]:
    """Read a set from ``--data`` or the default folder, or from the hub if it is not there."""
    data = arguments.data or arguments.local_file(known.files, known.origin)
    look_up = arguments.model is not None
    return read_known_set(known, data, arguments.images, look_up=look_up, offline=arguments.offline, **options)


def measure_agreement(
    known: KnownSet,
    found: RatingSet | PreferenceSet,
    arguments: Arguments,
    *,
    path: Path,
    files: Mapping[str, Path] | None = None,
    remarks: Sequence[str] = (),
) -> tuple[str, Data]:
    """Verify a set, score it, and measure the agreement of the scores with its ratings or preferences.

    Args:
        known: What is known of the set.
        found: The set.
        arguments: Options.
        path: Where it was read from.
        files: Its files by name, to compare their hashes.
        remarks: Notes in addition to those of ``known``.

    Returns:
        The name of the report's files and its data, schema ``i0tscore.agreement/1``.
    """
    differing = verify(found.counts, known, path, files or {}, allow_other_counts=arguments.allow_other_counts)
    counts = found.counts
    found = found if arguments.limit is None else found.limited(arguments.limit)
    scores = score_samples(found.samples, arguments)
    notes = [*known.remarks, *remarks, *found.notes, *differing, *scores.notes]
    if isinstance(found, RatingSet):
        figures = {"headline": known.headline, **agreement_data(found, scores, arguments, known.headline)}
    else:
        pairs = found.with_scores(scores.values, scores.signatures)
        report = preference_report(pairs, baseline=arguments.baseline, resampling=arguments.resampling).to_dict()
        figures = {name: report[name] for name in ("headline", "metrics")}
    return report_data(known, arguments, counts, scores, figures, notes)


def agreement_data(
    ratings: RatingSet, scores: Scores, arguments: Arguments, headline: CorrelationName
) -> dict[str, Any]:
    """Return the agreement of scores with ratings of the scored captions, or of some of them, as plain data."""
    rated = ratings.with_scores(scores.of(ratings.samples), scores.signatures)
    resampling = arguments.resampling
    report = correlation_report(rated, headline=headline, baseline=arguments.baseline, resampling=resampling)
    data = report.to_dict()
    for name, figures in averaged_data(rated, headline, resampling).items():
        data["metrics"][name] |= figures
    parts = {part.partition("=")[2]: figures for part, figures in data["parts"].items()}
    systems = {"systems": data["systems"]} if "systems" in data else {}
    return {"metrics": data["metrics"], "raters": data["raters"], "parts": parts, **systems}


def report_data(
    known: KnownSet,
    arguments: Arguments,
    counts: Mapping[str, int],
    scores: Scores,
    figures: Data,
    notes: Sequence[str],
) -> tuple[str, Data]:
    """Return the name of a report's files, and its figures between what the set is and how it was scored."""
    published = {"published": [row._asdict() for row in PUBLISHED.get(known.name, ())]}
    return arguments.stem(known.name), {
        "schema": CorrelationReport.SCHEMA,
        "set": known.name,
        "title": known.title,
        "origin": known.origin,
        "counts": dict(counts),
        "command": arguments.command,
        "model": arguments.label,
        "resampling": asdict(arguments.resampling),
        **figures,
        **({} if "questions" in figures else published),
        "unavailable": scores.unavailable,
        "notes": list(notes),
        "signatures": scores.signatures,
    }


def render(data: Data) -> Page:
    """Render the report of a set of ratings or preferences."""
    headline, metrics = data["headline"], data["metrics"]
    symbol = SYMBOLS.get(headline, headline)
    if headline == "accuracy":
        text = "Accuracy: share of pairs, × 100, whose preferred caption scores higher; equal scores count half."
        blocks: list[Block] = [f"{text} {intervals_note(data, 'images')}", preference_table(metrics)]
        estimates = {name: metric["accuracy"] for name, metric in metrics.items()}
    else:
        text = "Correlations × 100. Ties: share of pairs with different ratings whose scores are equal."
        raters = f" {RATERS_NOTE}" if data["raters"] else ""
        blocks = [
            f"{text} {intervals_note(data, 'images')}{raters}",
            *agreement_blocks(data, headline, data["resampling"]["resamples"]),
        ]
        estimates = {name: metric[headline] for name, metric in metrics.items()}
    blocks += published_blocks(data)
    kind = "preferences" if headline == "accuracy" else "ratings"
    published = {row["metric"]: row["value"] / 100 for row in data["published"] if row["figure"] == headline}
    figure = dot_plot(f"{data['title']}: agreement with human {kind}", f"{symbol} × 100", estimates, published)
    return Page(report_title(data), [introduction(data), *blocks, *conditions(data)], figure)


def published_blocks(data: Data) -> list[Block]:
    """Return the section of published figures; empty if there are none."""
    table = published_table(data["published"])
    heading = "## Published figures\n\nMeasured by others under the conditions stated, not here; × 100."
    return [] if table is None else [heading, table]


def report_title(data: Data) -> str:
    """Return the title of a report."""
    sources = {"scores": "scores from a file", "classic": "classic metrics"}
    return f"{data['title']}: agreement with human judgments, {sources.get(data['model'], 'model ' + data['model'])}"


def introduction(data: Data) -> str:
    """Return what the set is and the command that computes the report."""
    counts = ", ".join(f"{name} {count:,}" for name, count in data["counts"].items())
    return f"Data: {data['origin']}.\n\nCounts: {counts}.\n\n{command_block(data)}"


def conditions(data: Data) -> list[Block]:
    """Return the last section of a report: notes, missing metrics and signatures."""
    blocks = ["## Conditions and signatures"]
    if data["model"] == "lite":
        blocks.append(SAME_KIND if data["set"].startswith("flickr8k") else OTHER_KIND)
    reasons: dict[str, list[str]] = {}
    for name, reason in data["unavailable"].items():
        reasons.setdefault(reason, []).append(name)
    notes = [*data["notes"], *(f"not available: {', '.join(names)} ({reason})" for reason, names in reasons.items())]
    signatures = ["\n".join(["```", *data["signatures"].values(), "```"])] if data["signatures"] else []
    return [*blocks, *([bullets(notes)] if notes else []), *signatures]


def agreement_blocks(
    data: Data, headline: CorrelationName, resamples: int, averaging: str = "which the published figures do not do"
) -> list[Block]:
    """Return the tables of agreement, differences from the baseline, preference accuracy, and parts.

    Args:
        data: As ``agreement_data`` returns it.
        headline: Correlation of the tables after the first.
        resamples: Number of resamples, which limits how small a p-value can be.
        averaging: Remark on averaging the ratings of an item.
    """
    symbol, metrics = SYMBOLS[headline], data["metrics"]
    blocks: list[Block] = [agreement_table(data)]
    differences = {name: metric["difference"] for name, metric in metrics.items() if "difference" in metric}
    if differences:
        baseline = next(iter(differences.values()))["from"]
        rows = [
            [name, percent(d, signed=True), p_value(d["p"], resamples), p_value(d["p_holm"], resamples)]
            for name, d in differences.items()
        ]
        blocks += [
            f"Difference in {symbol} from {baseline} on the same ratings, by paired bootstrap. p is two-sided; Holm's "
            "p is corrected for the comparisons in this table.",
            Table(["metric", "difference", "p", "Holm's p"], rows),
        ]
    averaged = {name: metric["averaged_ratings"] for name, metric in metrics.items() if "averaged_ratings" in metric}
    if averaged:
        values = ", ".join(
            f"{name} {UNDEFINED if value is None else format(100 * value, '.1f')}" for name, value in averaged.items()
        )
        blocks.append(f"If the ratings of each item were averaged first, {averaging}, {symbol} would be: {values}.")
    if accuracy := {name: m["preference_accuracy"] for name, m in metrics.items() if "preference_accuracy" in m}:
        blocks += [
            "Preference accuracy: share of pairs of captions of one image in one situation whose scores are in the "
            "order of their mean ratings. Equal scores count half, equal ratings are left out.",
            Table(
                ["metric", "accuracy", "pairs"],
                [[name, percent(one), str(one["pairs"])] for name, one in accuracy.items()],
            ),
        ]
    if data["parts"]:
        rows = [[part, *(percent(own[name]) for name in metrics)] for part, own in data["parts"].items()]
        blocks += [f"{symbol} by part of the set:", Table(["part", *metrics], rows)]
    if systems := data.get("systems"):
        names = list(next(iter(systems.values())))
        blocks += [
            "Between systems: correlation × 100 of the mean score and the mean rating of each system. The intervals "
            "vary the images, not the systems.",
            Table(
                ["metric", *(SYMBOLS[name] for name in names)],
                [[metric, *(percent(own[name]) for name in names)] for metric, own in systems.items()],
            ),
        ]
    return blocks


def agreement_table(data: Data) -> Table:
    """Return a table of metrics by correlation, with ties and counts; the raters' own agreement comes last."""
    metrics = data["metrics"] | ({RATERS: data["raters"]} if data["raters"] else {})
    names = [name for name in SYMBOLS if name in next(iter(metrics.values()))]
    rows = [
        [name, *(percent(m[c]) for c in names), f"{m['ties']:.1%}", f"{m['n']:,}", f"{m['groups']:,}"]
        for name, m in metrics.items()
    ]
    return Table(["metric", *(SYMBOLS[name] for name in names), "ties", "n", "images"], rows)


def preference_table(metrics: Data) -> Table:
    """Return a table of accuracy by metric and category, with the difference from the baseline."""
    parts = list(dict.fromkeys(part for metric in metrics.values() for part in metric["parts"]))
    # The baseline is the one metric without a difference where others have one.
    baselines = [name for name, m in metrics.items() if not m["difference"]]
    compared = len(baselines) < len(metrics)
    header = ["metric", *parts, "all", *[f"difference from {baselines[0]}"] * compared, "ties", "pairs"]
    rows = []
    for name, m in metrics.items():
        row = [name, *(percent(m["parts"].get(part)) for part in parts), percent(m["accuracy"])]
        row += [percent(m["difference"], signed=True)] * compared
        rows.append([*row, f"{m['ties']:.1%}", f"{m['n']:,}"])
    return Table(header, rows)
