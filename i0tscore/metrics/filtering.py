"""Keep the captions of a file that fit their images, and write them in the form of the file."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.loop import progress_bar
from i0tscore.encoders.options import DEFAULT_MODEL
from i0tscore.errors import I0TScoreError, NothingToScoreError, StatisticsError, UsageError, did_you_mean
from i0tscore.files import drafted, remove_drafts
from i0tscore.metrics.functional import Breakdown
from i0tscore.metrics.metric import METRICS, PRESETS, Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Result
from i0tscore.results.selection import Selection
from i0tscore.samples import ImageSource, Skipped
from i0tscore.samples.embeddings import read_clip_retrieval
from i0tscore.samples.reader import CaptionFile, CaptionReader
from i0tscore.samples.rules import PER_METRIC, SelectionRules, field_key
from i0tscore.samples.schema import ReadOptions
from i0tscore.samples.source import Source
from i0tscore.samples.writers import Entry

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.gap import Statistics

REASON = "rejected"
"""Column of the reasons in the file of rejected captions."""

_NOTES = 20

_SAMPLE_FIELDS = (*Breakdown._fields, "tokens", "tokens_cut")


class _Caption(NamedTuple):
    """A caption of a file: position and number, the reason why it is not kept, and its scores by column."""

    position: int
    number: int
    reason: str
    scores: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of the input, scored, without its images and embeddings.

    Attributes:
        source: The file that it is from.
        result: The scores; None if there are none.
        places: Position in the file, and number, of each caption that is scored (n, 2).
        images: Identity of the image of each caption that is scored (n).
        skipped: The other captions, with their places.
        notes: Notes on the file.
    """

    source: Source
    result: Result | None
    places: NDArray[np.int64]
    images: Sequence[Hashable]
    skipped: Sequence[tuple[tuple[int, int], Skipped]]
    notes: Sequence[str]


class _HashedImage:
    """An image that keeps a hash of its content once it has been read, by which equal images in all parts are found."""

    def __init__(self, source: ImageSource) -> None:
        self.name = source.name
        self.digest = b""
        self._source = source

    def read_bytes(self) -> bytes:
        data = self._source.read_bytes()
        self.digest = hashlib.blake2b(data, digest_size=16).digest()
        return data

    def __str__(self) -> str:
        return str(self._source)


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
    ``save_to_disk`` folder. Other columns, their order, and their values are unchanged. Either all files are
    written, or none. Folders of shards are read in parts of bounded size, and need fixed statistics.

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
    reader = CaptionReader(captions, images=images, references=references, on_error=on_error, **reading)
    progress = bool(options.get("progress"))
    return filter_captions(reader, scorer, rules, output, rejected, add_scores=add_scores, progress=progress)


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


def filter_captions(
    reader: CaptionReader,
    scorer: I0TScorer,
    rules: SelectionRules,
    output: str | Path | None = None,
    rejected: str | Path | None = None,
    *,
    add_scores: bool = False,
    progress: bool = False,
) -> Selection:
    """Score captions, and write what is kept; see ``filter``.

    The scores of all parts are in memory. Shards are read a second time to write them, row by row.
    """
    targets = [None if one is None else Path(one) for one in (output, rejected)]
    _check_targets(reader, [one for one in targets if one is not None])
    if reader.shards and scorer.statistics is None:
        needing = [str(metric) for metric in scorer.metrics_for(True, True) if metric.needs_statistics]
        if needing:
            raise StatisticsError(
                f"{', '.join(needing)} of shards needs fixed statistics. Fit them on a sample with `i0tscore fit`, and "
                "pass --statistics FILE (statistics=)."
            )
    text = bool(rules.max_caption_repeats) or output is None
    parts = list(_scored(reader, scorer, text=text, progress=progress))
    skipped = [one for part in parts for _, one in part.skipped]
    results = [part.result for part in parts if part.result is not None]
    if not results:
        reasons = "; ".join(one.reason for one in skipped[:3])
        raise NothingToScoreError(f"{reader.source.path}: Nothing to score: every caption was skipped. {reasons}")
    result = Result.concat(results)
    notes = [*dict.fromkeys([*(note for part in parts for note in part.notes), *result.notes])]
    if reader.shards and len(notes) > _NOTES:
        notes[_NOTES:] = [f"There are {len(notes) - _NOTES} more notes on individual shards."]
    result = replace(result, notes=tuple(notes)).with_skipped(skipped)
    selection = result.select(rules, images=[image for part in parts for image in part.images])
    columns = _columns(result) if add_scores else {}
    _write(reader, targets, lambda: _files(parts, selection.reasons, columns))
    return selection


def _scored(reader: CaptionReader, scorer: I0TScorer, *, text: bool, progress: bool) -> Iterator[_Part]:
    """Score the input in parts, with progress by shards on stderr."""
    if reader.embeddings:
        yield _score_embeddings(reader.source, scorer, text=text)
        return
    done: dict[Path, None] = {}
    captions = 0
    with progress_bar(len(reader.shards), "shards", shown=progress and bool(reader.shards)) as bar:
        for file in reader.parts():
            done[file.source.path] = None
            bar.update(len(done) - 1 - bar.n)
            yield _score(file, scorer, shards=bool(reader.shards), text=text)
            captions += len(file.samples)
            bar.set_postfix_str(f"{captions:,} captions")
        bar.update(len(done) - bar.n)


def _score_embeddings(source: Source, scorer: I0TScorer, *, text: bool) -> _Part:
    """Score the pairs in a folder of embeddings."""
    pairs = read_clip_retrieval(source.path)
    images: Any = pairs.images
    captions: Any = pairs.captions
    run = scorer.encode(images, captions, ids=pairs.ids)
    result = replace(scorer.evaluate(run), captions=pairs.texts if text else ())
    places = np.stack([np.arange(1, run.n + 1), np.zeros(run.n, dtype=np.int64)], axis=1)
    return _Part(source, result, places, run.image_index.tolist(), (), ())


def _score(file: CaptionFile, scorer: I0TScorer, *, shards: bool, text: bool) -> _Part:
    """Score a part; the result has the texts of the captions only if ``text`` is set."""
    skipped = [((at.position, at.caption), one) for at, one in file.unusable.items()]
    nothing = _Part(file.source, None, np.zeros((0, 2), dtype=np.int64), (), skipped, file.notes)
    if not file.samples:
        return nothing
    references, contexts = [one.references for one in file.samples], [one.context for one in file.samples]
    names = _unique_names(file, shards=shards)
    given = references if any(references) else None, names, contexts if any(contexts) else None
    scorer.metrics_for(given[0] is not None, given[2] is not None)  # what is missing is found before encoding
    hashed = {id(one.image): _HashedImage(one.image) for one in file.samples}
    images = [hashed[id(one.image)] for one in file.samples]
    run = scorer.encode(
        images if shards else [one.image for one in file.samples], [one.caption for one in file.samples], *given
    )
    place_of = {name: (at.position, at.caption) for name, at in zip(names, file.locations, strict=True)}
    skipped += [(place_of[one.id], one) for one in run.skipped]
    if not run.n:
        return nothing
    with warnings.catch_warnings():
        if shards:  # whether the statistics fit is decided for all parts
            warnings.simplefilter("ignore", UserWarning)
        result = replace(scorer.evaluate(run), skipped=())
    if not text:
        result = replace(result, captions=())
    if shards and scorer.statistics is None:  # those of a part do not make a breakdown of the whole
        result = replace(result, breakdown=None)
    digest_of = {name: image.digest for name, image in zip(names, images, strict=True)}
    identities = [digest_of[name] for name in run.ids] if shards else run.image_index.tolist()
    places = np.array([place_of[name] for name in run.ids], dtype=np.int64)
    return _Part(file.source, result, places, identities, skipped, file.notes)


def _unique_names(file: CaptionFile, *, shards: bool) -> list[str]:
    """Return the ids of the samples: with the location if an id occurs more than once, and with the shard if any."""
    ids = [sample.id for sample in file.samples]
    repeated = {name for name, group in groupby(sorted(ids)) if len(list(group)) > 1}
    found = zip(ids, file.locations, strict=True)
    names = [f"{name} ({at.label.partition(' (id ')[0]})" if name in repeated else name for name, at in found]
    if len(set(names)) < len(names):  # captions of one row, or ids that look like these names
        names = [f"{name} ({at.label})" for name, at in zip(ids, file.locations, strict=True)]
    return [f"{file.source.path.name}: {name}" for name in names] if shards else names


def _columns(result: Result) -> dict[str, NDArray[np.float64]]:
    """Return the columns to add."""
    columns = {}
    for name, metric in result.items():
        columns[name] = metric.values
        if metric.p_match is not None:
            columns[f"{name}.p_match"] = metric.p_match
    return columns


def _files(
    parts: Sequence[_Part], reasons: Sequence[str], columns: Mapping[str, NDArray[np.float64]]
) -> Iterator[tuple[Source, list[_Caption]]]:
    """Yield each file with its captions, in their order."""
    starts = np.cumsum([0, *(len(part.places) for part in parts)]).tolist()
    for _, group in groupby(zip(parts, starts, strict=False), key=lambda one: one[0].source.path):
        captions = []
        for part, start in group:
            for i, (position, number) in enumerate(part.places.tolist(), start=start):
                scores = {name: None if np.isnan(own[i]) else float(own[i]) for name, own in columns.items()}
                captions.append(_Caption(position, number, reasons[i], scores))
            captions += [_Caption(*place, one.reason, dict.fromkeys(columns)) for place, one in part.skipped]
        yield part.source, sorted(captions, key=lambda one: one[:2])


def _entries(captions: Iterable[_Caption], *, kept: bool, several: bool) -> list[Entry]:
    """Return the entries with captions that are kept, or with those that are not."""
    found = []
    for position, group in groupby(captions, key=lambda one: one.position):
        row = list(group)
        part = [one for one in row if kept == (not one.reason)]
        if not part:
            continue
        added: dict[str, Any] = {
            name: [one.scores[name] for one in part] if several else part[0].scores[name] for name in part[0].scores
        }
        if not kept:
            labels = [f"caption {one.number}: " if len(row) > 1 else "" for one in part]
            added[REASON] = "; ".join(label + one.reason for label, one in zip(labels, part, strict=True))
        numbers = () if len(part) == len(row) else tuple(one.number for one in part)
        found.append(Entry(position, numbers, added))
    return found


def _check_targets(reader: CaptionReader, targets: Sequence[Path]) -> None:
    """Check, before any work, that files can be written later.

    Raises:
        UsageError: A target is the input or in it, or not of its form, exists as a folder, or has no folder.
    """
    source = reader.source.path
    if targets:
        reader.writer()
    for number, path in enumerate(targets):
        place = path.resolve()
        inputs = {one.resolve() for one in reader.files}
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
                f"({reader.form.name})."
            )


def _write(
    reader: CaptionReader,
    targets: Sequence[Path | None],
    files: Callable[[], Iterator[tuple[Source, list[_Caption]]]],
) -> None:
    """Write what is kept to the first target and the rest to the second one: all files, or none.

    Shards without remaining rows are not written.

    Raises:
        I0TScoreError: Writing failed.
    """
    target = Path()
    several = any(one.number for _, captions in files() for one in captions)
    try:
        with ExitStack() as drafts:
            for kept, path in zip((True, False), targets, strict=True):
                if path is None:
                    continue
                target, write = path, reader.writer()
                remove_drafts(path)
                draft = drafts.enter_context(drafted(path))
                if reader.shards:
                    draft.mkdir()
                for source, captions in files():
                    entries = _entries(captions, kept=kept, several=several)
                    if entries or not reader.shards:
                        write(source, entries, draft / source.path.name if reader.shards else draft)
    except OSError as error:
        reason = error.strerror or str(error)
        raise I0TScoreError(
            f"{target}: Writing failed: {reason}. No output was written. Free some space, or choose another place."
        ) from error
