"""Scores of several systems' captions from one encoding pass, with one set of statistics."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from i0tscore.errors import InputError, UsageError
from i0tscore.metrics.metric import parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Resampling
from i0tscore.results.comparison import Comparison, RunScores, compare_systems, read_scores, require_same_ids
from i0tscore.samples import Sample, SampleSet, Skipped
from i0tscore.samples.rows import preview

BY_ID = "results name no images: each id is taken for an image of its own"
UNSIGNED = (
    "{systems}: JSON lines have no signatures, so that nothing shows whether the systems were scored alike; "
    "results as JSON have them"
)

_SHOWN = 10


def score_and_compare(
    scorer: I0TScorer,
    systems: Mapping[str, SampleSet],
    baseline: str,
    *,
    resampling: Resampling | None = None,
) -> Comparison:
    """Score the captions of all systems together and compare the systems.

    Statistics of the samples' own (``batch``) are pooled over all systems, so that every system is
    measured by the same means. What cannot be scored in one system is left out of all.

    Args:
        scorer: What to score with; its own intervals are not used.
        systems: Samples by name of the system; the same id is the same image everywhere.
        baseline: The system the others are compared with.
        resampling: Of the intervals, over images; the default is 1,000 resamples at 95 %.

    Raises:
        InputError: The ids differ, or an id is not the same image in all systems.
    """
    skipped = [Skipped(f"{system}: {s.id}", s.reason) for system, found in systems.items() for s in found.skipped]
    dropped = {s.id for found in systems.values() for s in found.skipped}
    kept = {name: [s for s in found.samples if s.id not in dropped] for name, found in systems.items()}
    _require_samples(kept)
    require_same_ids({name: [sample.id for sample in samples] for name, samples in kept.items()})
    images = _images(kept)
    named = [(system, sample) for system, samples in kept.items() for sample in samples]
    result = scorer.score(
        [sample.image for _, sample in named],
        [sample.caption for _, sample in named],
        [s.references for _, s in named] if all(s.references for _, s in named) else None,
        _row_names(named),
    )
    place = dict(zip(_row_names(named), named, strict=True))
    lost = {place[s.id][1].id for s in result.skipped}
    rows = [(system, sample.id) for system, sample in (place[name] for name in result.ids)]
    runs = {}
    for system in systems:
        mine = np.array([own == system and name not in lost for own, name in rows], dtype=bool)
        runs[system] = RunScores(
            tuple(name for (_, name), taken in zip(rows, mine, strict=True) if taken),
            {name: metric.values[mine] for name, metric in result.items()},
            {name: metric.signature for name, metric in result.items()},
        )
    notes = [f"{name}: {note}" for name, found in systems.items() for note in found.notes]
    return compare_systems(
        runs,
        baseline,
        images=images,
        resampling=resampling,
        skipped=[*skipped, *result.skipped],
        notes=[*notes, *result.notes],
    )


def compare_results(
    files: Mapping[str, Path],
    baseline: str,
    *,
    metrics: Sequence[str] = (),
    resampling: Resampling | None = None,
) -> Comparison:
    """Compare runs that were scored before, by what ``i0tscore score`` wrote as JSON or JSON lines.

    Args:
        files: By name of the system.
        baseline: The system the others are compared with.
        metrics: Names of metrics; empty for all that are in every file.
        resampling: Of the intervals; the default is 1,000 resamples at 95 %.

    Raises:
        InputError: What is wrong with the files, ids that differ, or signatures that do.
        UsageError: A metric that is not in every file.
    """
    runs = {name: read_scores(file) for name, file in files.items()}
    wanted = [str(metric) for metric in parse_metrics(metrics)]
    for name, run in runs.items():
        if absent := [metric for metric in wanted if metric not in run.values]:
            raise UsageError(f"{absent[0]} is not in {name}, which has {', '.join(run.values)}")
    if wanted:
        runs = {n: replace(r, values={m: r.values[m] for m in wanted}) for n, r in runs.items()}
    notes = [BY_ID]
    unsigned = [name for name, run in runs.items() if not run.signatures]
    if unsigned:
        notes.append(UNSIGNED.format(systems=", ".join(unsigned)))
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    return compare_systems(runs, baseline, resampling=resampling, notes=notes)


def _row_names(named: Sequence[tuple[str, Sample]]) -> list[str]:
    """A name for each row that a reader understands and no other row has."""
    seen: dict[str, int] = {}
    names = []
    for system, sample in named:
        name = f"{system}: {sample.id}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} (caption {seen[name]})")
    return names


def _images(systems: Mapping[str, Sequence[Sample]]) -> dict[str, str]:
    """Image by id; refused where systems have different images under one id."""
    images: dict[str, str] = {}
    owners: dict[str, str] = {}
    differing: dict[str, str] = {}
    for system, samples in systems.items():
        for sample in samples:
            image = images.setdefault(sample.id, str(sample.image))
            owner = owners.setdefault(sample.id, system)
            if str(sample.image) != image:
                differing.setdefault(sample.id, f"{image} in {owner}, {sample.image} in {system}")
    if differing:
        lines = [f"  {name}: {what}" for name, what in list(differing.items())[:_SHOWN]]
        head = f"{len(differing)} ids are not the same image everywhere ({preview(differing)})"
        raise InputError("\n".join([f"{head}: give each image one id", *lines]))
    return images


def _require_samples(systems: Mapping[str, Sequence[Sample]]) -> None:
    empty = [name for name, samples in systems.items() if not samples]
    if empty:
        raise InputError(f"{', '.join(empty)}: no captions left to compare after what was skipped")
