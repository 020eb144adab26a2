"""Scores of the captions of a set: by a model, by the classic metrics, or from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from human_judgments.arguments import Arguments
from i0tscore.cli.console import replace_file
from i0tscore.cli.options import ModelOptions
from i0tscore.cli.scoring import make_scorer
from i0tscore.errors import InputError, MissingExtraError, SampleFileError
from i0tscore.metrics.classic import CLASSIC_METRICS, classic_scores
from i0tscore.metrics.metric import Metric
from i0tscore.results import Signature
from i0tscore.samples.rows import Findings, Place, shown
from i0tscore.samples.sample import Sample
from i0tscore.samples.tables import table_records

Column = NDArray[np.float64]

FREE = ("I0TScore", "CLIPScore", "DNScore", "I0TScore(clip=yes,weight=2)")
WITH_REFERENCES = ("RefI0TScore", "RefI0TScore(reference_rule=mean)", "RefCLIPScore")


@dataclass(slots=True)
class Scores:
    """Scores of samples.

    Attributes:
        samples: What was scored (n).
        values: By metric (n,).
        signatures: How each metric's numbers were made.
        unavailable: Why other metrics have none.
        notes: What a reader should know.
    """

    samples: Sequence[Sample]
    values: dict[str, Column] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def of(self, samples: Sequence[Sample]) -> dict[str, Column]:
        """The scores of some of the same captions, in another order.

        Args:
            samples: Each with the image and caption of one that was scored.
        """
        position = {_key(sample): i for i, sample in enumerate(self.samples)}
        rows = [position[_key(sample)] for sample in samples]
        return {name: values[rows] for name, values in self.values.items()}


def score_samples(samples: Sequence[Sample], arguments: Arguments) -> Scores:
    """Score captions by every metric asked for.

    Args:
        samples: Images, captions and references.
        arguments: Which metrics, and where their scores come from.
    """
    scores = Scores(samples)
    referenced = all(sample.references for sample in samples)
    asked = arguments.metrics
    if arguments.model is not None:
        usual = FREE + (WITH_REFERENCES if referenced else ())
        names = [name for name in asked if name not in CLASSIC_METRICS] or usual
        _by_model(scores, arguments, arguments.model, names)
    if arguments.scores is not None:
        _from_file(scores, arguments.scores)
    classic = [name for name in CLASSIC_METRICS if name in asked] or (
        CLASSIC_METRICS if arguments.classic and not asked else ()
    )
    classic = [name for name in classic if name not in scores.values]
    if classic and referenced:
        _by_words(scores, classic)
    elif classic:
        scores.unavailable.update(dict.fromkeys(classic, "needs references, and this set has none"))
    if not scores.values:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in scores.unavailable.items())
        raise InputError(f"no metric could be computed ({reasons or 'none was asked for'})")
    if arguments.save_scores is not None:
        _save(scores, arguments.save_scores)
    return scores


def _by_model(scores: Scores, arguments: Arguments, model: ModelOptions, names: Sequence[str]) -> None:
    scorer = make_scorer(model, on_error="raise", statistics=arguments.statistics, metrics=names, resamples=0)
    samples = scores.samples
    # References are only encoded where a metric looks at them.
    wanted = any(Metric.parse(name).needs_references for name in names)
    result = scorer.score(
        [sample.image for sample in samples],
        [sample.caption for sample in samples],
        [sample.references for sample in samples] if wanted else None,
        [sample.id for sample in samples],
    )
    for name, metric in result.items():
        scores.values[name] = metric.values
        scores.signatures[name] = str(metric.signature)
        undefined = int(np.isnan(metric.values).sum())
        if undefined:
            scores.notes.append(
                f"{name} is undefined for {undefined} captions, which are left out of its row"
            )
    cut = result.tokens_cut
    if cut is not None and (cut > 0).any():
        scores.notes.append(f"captions longer than the model takes, cut: {int((cut > 0).sum())}")


def _by_words(scores: Scores, names: Sequence[str]) -> None:
    samples = scores.samples
    try:
        found = classic_scores([s.caption for s in samples], [s.references for s in samples], names)
    except MissingExtraError as error:
        scores.unavailable.update(dict.fromkeys(names, str(error)))
        return
    scores.unavailable.update(found.unavailable)
    for name, values in found.values.items():
        scores.values[name] = values
        made = (("lib", f"pycocoevalcap-{version('pycocoevalcap')}"), ("tok", "ptb-3.4.1"))
        scores.signatures[name] = str(Signature(name, (*made, ("n", str(len(samples))))))


def _from_file(scores: Scores, file: Path) -> None:
    """Take scores from a CSV file with image, caption and one column a metric, for every caption."""
    findings = Findings()
    records = table_records(file, findings, ",", _is_score_file)
    found: dict[tuple[str, str], dict[str, float]] = {}
    for line, record in records:
        key = Path(record.pop("image")).name, " ".join(record.pop("caption").split())
        try:
            found[key] = {name: float(cell) if cell.strip() else np.nan for name, cell in record.items()}
        except ValueError as error:
            findings.reject(Place(line, f"line {line}"), f"{error}: correct it")
    missing = [sample for sample in scores.samples if _key(sample) not in found]
    for sample in missing if found else []:
        findings.refuse(f"no score of {shown(sample.image.name)}, {shown(sample.caption)}: add it")
    findings.conclude(file, list(scores.samples) if records else [], skip=False)
    names = list(next(iter(found.values()), {}))
    if not names:
        raise SampleFileError(file, ["no column of scores: add one beside image and caption"])
    for name in names:
        scores.values[name] = np.array([found[_key(sample)][name] for sample in scores.samples])
        scores.signatures[name] = str(Signature(name, (("file", file.name), ("n", str(len(scores.samples))))))


def _is_score_file(header: list[str], findings: Findings) -> bool:
    missing = [name for name in ("image", "caption") if name not in header]
    for name in missing:
        findings.refuse(f'no column "{name}": add it')
    if len(set(header)) < len(header):
        findings.refuse("a column comes more than once: keep one")
    return not missing and len(set(header)) == len(header)


def _save(scores: Scores, file: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "caption", *scores.values])
    for i, sample in enumerate(scores.samples):
        cells = (values[i] for values in scores.values.values())
        written = ["" if np.isnan(value) else repr(float(value)) for value in cells]
        writer.writerow([sample.image.name, sample.caption, *written])
    replace_file(file, text.getvalue().encode())


def _key(sample: Sample) -> tuple[str, str]:
    return sample.image.name, " ".join(sample.caption.split())
