"""Scores of the captions of a set: by a model, by the classic metrics, or from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from human_judgments.arguments import Arguments
from i0tscore.cli.options import ModelOptions
from i0tscore.cli.scoring import make_scorer
from i0tscore.errors import InputError, MissingExtraError
from i0tscore.files import replace_file
from i0tscore.metrics.classic import CLASSIC_METRICS, classic_scores, classic_signature
from i0tscore.metrics.metric import Metric
from i0tscore.metrics.sample_sets import score_with
from i0tscore.results import Signature
from i0tscore.samples.ratings import read_scores_of
from i0tscore.samples.sample import Sample

Column = NDArray[np.float64]

FREE = ("I0TScore", "CLIPScore", "DNScore", "CovarianceI0TScore", "I0TScore(clip=yes,weight=2)")
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
    result = score_with(scorer, samples, references=wanted)
    for name, metric in result.items():
        scores.values[name] = metric.values
        scores.signatures[name] = str(metric.signature)
        undefined = int(np.isnan(metric.values).sum())
        if undefined:
            scores.notes.append(f"{name} is undefined for {undefined} captions, which are left out of its row")
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
        scores.signatures[name] = str(classic_signature(name, len(samples)))


def _from_file(scores: Scores, file: Path) -> None:
    """Take scores from a table with image, caption and one column a metric, for every caption."""
    for name, values in read_scores_of(file, scores.samples, gaps=True).items():
        scores.values[name] = values
        scores.signatures[name] = str(Signature(name, (("file", file.name), ("n", str(len(values))))))


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
