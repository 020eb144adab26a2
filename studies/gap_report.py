"""From embeddings and standardizers to a report on the gap and the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from human_judgments.arguments import Arguments
from human_judgments.plot import Chart
from human_judgments.report import Report, bullets, resampling_note
from i0tscore.render.gap_view import LEGEND, describe_separability
from i0tscore.results import Resampling
from i0tscore.results.retrieval import DEPTHS
from studies.gap_blocks import (
    Differences,
    band_blocks,
    difference_table,
    gap_table,
    published_table,
    recall_table,
    replication_blocks,
    size_reading,
    size_table,
    task_table,
    verdicts,
)
from studies.gap_conditions import SEED
from studies.gap_study import (
    FORMS,
    Corpus,
    Measured,
    Vectors,
    differences,
    expert_estimate,
    measure,
    sample_sizes,
)
from studies.standardizer_study import Condition

SCHEMA = "i0tscore.gap_report/1"
SIZES = (32, 64, 128, 256, 512, 1024, 2048, 6000)
DRAWS = 5


@dataclass(frozen=True, slots=True)
class Study:
    """What is to be measured and how it is to be told.

    Attributes:
        stem: File name of the report, without its suffix.
        title: First line.
        introduction: What the data are.
        corpus: What is measured on.
        conditions: Standardizers with their statistics, ``none`` first.
        ablation: ``async`` in variants, if any.
        condition_of: By standardizer the condition that is set against published figures, which are
            in-sample.
        pairs: Images (m, d) and captions (m, d) that means are drawn from.
        sizes: How many pairs are tried.
        notes: What a reader should know.
        signature: What decides the embeddings.
        whole: All pairs and standardizers with their own statistics, where ``corpus`` is too small for LS.
    """

    stem: str
    title: str
    introduction: str
    corpus: Corpus
    conditions: Sequence[Condition]
    ablation: Sequence[Condition]
    condition_of: Mapping[str, str]
    pairs: tuple[Vectors, Vectors]
    sizes: Sequence[int]
    notes: Sequence[str]
    signature: Mapping[str, str] = field(default_factory=dict)
    whole: tuple[Corpus, Sequence[Condition]] | None = None


def report(study: Study, arguments: Arguments) -> Report:
    """Measure everything and write it down."""
    resampling = arguments.resampling
    found = {condition.name: measure(condition, study.corpus, resampling) for condition in study.conditions}
    ablation = {one.name: measure(one, study.corpus, resampling) for one in study.ablation}
    compared = differences(found, resampling)
    sizes = sample_sizes(*study.pairs, study.corpus, study.sizes, DRAWS)
    whole = _whole(study, resampling)
    banded, bands = band_blocks({**found, **whole}, {**study.condition_of, **_names(study.whole)})
    paragraph, replicated = replication_blocks(compared, study.condition_of)
    blocks = [
        f"{study.introduction} Made by\n\n```console\n$ {arguments.command}\n```",
        f"Recalls, accuracies and τ-c × 100. {resampling_note(resampling, 'images')}",
        "## The gap, as in Tables 1 and 2 of An et al. 2025",
        gap_table(found),
        f"Between the images and their first captions. {LEGEND}. {_gap_notes(found)} `dn` is measured on "
        "vectors scaled to unit length; `nnn` moves no embedding and has no gap.",
        *_whole_blocks(study, whole),
        "## The tasks, as in the same tables\n\nRetrieval with one caption an image.",
        task_table(found, resampling),
        *_recall_blocks(found, resampling),
        "## Difference from none\n\nOn the same resamples of images; p two-sided, Holm-corrected for the "
        f"comparisons of a column. {_floor_of_p(compared, resampling.resamples)}",
        difference_table(compared, resampling.resamples),
        *_ablation_blocks(ablation, resampling),
        "## How many pairs the means need, as Table 3\n\n`post` with the means of that many pairs, of which "
        f"{DRAWS} shuffles (seeds 0 to {DRAWS - 1}) were drawn: mean and range. CD expected: the formula of "
        "`expected_residual_gap`, which leaves out the noise of the measured pairs themselves. "
        "Theirs: one draw, Flickr30k, 1,000 being the test set itself.",
        size_table(sizes),
        "## What replicates",
        f"{banded} {paragraph} {size_reading(sizes)}",
        bands,
        replicated,
        f"## Published figures\n\nAn et al. 2025, theirs. {published_table()}",
        "## Conditions",
        bullets(study.notes),
    ]
    chart = Chart(
        "From caption to image by standardizer, one caption an image",
        "R@1 × 100",
        {name: one.ranks[1].recall(1, resampling).to_image for name, one in found.items()},
        {},
    )
    data = {
        "schema": SCHEMA,
        "command": arguments.command,
        "encoder": dict(study.signature),
        "resampling": asdict(resampling),
        "conditions": {name: _measured_data(one, resampling) for name, one in found.items()},
        "ablation": {name: _measured_data(one, resampling) for name, one in ablation.items()},
        "whole": {name: _measured_data(one, resampling) for name, one in whole.items()},
        "difference": {task: {name: d.to_dict() for name, d in by_name.items()} for task, by_name in compared.items()},
        "sample_sizes": [asdict(size) for size in sizes],
        "replication": [
            {"theirs": change.said, "task": task, "points": points, "ours": ours.to_dict(), "reading": said}
            for change, task, points, ours, said in verdicts(compared, study.condition_of)
        ],
        "notes": list(study.notes),
    }
    return Report(study.stem, study.title, blocks, data, chart)


def _whole(study: Study, resampling: Resampling) -> dict[str, Measured]:
    if study.whole is None:
        return {}
    corpus, conditions = study.whole
    return {condition.name: measure(condition, corpus, resampling) for condition in conditions}


def _names(whole: tuple[Corpus, Sequence[Condition]] | None) -> dict[str, str]:
    return {} if whole is None else {str(c.standardizer): c.name for c in whole[1]}


def _whole_blocks(study: Study, whole: Mapping[str, Measured]) -> list[str]:
    if study.whole is None:
        return []
    count = len(study.whole[0].images)
    return [
        f"All {count} pairs, with their own statistics (in-sample). {_gap_notes(whole)}",
        gap_table(whole),
    ]


def _ablation_blocks(ablation: Mapping[str, Measured], resampling: Resampling) -> list[str]:
    if not ablation:
        return []
    return [
        "## I0T_async\n\nTwo batch normalizations behind the frozen encoder, trained on embeddings of the "
        "statistics' pairs and therefore without MCSIE, which encodes anew "
        "([with it](../docs/i0t-async.md)). `trained BN` is else the paper's "
        f"recipe, seed {SEED}; the others change one thing.",
        gap_table(ablation),
        task_table(ablation, resampling),
    ]


def _floor_of_p(compared: Differences, resamples: int) -> str:
    """How low p can be at all: what is so low may be lower."""
    if not resamples:
        return ""
    count = max(len(by_name) for by_name in compared.values())
    least = min(1.0, count * 2 / (resamples + 1))
    return (
        f"With {count} comparisons and {resamples:,} resamples no p is lower than about {least:.2f}, "
        "however far from 0 the interval."
    )


def _gap_notes(found: Mapping[str, Measured]) -> str:
    """What LS is to be compared with, and what is undefined."""
    gaps = [one.gap for one in found.values() if one.gap is not None]
    lines = []
    if gaps[0].separability_rows is not None:
        lines.append(f"{describe_separability(gaps[0])}.")
    lines += [f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(n for gap in gaps for n in gap.notes)]
    return " ".join(lines)


def _recall_blocks(found: Mapping[str, Measured], resampling: Resampling) -> list[str]:
    blocks = ["## Retrieval"]
    for each in sorted(next(iter(found.values())).ranks):
        captions = "one caption" if each == 1 else f"{each} captions, any of which is right"
        blocks += [f"{captions.capitalize()} an image:", recall_table(found, each, resampling)]
    return blocks


def _measured_data(found: Measured, resampling: Resampling) -> dict[str, Any]:
    recalls = {
        f"{each} captions": {
            f"R@{depth}": {side: e.to_dict() for side, e in ranks.recall(depth, resampling)._asdict().items()}
            for depth in DEPTHS
        }
        for each, ranks in found.ranks.items()
    }
    gap = None if found.gap is None else found.gap.to_dict()
    data: dict[str, Any] = {"gap": gap, "retrieval": recalls}
    for key, classified in (
        ("classification", found.classification),
        ("classification_features_averaged", found.by_features),
    ):
        if classified is not None:
            data[key] = {
                "n": len(classified.labels),
                "accuracy": classified.accuracy(resampling).to_dict(),
                "balanced_accuracy": classified.balanced_accuracy(resampling).to_dict(),
            }
    estimates = {form: expert_estimate(found, form, resampling) for form in FORMS}
    data |= {form: estimate.to_dict() for form, estimate in estimates.items() if estimate is not None}
    return data
