"""Scores a corpus in shards: shards in, scores in shards of the same names out, and a summary."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from i0tscore.encoders.pipeline import progress_bar
from i0tscore.errors import InputError, StatisticsError, UsageError
from i0tscore.gap import Moments, Statistics
from i0tscore.integrations.shard_corpus import CorpusSummary, corpus_summary
from i0tscore.integrations.shard_files import find_shards, read_entries
from i0tscore.integrations.shard_settings import Job, Prepared, ShardSettings
from i0tscore.integrations.shard_store import remove_drafts
from i0tscore.integrations.shard_summary import ShardSummary
from i0tscore.integrations.shard_worker import ShardWorker
from i0tscore.metrics.metric import PRESETS, Metric, parse_metrics
from i0tscore.results.report import dumps

Step = Literal["keep", "score"]

SUMMARY = "summary.json"
STATISTICS = "statistics.safetensors"
_KEPT = ".embeddings"


class Engine(Protocol):
    """Where the work on single shards is done."""

    def prepare(self, settings: ShardSettings) -> Prepared:
        """``ShardWorker.prepare``, where there is a model."""

    def run(self, step: Step, job: Job, shards: Sequence[Path]) -> Iterator[Any]:
        """``ShardWorker.keep`` or ``ShardWorker.score`` of every shard, in the order of the shards."""


class LocalEngine:
    """Does the work in this process, one shard after the other."""

    def __init__(self) -> None:
        self._worker: ShardWorker | None = None

    def prepare(self, settings: ShardSettings) -> Prepared:
        """Load the model and find the statistics."""
        self._worker = ShardWorker(settings)
        return self._worker.prepare()

    def run(self, step: Step, job: Job, shards: Sequence[Path]) -> Iterator[Any]:
        """Work on the shards as results are asked for."""
        worker = self._worker or ShardWorker(job.settings)
        return (getattr(worker, step)(job, shard) for shard in shards)


def score(
    paths: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    images: str | Path | None = None,
    engine: Engine | None = None,
    progress: bool = False,
    **settings: Any,
) -> CorpusSummary:
    """Score shards and write the scores of each to a parquet file of its name in ``output``.

    A shard whose scores are there is not scored again, so that a run that was broken off goes on where it
    was; scores made with other settings are refused. One run at a time may write to a folder.

    Args:
        paths: Parquet files and tar archives, or folders of them; see ``docs/large-runs.md``.
        output: The folder of the scores, made if need be: columns ``id``, each metric (null where
            undefined) and ``skipped`` (the reason, or null), in the order of the input.
        images: The folder of images that parquet files name; by default the one each is in.
        engine: Where the work is done; this process if left out.
        progress: Show progress on stderr.
        settings: Those of ``ShardSettings``: ``model``, ``statistics``, ``metrics``, ….

    Raises:
        UsageError: Wrong settings, or ``output`` holds scores of other settings or other shards.
        InputError: A shard or, under ``on_error="raise"``, a row cannot be used.
        StatisticsError: A metric needs statistics and there are none.

    Example:
        >>> from PIL import Image
        >>> import io, pyarrow, pyarrow.parquet, tempfile
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (32, 32), "red").save(file, "PNG")
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = pyarrow.table({"image": [file.getvalue()], "caption": ["Red."]})
        >>> pyarrow.parquet.write_table(rows, folder / "shard.parquet")
        >>> summary = score(folder, output=folder / "scores", model="lite")
        >>> summary.n, list(summary.metrics)
        (1, ['I0TScore', 'CLIPScore'])
    """
    chosen = ShardSettings(**settings)
    shards = [shard.absolute() for shard in find_shards(paths)]
    target = Path(output).absolute()
    _check_output(target, shards)
    folder = None if images is None else Path(images).absolute()
    metrics = _metrics(chosen, shards[0], folder)
    works = engine or LocalEngine()
    prepared = works.prepare(chosen)
    job = Job(chosen, metrics, prepared.settings, target, folder, None, prepared.statistics)
    if prepared.statistics is None and any(m.needs_statistics for m in metrics):
        job = _with_batch_statistics(works, job, prepared, shards, progress)
    total = ShardSummary()
    for part in _shown(works.run("score", job, shards), "shards", len(shards), progress):
        total = total.merge(part)
    if job.kept is not None:
        shutil.rmtree(job.kept, ignore_errors=True)
    summary = corpus_summary(job, total, len(shards))
    (target / SUMMARY).write_text(dumps(summary.to_dict(), indent=2) + "\n", encoding="utf-8")
    return summary


def _check_output(target: Path, shards: Sequence[Path]) -> None:
    """Refuse a folder that holds an input shard, and make it."""
    inside = next((shard for shard in shards if shard.parent.resolve() == target.resolve()), None)
    if inside is not None:
        raise UsageError(f"{target} holds the shard {inside.name}: write the scores to another folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target} cannot be made ({error.strerror}): choose another folder") from error
    remove_drafts(target)


def _metrics(settings: ShardSettings, shard: Path, images: Path | None) -> tuple[Metric, ...]:
    """Those asked for, or the preset's; the first entry tells whether there are references."""
    if settings.metrics is not None:
        return parse_metrics(settings.metrics)
    first = next((entry for entry in read_entries(shard, images) if entry.sample is not None), None)
    referenced = first is not None and first.sample is not None and bool(first.sample.references)
    return parse_metrics(PRESETS[settings.preset].choose(referenced))


def _with_batch_statistics(engine: Engine, job: Job, prepared: Prepared, shards: Sequence[Path], progress: bool) -> Job:
    """The second pass's job: with the statistics that the first pass merges, or that an earlier run did."""
    if job.settings.statistics != "batch":
        raise StatisticsError(
            f"no statistics are shipped for {prepared.fingerprint.name} with this prefix: pass a file made "
            "by `i0tscore fit` (statistics=FILE), or statistics='batch' for a first pass that fits them"
        )
    job = replace(job, kept=job.output / _KEPT)
    path, source = job.output / STATISTICS, _named(shards)
    if not path.exists():
        moments = _merged(engine.run("keep", job, shards), len(shards), progress)
        name, space = prepared.fingerprint.name, prepared.fingerprint.space
        statistics = Statistics("batch", name, space, job.settings.prefix, *moments, source=source)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        statistics.save(draft)
        draft.replace(path)
    fitted = Statistics.load(path)
    if fitted.source != source:
        raise UsageError(f"{path} was fitted to other shards ({fitted.source}): choose another output folder")
    fitted.require(prepared.fingerprint.name, prepared.fingerprint.space, job.settings.prefix)
    return replace(job, statistics=fitted)


def _merged(parts: Iterator[Any], count: int, progress: bool) -> tuple[Moments, Moments]:
    merged: tuple[Moments, Moments] | None = None
    for part in _shown(parts, "shards (first pass)", count, progress):
        if part is not None:
            merged = part if merged is None else (merged[0].merge(part[0]), merged[1].merge(part[1]))
    if merged is None:
        raise InputError("nothing to score: every sample was left out")
    return merged


def _named(shards: Sequence[Path]) -> str:
    """What statistics of these shards come from; other names or sizes, other words."""
    listing = "\n".join(f"{shard.name} {shard.stat().st_size}" for shard in shards)
    return f"{len(shards)} scored shards, {hashlib.sha256(listing.encode()).hexdigest()[:12]}"


def _shown(parts: Iterator[Any], unit: str, count: int, progress: bool) -> Iterator[Any]:
    with progress_bar(count, unit, shown=progress) as bar:
        for part in parts:
            yield part
            bar.update()
