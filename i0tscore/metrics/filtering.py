"""Keep the captions of a file that fit their images, and write them in the form of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import I0TScoreError, UsageError, did_you_mean
from i0tscore.files import drafted
from i0tscore.metrics.functional import Breakdown
from i0tscore.metrics.metric import METRICS, PRESETS, Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results.selection import Selection
from i0tscore.samples.diagnostics import Location
from i0tscore.samples.formats import CaptionFile, read_caption_file
from i0tscore.samples.rules import PER_METRIC, SelectionRules, field_key
from i0tscore.samples.schema import ReadOptions
from i0tscore.samples.writers import Entry

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics
    from i0tscore.results import Result

REASON = "rejected"
"""Column of the reasons in the file of rejected captions."""

_SAMPLE_FIELDS = (*Breakdown._fields, "tokens", "tokens_cut")


class _Caption(NamedTuple):
    """A caption of the file, with the reason why it is not kept, and its scores by column."""

    location: Location
    reason: str
    scores: Mapping[str, float | None]


def filter(
    captions: str | Path,
    images: str | Path | None = None,
    output: str | Path | None = None,
    *,
    rejected: str | Path | None = None,
    add_scores: bool = False,
    references: str | Path | None = None,
    model: str | Encoder = DEFAULT_MODEL,
    statistics: str | Path | Statistics = "auto",
    metrics: Sequence[str | Metric] | str | None = None,
    preset: str = "paper",
    on_error: Literal["raise", "skip"] = "raise",
    **options: Any,
) -> Selection:
    """Keep the captions of a file that fit their images.

    What is kept is written in the form of the file: JSON, JSON lines, CSV, TSV, parquet, WebDataset, or a
    ``save_to_disk`` folder. Other columns, their order, and their values stay as they are. Either all files are
    written, or none.

    Args:
        captions: The caption file, or a folder of archives or parquet files.
        images: The folder of the images; by default that of the caption file.
        output: File or folder for what is kept; None to decide without writing.
        rejected: File or folder for the other captions, with the reason in the column ``rejected``.
        add_scores: Whether to add a column for each metric and its p_match.
        references: As for ``read_samples``.
        model: As for ``I0TScorer``.
        statistics: As for ``I0TScorer``.
        metrics: Metrics besides those that the rules name; None for those of the preset.
        preset: As for ``I0TScorer``.
        on_error: ``raise``: captions that cannot be scored raise. ``skip``: they are neither kept nor rejected, and are
            written to ``rejected`` with the reason.
        **options: What to keep, as fields of ``SelectionRules`` (at least one); and fields of ``ReadOptions``, and
            options of ``I0TScorer``.

    Returns:
        Which captions are kept, and why the others are not.

    Raises:
        UsageError: A rule or a field is unknown, the output would replace the input, or its form cannot be written.
        StatisticsError: A rule needs reference distributions that the statistics do not have.
        InputError: As for ``read_samples`` and ``I0TScorer.score``.
        I0TScoreError: Writing failed.
    """
    rules = SelectionRules(**_take(options, SelectionRules))
    reading = _take(options, ReadOptions)
    chosen = metrics_for(rules, metrics, preset)
    scorer = I0TScorer(
        model,
        statistics=statistics,
        metrics=chosen,
        preset=preset,
        on_error=on_error,
        resamples=0,
        ranks=False,
        **options,
    )
    file = read_caption_file(captions, images=images, references=references, on_error=on_error, **reading)
    return filter_file(file, scorer, rules, output, rejected, add_scores=add_scores)


def _take(options: dict[str, Any], group: type) -> dict[str, Any]:
    """Remove the fields of a dataclass from options, and return them."""
    return {one.name: options.pop(one.name) for one in fields(group) if one.name in options}


def metrics_for(
    rules: SelectionRules, given: Sequence[str | Metric] | str | None, preset: str = "paper"
) -> tuple[Metric, ...]:
    """Return the given metrics, or those of the preset, and the ones that rules name.

    Raises:
        UsageError: A rule names an unknown field; the message lists the fields.
    """
    metrics = list(parse_metrics(given or PRESETS[preset].metrics))
    for written in rules.named:
        base, _, inner = written.partition("(")
        base = base.strip().lower()
        if base in _SAMPLE_FIELDS or (base in PER_METRIC and not inner):
            continue
        name = inner.strip()[:-1] if base in PER_METRIC else written
        if name.partition("(")[0].strip().lower() not in METRICS:
            known = [*(metric.base for metric in METRICS.values()), *PER_METRIC, *_SAMPLE_FIELDS]
            raise UsageError(
                f"Unknown field {written!r}.{did_you_mean(name, known)} The fields are {', '.join(known)}."
            )
        metric = Metric.parse(name)
        if field_key(str(metric)) != field_key(name):
            raise UsageError(f"Expected the metric {metric} by its shortest name, got {name}. Write {metric}.")
        metrics.append(metric)
    return tuple(dict.fromkeys(metrics))


def filter_file(
    file: CaptionFile,
    scorer: I0TScorer,
    rules: SelectionRules,
    output: str | Path | None = None,
    rejected: str | Path | None = None,
    *,
    add_scores: bool = False,
) -> Selection:
    """Score a caption file that has been read, and write what is kept; see ``filter``."""
    targets = [None if one is None else Path(one) for one in (output, rejected)]
    _check_targets(file, [one for one in targets if one is not None])
    references = [sample.references for sample in file.samples]
    contexts = [sample.context for sample in file.samples]
    names = _unique_names(file)
    given = references if any(references) else None, names, contexts if any(contexts) else None
    scorer.metrics_for(given[0] is not None, given[2] is not None)  # what is missing is found before encoding
    run = scorer.encode([one.image for one in file.samples], [one.caption for one in file.samples], *given)
    result = scorer.evaluate(run).with_skipped(list(file.unusable.values()), file.notes)
    selection = result.select(rules, images=run.image_index.tolist())
    captions = list(_captions(file, names, result, selection, add_scores))
    contents = (_entries(captions, kept=True), _entries(captions, kept=False))
    _write(file, [(path, part) for path, part in zip(targets, contents, strict=True) if path is not None])
    return selection


def _unique_names(file: CaptionFile) -> list[str]:
    """Return the ids of the samples, with the location where an id occurs more than once."""
    ids = [sample.id for sample in file.samples]
    repeated = {name for name, group in groupby(sorted(ids)) if len(list(group)) > 1}
    found = zip(ids, file.locations, strict=True)
    names = [f"{name} ({at.label.partition(' (id ')[0]})" if name in repeated else name for name, at in found]
    if len(set(names)) < len(names):  # captions of one row, or ids that look like these names
        names = [f"{name} ({at.label})" for name, at in zip(ids, file.locations, strict=True)]
    return names


def _captions(
    file: CaptionFile, names: Sequence[str], result: Result, selection: Selection, add_scores: bool
) -> Iterator[_Caption]:
    """Yield every caption of the file, in no particular order."""
    columns: dict[str, Any] = {}
    for name, metric in result.items() if add_scores else ():
        columns[name] = metric.values
        if metric.p_match is not None:
            columns[f"{name}.p_match"] = metric.p_match
    undefined = dict.fromkeys(columns)
    location_of = dict(zip(names, file.locations, strict=True))
    for i, name in enumerate(result.ids):
        scores = {column: None if np.isnan(values[i]) else float(values[i]) for column, values in columns.items()}
        yield _Caption(location_of[name], selection.reasons[i], scores)
    for skipped in result.skipped[len(file.unusable) :]:
        yield _Caption(location_of[skipped.id], skipped.reason, undefined)
    for at, skipped in file.unusable.items():
        yield _Caption(at, skipped.reason, undefined)


def _entries(captions: Iterable[_Caption], *, kept: bool) -> list[Entry]:
    """Return the entries with captions that are kept, or with those that are not, in the order of the file."""
    ordered = sorted(captions, key=lambda one: (one.location.position, one.location.caption))
    several = any(one.location.caption for one in ordered)
    found = []
    for position, group in groupby(ordered, key=lambda one: one.location.position):
        row = list(group)
        part = [one for one in row if kept == (not one.reason)]
        if not part:
            continue
        added: dict[str, Any] = {
            name: [one.scores[name] for one in part] if several else part[0].scores[name] for name in part[0].scores
        }
        if not kept:
            labels = [f"caption {one.location.caption}: " if len(row) > 1 else "" for one in part]
            added[REASON] = "; ".join(label + one.reason for label, one in zip(labels, part, strict=True))
        numbers = () if len(part) == len(row) else tuple(one.location.caption for one in part)
        found.append(Entry(position, numbers, added))
    return found


def _check_targets(file: CaptionFile, targets: Sequence[Path]) -> None:
    """Check, before any work, that files can be written later.

    Raises:
        UsageError: A target is the input or in it, or not of its form, exists as a folder, or has no folder.
    """
    source, form = file.source.path, file.form
    if targets:
        file.writer()
    for number, path in enumerate(targets):
        place = path.resolve()
        inputs = {one.resolve() for one in file.files}
        if place in inputs or (source.is_dir() and source.resolve() in place.parents):
            raise UsageError(f"{path}: The output would replace the input. Give another name.")
        if place in [one.resolve() for one in targets[:number]]:
            raise UsageError(f"{path}: --output and --rejected are the same. Give two different names.")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: The folder {path.parent} does not exist. Create it first.")
        if path.is_dir() and (not source.is_dir() or any(path.iterdir())):
            expected = "an empty or a new folder, got one with files" if source.is_dir() else "a file, got a folder"
            raise UsageError(f"{path}: Expected {expected}. Give another name.")
        if path.exists() and not (path.is_dir() if source.is_dir() else path.is_file() or path.is_dir()):
            expected = "a folder like the input" if source.is_dir() else "a file"
            raise UsageError(f"{path}: Expected {expected}, got something else. Give another name.")
        if source.is_file() and source.suffix and path.suffix.lower() != source.suffix.lower():
            raise UsageError(
                f"{path}: Expected a name that ends in {source.suffix}, since the output has the form of the input "
                f"({form.name})."
            )


def _write(file: CaptionFile, contents: Sequence[tuple[Path, list[Entry]]]) -> None:
    """Write all files, or none.

    Raises:
        I0TScoreError: Writing failed.
    """
    target = Path()
    try:
        with ExitStack() as drafts:
            for target, entries in contents:
                file.write(entries, drafts.enter_context(drafted(target)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise I0TScoreError(
            f"{target}: Writing failed: {reason}. No output was written. Free some space, or choose another place."
        ) from error
