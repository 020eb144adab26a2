"""Scoring of whole sample sets: rated captions, and the captions of several systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from i0tscore.errors import InputError
from i0tscore.metrics.classic import CLASSIC_METRICS, classic_scores, classic_signature
from i0tscore.metrics.metric import parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Resampling, Result
from i0tscore.results.comparison import Comparison, RunScores, compare_systems, require_same_ids
from i0tscore.samples import Sample, SampleSet, Skipped
from i0tscore.samples.diagnostics import preview
from i0tscore.samples.preferences import PreferenceSet
from i0tscore.samples.ratings import RatingSet, describe_skipped

LENGTH = "number of words"
"""Name of the metric that counts the words of a caption, separated by white space."""

TEXT_METRICS = (LENGTH, *CLASSIC_METRICS)
"""Metrics that do not use the image."""

_LISTED_IDS = 10
_Rated = TypeVar("_Rated", RatingSet, PreferenceSet)


def score_with(scorer: I0TScorer, samples: Sequence[Sample], *, references: bool) -> Result:
    """Score samples; ``references`` says whether a metric uses their references, which are encoded only then."""
    contexts = [sample.context for sample in samples]
    return scorer.score(
        [sample.image for sample in samples],
        [sample.caption for sample in samples],
        [sample.references for sample in samples] if references else None,
        unique_names([sample.id for sample in samples]),
        contexts if any(contexts) else None,
    )


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names that are readable in messages and all different.

    Examples:
        >>> unique_names(["dog", "cat", "dog"])
        ['dog', 'cat', 'dog (caption 2)']
    """
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} (caption {seen[name]})")
    return unique


def split_metrics(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split names into metrics that use images and ``TEXT_METRICS``."""
    canonical = {name.lower(): name for name in TEXT_METRICS}
    classic = [canonical[name.lower()] for name in names if name.lower() in canonical]
    return [name for name in names if name.lower() not in canonical], list(dict.fromkeys(classic))


def word_counts(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Return the number of words of each caption (n,)."""
    return np.array([float(len(sample.caption.split())) for sample in samples])


def rate(ratings: _Rated, scorer: I0TScorer | None, metrics: Sequence[str] = (), classic: Sequence[str] = ()) -> _Rated:
    """Score rated captions, each image and caption once.

    Args:
        ratings: The ratings or preferences.
        scorer: Scorer of the metrics that use images; None for none.
        metrics: Names of the scorer's metrics; empty for those of its preset.
        classic: Some of ``TEXT_METRICS``.

    Raises:
        InputError: A classic metric cannot be computed on this machine, or references are missing.
    """
    samples = ratings.samples
    values: dict[str, NDArray[np.float64]] = {}
    signatures: dict[str, str] = {}
    notes: Sequence[str] = ()
    if scorer is not None:
        use_references = all(sample.references for sample in samples)
        if metrics:
            use_references = any(metric.needs_references for metric in parse_metrics(metrics))
        result = score_with(scorer, samples, references=use_references)
        row_of = {name: row for row, name in enumerate(unique_names([sample.id for sample in samples]))}
        rows = [row_of[name] for name in result.ids]
        for name, metric in result.items():
            values[name] = np.full(len(samples), np.nan)  # skipped captions have no score
            values[name][rows] = metric.values
        signatures = {name: str(metric.signature) for name, metric in result.items()}
        notes = result.notes
        if result.skipped:
            notes = [*notes, describe_skipped("Captions", [f"{one.id}: {one.reason}" for one in result.skipped])]
    if LENGTH in classic:
        values[LENGTH] = word_counts(samples)
    if classic := [name for name in classic if name != LENGTH]:
        found = classic_scores([s.caption for s in samples], [s.references for s in samples], classic)
        if found.unavailable:
            raise InputError("\n".join(f"{name}: {reason}" for name, reason in found.unavailable.items()))
        fields = ("v", version("i0tscore"))
        values |= found.values
        signatures |= {name: str(classic_signature(name, len(samples), fields)) for name in found.values}
    return ratings.with_scores(values, signatures, notes)


def score_and_compare(
    scorer: I0TScorer, systems: Mapping[str, SampleSet], baseline: str, *, resampling: Resampling | None = None
) -> Comparison:
    """Score the captions of all systems in one run and compare the systems.

    Per-run statistics (``batch``) are pooled over all systems, so that every system is scored with the same means.
    Samples skipped in one system are skipped in all.

    Args:
        scorer: Scorer; its own intervals are not used.
        systems: Samples by system. An id must be the same image in every system.
        baseline: System to compare the others with.
        resampling: Settings of the intervals over images. Default: 1,000 resamples at 95%.

    Raises:
        InputError: The ids differ, or an id is not the same image in all systems.
    """
    skipped = [Skipped(f"{system}: {s.id}", s.reason) for system, found in systems.items() for s in found.skipped]
    skipped_ids = {s.id for found in systems.values() for s in found.skipped}
    rows = [(system, s) for system, found in systems.items() for s in found.samples if s.id not in skipped_ids]
    if empty := [system for system in systems if system not in {owner for owner, _ in rows}]:
        raise InputError(f"{', '.join(empty)}: no captions are left to compare after skipping.")
    require_same_ids({system: [s.id for owner, s in rows if owner == system] for system in systems})
    images = _images(rows)
    unique = unique_names([f"{system}: {sample.id}" for system, sample in rows])
    names = {name: (system, sample.id) for name, (system, sample) in zip(unique, rows, strict=True)}
    named = [replace(sample, id=name) for name, (_, sample) in zip(names, rows, strict=True)]
    result = score_with(scorer, named, references=all(sample.references for sample in named))
    failed = {names[s.id][1] for s in result.skipped}
    scored = [names[name] for name in result.ids]
    runs = {}
    for system in systems:
        own = [i for i, (owner, name) in enumerate(scored) if owner == system and name not in failed]
        runs[system] = RunScores(
            tuple(scored[i][1] for i in own),
            {name: metric.values[own] for name, metric in result.items()},
            {name: metric.signature for name, metric in result.items()},
            tuple(result.captions[i] for i in own if result.captions),
        )
    owners: dict[str, list[str]] = {}
    for name, found in systems.items():
        for note in found.notes:
            owners.setdefault(note, []).append(name)
    notes = [f"{', '.join(names)}: {note}" for note, names in owners.items()]
    skipped, notes = [*skipped, *result.skipped], [*notes, *result.notes]
    return compare_systems(runs, baseline, images=images, resampling=resampling, skipped=skipped, notes=notes)


def _images(rows: Sequence[tuple[str, Sample]]) -> dict[str, str]:
    """Return the image of each id, after checking that it is the same in all systems."""
    first: dict[str, tuple[str, str]] = {}
    conflicts: dict[str, str] = {}
    for system, sample in rows:
        owner, image = first.setdefault(sample.id, (system, str(sample.image)))
        if str(sample.image) != image:
            conflicts.setdefault(sample.id, f"{image} in {owner}, {sample.image} in {system}")
    if conflicts:
        lines = [f"  {name}: {conflict}" for name, conflict in list(conflicts.items())[:_LISTED_IDS]]
        head = f"Expected the same image for an id in all systems, but {len(conflicts)} differ ({preview(conflicts)}):"
        raise InputError("\n".join([head, *lines, "Give each image its own id."]))
    return {name: image for name, (_, image) in first.items()}
