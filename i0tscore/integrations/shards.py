"""Scores a corpus in shards: one shard of scores for each input shard, and a summary."""

from __future__ import annotations

import errno
import hashlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from i0tscore.encoders.encode import SKIP_HINT, EncodedRun, listing
from i0tscore.encoders.loop import progress_bar
from i0tscore.errors import I0TScoreError, InputError, NothingToScoreError, StatisticsError, UsageError
from i0tscore.files import drafted
from i0tscore.gap import NONE, POST, Statistics
from i0tscore.integrations.shard_io import (
    HEADER,
    Part,
    Shard,
    find_shards,
    locate,
    open_scores,
    place_name,
    read_parts,
)
from i0tscore.integrations.shard_summary import EXAMPLES, CorpusMetric, CorpusSummary, CorpusSums, GapSums, add_gap
from i0tscore.metrics.evaluate import compute_metrics, metric_signature, reference_quartiles
from i0tscore.metrics.functional import Breakdown
from i0tscore.metrics.metric import Metric
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results import Signature
from i0tscore.results.report import dumps
from i0tscore.results.result import DETAILS
from i0tscore.results.signature import SignatureFields

Step = Literal["fit", "score"]
Prepared = tuple[SignatureFields, Statistics | None]

SUMMARY = "summary.json"
STATISTICS = "statistics.safetensors"
_EMBEDDINGS = ".embeddings"

_QUIET = partial(warnings.catch_warnings, action="ignore", category=UserWarning)
"""Ignores warnings on single captions, which would be repeated for every part; the summary counts them."""

_NO_VECTORS = np.zeros((0, 1), dtype=np.float32), np.zeros(0, dtype=np.int64), ()
_NO_RUN = EncodedRun((), (), *_NO_VECTORS, *_NO_VECTORS)
"""Stands for the run in signatures, whose counts are added later."""


@dataclass(frozen=True)
class Job:
    """One pass over shards.

    Attributes:
        metrics: Metrics to compute.
        fields: Fields of signatures.
        images: Folder of images that are not in the shards, or None.
        statistics: Statistics to use, or None.
        embeddings: Folder of embeddings that two passes share, or None.
    """

    metrics: tuple[Metric, ...]
    fields: SignatureFields
    images: Path | None
    statistics: Statistics | None
    embeddings: Path | None = None

    @property
    def numbers(self) -> list[str]:
        """Names of the columns of numbers, as in ``Result.to_pandas``."""
        names = ["tokens", "tokens_cut"]
        for metric in self.metrics:
            names.append(str(metric))
            if metric.distribution(self.statistics) is not None:
                names += [f"{metric}.{detail}" for detail in DETAILS]
        return names if self.statistics is None else [*names, *Breakdown._fields]

    def signature(self, metric: Metric, n: int = 0, skipped: int = 0) -> Signature:
        """Return a metric's signature, whose field ``bs`` identifies the bootstrap over groups of images."""
        signature = metric_signature(_NO_RUN, metric, self.statistics, self.fields)
        signature = signature.with_field("n", str(n)).with_field("skipped", str(skipped))
        return signature.with_field("bs", f"groups-{self.fields.resampling.resamples}")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Properties that scores of the same settings share."""
        return {"signatures": {str(m): str(self.signature(m)) for m in self.metrics}, "columns": self.numbers}


@dataclass(frozen=True)
class ScoredPart:
    """The scores of a part of a shard.

    Attributes:
        table: The columns of the output, as a ``pyarrow.Table``.
        gap: Sums of its distinct images and of its distinct captions.
        last: Whether it is the last part of its shard.
    """

    table: Any
    gap: GapSums
    last: bool


class ShardWorker:
    """Encodes and scores parts of shards in any process, with the options of ``I0TScorer``."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._scorer = I0TScorer(**settings, ranks=False)

    def prepare(self) -> Prepared:
        """Load the model, and return the fields of signatures and the fixed statistics, or None without any.

        Raises:
            ModelError: The model cannot be used.
            StatisticsError: The statistics cannot be used.
        """
        statistics = self._scorer.statistics
        return self._scorer.signature_fields, statistics

    def run(self, step: Step, job: Job, shards: Sequence[Shard]) -> Iterator[Any]:
        """Yield the result of ``fit`` or ``score`` for each part, in order; results of ``fit`` may be merged."""
        parts = (part for shard in shards for part in read_parts(shard, job.images))
        return (getattr(self, step)(job, part) for part in parts)

    def fit(self, job: Job, part: Part) -> Statistics | None:
        """Compute the statistics of a part; None if every row is skipped."""
        run, _ = self._encode(job, part)
        with _QUIET():
            return self._scorer.fit_run(run, name="batch", reference=False) if run is not None else None

    def score(self, job: Job, part: Part) -> ScoredPart:
        """Score a part.

        Raises:
            InputError: A row cannot be scored.
        """
        import pyarrow  # type: ignore[import-untyped]

        run, reasons = self._encode(job, part)
        rows = np.flatnonzero([reason is None for reason in reasons])
        numbers = {name: np.full(len(reasons), np.nan) for name in job.numbers}
        gap: GapSums = {}
        if run is not None:
            _, read, results = compute_metrics(run, job.metrics, job.statistics, job.fields)
            gap = {name: np.array([[one.count, *one.total] for one in sums]) for name, sums in read.gap.items()}
            found: dict[str, Any] = {"tokens": run.tokens, "tokens_cut": run.tokens_cut, **(read.breakdown or {})}
            for name, metric in results.items():
                found |= {name: metric.values} | {f"{name}.{detail}": getattr(metric, detail) for detail in DETAILS}
            for name, column in numbers.items():
                column[rows] = found[name]
        keys = np.array([entry.image_key for entry in part.entries], dtype=np.uint64)
        ids = [entry.id if entry.sample is None else entry.sample.id for entry in part.entries]
        columns = {"id": pyarrow.array(ids, pyarrow.string()), "image_key": pyarrow.array(keys, mask=keys == 0)}
        for name, column in numbers.items():
            kind = pyarrow.int64() if name in ("tokens", "tokens_cut") else pyarrow.float64()
            columns[name] = pyarrow.array(column, from_pandas=True).cast(kind)
        columns["skipped"] = pyarrow.array(reasons, pyarrow.string())
        return ScoredPart(pyarrow.table(columns), gap, part.last)

    def _encode(self, job: Job, part: Part) -> tuple[EncodedRun | None, list[str | None]]:
        """Return the rows that can be scored, encoded, and for each row why it cannot, or None.

        Raises:
            InputError: A row cannot be scored and ``on_error`` is ``raise``.
        """
        bad = [(entry.label, entry.reason) for entry in part.entries if entry.sample is None]
        if bad and self._settings.get("on_error") != "skip":
            raise InputError(f"{part.shard}: {listing(bad)}\n{SKIP_HINT}")
        reasons = {entry.label: None if entry.sample else entry.reason for entry in part.entries}
        good = {entry.label: entry.sample for entry in part.entries if entry.sample is not None}
        if not good:
            return None, [*reasons.values()]
        scorer = self._scorer
        if job.embeddings is not None:
            folder = job.embeddings / f"{part.shard.stem}.{part.start}"  # only one process at a time writes to it
            scorer = I0TScorer(**{**self._settings, "model": scorer.encoder, "cache_dir": folder})
        columns = ([getattr(s, name) for s in good.values()] for name in ("image", "caption", "references", "context"))
        images, captions, references, contexts = columns
        given = {
            "references": references if any(metric.needs_references for metric in job.metrics) else None,
            "contexts": contexts if any(metric.needs_context for metric in job.metrics) else None,
        }
        with _QUIET():
            try:
                run = scorer.encode(images, captions, ids=list(good), **given)
            except InputError as error:
                raise InputError(f"{part.shard}: {error}") from error
        reasons |= dict(run.skipped)
        return run if run.n else None, [*reasons.values()]


def score(
    paths: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    images: str | Path | None = None,
    engine: Callable[[dict[str, Any]], ShardWorker] = ShardWorker,
    progress: bool = False,
    **settings: Any,
) -> CorpusSummary:
    """Score shards and write the scores of each to a Parquet file of the same name in ``output``.

    Finished shards are not scored again, so an interrupted run can be resumed; scores computed with other settings are
    an error. Only one run at a time may write to a folder.

    Args:
        paths: Parquet files and tar archives, or folders of them, as paths or URIs such as ``s3://bucket/shards``; see
            ``docs/how-to/large-runs.md``.
        output: Folder or URI of the scores, created if missing. Columns: ``id``, ``image_key``, token counts, and each
            metric (null where undefined); with statistics, percentiles, ``p_match``, and the breakdown, named as by
            ``Result.to_pandas``; and ``skipped`` (the reason, or null). Rows are in the order of the input.
        images: Folder of the images that Parquet files name; by default the folder of each file.
        engine: Makes the worker from the settings; by default it works in this process.
        progress: Whether to show progress on stderr.
        settings: Options of ``I0TScorer`` except ``ranks``. The model is a name, or an ``Encoder`` that can be pickled.
            ``statistics="batch"`` takes two passes; ``auto`` takes the statistics shipped for the model.

    Raises:
        UsageError: A setting is wrong, or ``output`` holds scores of other settings or other shards.
        InputError: A shard or, under ``on_error="raise"``, a row cannot be scored.
        StatisticsError: A metric needs statistics and there are none.

    Examples:
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
    scorer, shards = I0TScorer(**settings), find_shards(paths)
    folder = None if images is None else Path(images).absolute()
    metrics = _metrics(scorer, shards[0], folder, chosen=settings.get("metrics") is not None)
    target = _prepare_output(output, shards)
    worker = engine(settings)
    fields, statistics = worker.prepare()
    job = Job(metrics, fields, folder, statistics)
    if statistics is None and any(metric.needs_statistics for metric in metrics):
        job = _with_batch_statistics(worker, job, shards, target, progress, batch=settings.get("statistics") == "batch")
    left = _unfinished(job, shards, target)
    with progress_bar(len(left), "shards", shown=progress) as bar:
        parts = worker.run("score", job, left)
        for shard in left:
            write_shard(target, shard, parts, job.identity)
            bar.update()
    if job.embeddings is not None:
        shutil.rmtree(job.embeddings, ignore_errors=True)
    total = CorpusSums([str(metric) for metric in metrics])
    for shard in shards:
        total.read(target, f"{shard.stem}.parquet")
    summary = _corpus_summary(
        job, total, f"The scores of single samples are in {place_name(target)}: {len(shards)} shards."
    )
    with target.open_output_stream(SUMMARY) as file:
        file.write(f"{dumps(summary.to_dict(), indent=2)}\n".encode())
    return summary


def _metrics(scorer: I0TScorer, shard: Shard, images: Path | None, *, chosen: bool) -> tuple[Metric, ...]:
    """Return the chosen metrics, or those that the first sample has references and a context for."""
    if chosen:
        return scorer.metrics_for(True, True)
    samples = (entry.sample for part in read_parts(shard, images) for entry in part.entries if entry.sample is not None)
    first = next(samples, None)
    return scorer.metrics_for(*(bool(getattr(first, name, None)) for name in ("references", "context")))


def _prepare_output(output: str | Path, shards: Sequence[Shard]) -> Any:
    """Create the output folder, which must not hold an input shard, and return it as a file system of its own."""
    from pyarrow import fs

    filesystem, path = locate(output)
    try:
        filesystem.create_dir(path)
    except OSError as error:
        raise UsageError(f"Cannot create {place_name(filesystem, path)} ({error}). Choose another folder.") from error
    target = fs.SubTreeFileSystem(path, filesystem)
    for shard in shards:
        name = Path(shard.path).name
        if shard.filesystem == filesystem and Path(shard.path).resolve() == Path(path, name).resolve():
            raise UsageError(
                f"{place_name(target)} holds the input shard {name}. Choose another folder for the scores."
            )
    return target


def _unfinished(job: Job, shards: Sequence[Shard], target: Any) -> list[Shard]:
    """Return the shards that have no scores yet.

    Raises:
        UsageError: An earlier run scored a shard with other settings, or another shard.
    """
    from pyarrow import fs

    def check(shard: Shard) -> None:
        scores, header = open_scores(target, f"{shard.stem}.parquet")
        scores.close()
        for key, value in {**job.identity, "bytes": shard.size}.items():
            if header.get(key) != value:
                raise UsageError(
                    f"{place_name(target, f'{shard.stem}.parquet')} is from an earlier run with other {key}: "
                    f"{header.get(key)}, now {value}. Choose another output folder, or remove the file to score the "
                    "shard again."
                )

    names = {file.base_name for file in target.get_file_info(fs.FileSelector(""))}
    with ThreadPoolExecutor() as pool:
        list(pool.map(check, (shard for shard in shards if f"{shard.stem}.parquet" in names)))
    return [shard for shard in shards if f"{shard.stem}.parquet" not in names]


def write_shard(target: Any, shard: Shard, parts: Iterator[ScoredPart], identity: dict[str, Any]) -> None:
    """Write the scores of a shard, which are the next parts, under a temporary name until they are complete.

    Raises:
        I0TScoreError: The file cannot be written.
    """
    from pyarrow import parquet

    name, draft, writer = f"{shard.stem}.parquet", f".{shard.stem}.parquet.draft", None
    gap: GapSums = {}
    try:
        for part in parts:
            writer = writer or parquet.ParquetWriter(draft, part.table.schema, filesystem=target, use_dictionary=False)
            writer.write_table(part.table)
            add_gap(gap, part.gap)
            if part.last:
                header = {**identity, "bytes": shard.size, "gap": {key: sums.tolist() for key, sums in gap.items()}}
                writer.add_key_value_metadata({HEADER.decode(): dumps(header)})
                writer.close()
                target.move(draft, name)
                break
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error
        raise I0TScoreError(
            f"{place_name(target, name)}: Cannot be written ({reason}). Free up space or check the folder, and run the "
            "same command again. Finished shards are kept."
        ) from error
    finally:
        with suppress(OSError):
            if writer is not None:
                writer.close()
        with suppress(OSError):
            target.delete_file(draft)


def _with_batch_statistics(
    worker: ShardWorker, job: Job, shards: Sequence[Shard], target: Any, progress: bool, *, batch: bool
) -> Job:
    """Return the job of the second pass, with statistics from a first pass or from an earlier run."""
    model = dict(job.fields.encoder)["m"]
    if not batch:
        raise StatisticsError(
            f"No statistics are shipped for {model} with this prefix. Pass a file from `i0tscore fit` "
            "(statistics=FILE), or statistics='batch' for a first pass that fits them."
        )
    if target.base_fs.type_name != "local":
        raise UsageError(
            f"Expected a local output folder for statistics='batch', got {place_name(target)}: embeddings are stored "
            "between the passes. Fit statistics to a sample with `i0tscore fit`, and pass the file."
        )
    folder = Path(target.base_path)
    job = replace(job, embeddings=folder / _EMBEDDINGS)
    given = [job.fields.encoder, job.fields.encoding, *((Path(shard.path).name, shard.size) for shard in shards)]
    source = f"{len(shards)} scored shards, {hashlib.sha256(repr(given).encode()).hexdigest()[:12]}"
    path = folder / STATISTICS
    if not path.exists():
        merged: Statistics | None = None
        with progress_bar(None, "captions (first pass)", shown=progress) as bar:
            for statistics in worker.run("fit", job, shards):
                if statistics is not None:
                    merged = statistics if merged is None else merged.merge(statistics)
                    bar.update(statistics.image.count)
        if merged is None:
            raise NothingToScoreError("Nothing to score: every sample was skipped.")
        with drafted(path) as draft:
            replace(merged, source=source).save(draft)
    fitted = Statistics.load(path)
    if fitted.source != source:
        raise UsageError(
            f"{path} was fitted to other shards or with other settings ({fitted.source}). Choose another output folder."
        )
    return replace(job, statistics=fitted)


def _corpus_summary(job: Job, total: CorpusSums, where: str) -> CorpusSummary:
    """Compute the figures of a corpus from the sums over its shards.

    Raises:
        NothingToScoreError: Every sample was skipped.
    """
    if not total.n:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in total.skipped[:3])
        raise NothingToScoreError(f"Nothing to score: every sample was skipped ({reasons}).")
    metrics = {
        str(metric): CorpusMetric(
            **total.figures(i, job.fields.resampling),
            confidence=job.fields.resampling.confidence,
            scale=reference_quartiles(metric, job.statistics),
            signature=job.signature(metric, total.n, total.n_skipped),
        )
        for i, metric in enumerate(job.metrics)
    }
    notes = [where]
    if total.n_skipped > EXAMPLES:
        notes.append(f"Lists {EXAMPLES} of {total.n_skipped} skipped samples. The column skipped lists all of them.")
    if total.cut:
        notes.append(f"{total.cut} captions exceed the context length of the model.")
    undefined = sum(total.n - metric.n for metric in metrics.values())
    if undefined:
        notes.append(f"{undefined} scores are undefined (null): no context, or an embedding equals its reference mean.")
    fixed = job.statistics if job.embeddings is None else None
    fit = None if fixed is None else total.statistics_fit(fixed)
    if fit is not None:
        notes += fit.notes
        if not fit.fits:
            warnings.warn(notes[-1], UserWarning, stacklevel=3)
    gap = {str(standardizer): total.distance(str(standardizer)) for standardizer in (NONE, POST)}
    return CorpusSummary(total.n, total.n_skipped, metrics, gap, fit, tuple(total.skipped), tuple(notes))
