"""Scores a corpus in shards: one shard of scores for each input shard, and a summary."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encode import SKIP_HINT, EncodedReferences, EncodedRun, RunEncoder, listing
from i0tscore.encoders.images import load
from i0tscore.encoders.loop import progress_bar
from i0tscore.encoders.options import EncodeOptions
from i0tscore.errors import InputError, NothingToScoreError, StatisticsError, UsageError
from i0tscore.files import drafted
from i0tscore.gap import NONE, POST, Moments, Statistics
from i0tscore.gap.measures import VectorSum
from i0tscore.integrations.shard_io import (
    Columns,
    Entry,
    find_shards,
    read_entries,
    read_header,
    read_parts,
    remove_drafts,
    write_shard,
)
from i0tscore.integrations.shard_summary import (
    EXAMPLES,
    CorpusMetric,
    CorpusSummary,
    MetricSums,
    ShardSummary,
    poisson_weights,
)
from i0tscore.metrics.evaluate import compute_metrics, metric_signature
from i0tscore.metrics.functional import Breakdown
from i0tscore.metrics.metric import PRESETS, Metric, parse_metrics
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.metrics.statistics_choice import fixed_statistics
from i0tscore.results import Resampling, Signature
from i0tscore.results.report import dumps
from i0tscore.results.result import DETAILS
from i0tscore.results.signature import SignatureFields
from i0tscore.samples import ImageSource, Skipped
from i0tscore.samples.sample import StoredImage

if TYPE_CHECKING:
    from i0tscore.encoders.base import Fingerprint

Step = Literal["encode", "score"]

Prepared: TypeAlias = "tuple[Fingerprint, SignatureFields, Statistics | None]"
"""The fingerprint of the encoder, the fields of signatures, and the fixed statistics or None."""

SUMMARY = "summary.json"
STATISTICS = "statistics.safetensors"
_EMBEDDINGS = ".embeddings"

PART_ROWS = 512
PART_BYTES = 256_000_000
"""A part ends with the row that reaches either bound. One part is in memory at a time."""

_NO_VECTORS = np.zeros((0, 1), dtype=np.float32), np.zeros(0, dtype=np.int64), ()
_NO_RUN = EncodedRun((), (), *_NO_VECTORS, *_NO_VECTORS)
"""Stands for the run in signatures whose counts are not known yet."""


@dataclass(frozen=True)
class ShardSettings(EncodeOptions):
    """How shards are encoded and scored, with the options of ``I0TScorer``.

    The model is a name, or an ``Encoder`` that can be pickled. Files must exist on every machine.

    Attributes:
        statistics: ``batch`` takes two passes; ``auto`` takes the statistics shipped for the model.
        metrics: Names or values; None for the metrics of the preset.
        preset: ``paper``, ``torchmetrics``, or ``raw``.
        confidence: Coverage of the intervals.
        resamples: Number of bootstrap resamples; 0 for no intervals.
        seed: Bootstrap seed.
    """

    statistics: str | Path | Statistics = "auto"
    metrics: Any = None
    preset: str = "paper"
    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 12345

    def __post_init__(self) -> None:
        """Check the values before any work."""
        I0TScorer(**vars(self))

    @property
    def resampling(self) -> Resampling:
        """Parameters of the bootstrap."""
        return Resampling(self.confidence, self.resamples, self.seed)

    @property
    def prefix(self) -> str:
        """Text before every caption."""
        return PRESETS[self.preset].prefix


@dataclass(frozen=True)
class Job:
    """One pass over shards.

    Attributes:
        settings: How shards are encoded.
        metrics: Metrics to compute.
        fields: Fields of signatures.
        output: Folder of the scores.
        images: Folder of images that are not in the shards, or None.
        embeddings: Folder of embeddings between the passes, or None.
        statistics: Statistics to use, or None.
    """

    settings: ShardSettings
    metrics: tuple[Metric, ...]
    fields: SignatureFields
    output: Path
    images: Path | None = None
    embeddings: Path | None = None
    statistics: Statistics | None = None

    @property
    def references(self) -> bool:
        """Whether any metric needs references."""
        return any(metric.needs_references for metric in self.metrics)

    @property
    def columns(self) -> list[str]:
        """Names of the columns of numbers, as in ``Result.to_pandas``."""
        names = []
        for metric in self.metrics:
            names.append(str(metric))
            if metric.distribution(self.statistics) is not None:
                names += [f"{metric}.{detail}" for detail in DETAILS]
        return names if self.statistics is None else [*names, *Breakdown._fields]

    def signature(self, metric: Metric, n: int = 0, skipped: int = 0) -> Signature:
        """Return a metric's signature, whose field ``bs`` identifies the Poisson bootstrap."""
        signature = metric_signature(_NO_RUN, metric, self.statistics, self.fields)
        signature = signature.with_field("n", str(n)).with_field("skipped", str(skipped))
        return signature.with_field("bs", f"poisson-{self.settings.resamples}")


@dataclass(frozen=True, eq=False)
class Part:
    """Consecutive rows of a shard, encoded.

    Attributes:
        ids: Ids of all rows.
        reasons: For each row why it was skipped, or None.
        rows: Positions of the rows that were not skipped (n,).
        run: Those rows, with hashes of the content as ``image_keys`` and ``text_keys``; None if there are none.
    """

    ids: list[str]
    reasons: list[str | None]
    rows: NDArray[np.int64]
    run: EncodedRun | None


class _KeyedImage:
    """An image that, once read, remembers the hash of its content but not the content."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.key = ""

    def read_bytes(self) -> bytes:
        source = self._source
        loaded = load(source if isinstance(source, Path) else source.read_bytes())
        self.key = loaded.key[:32]
        return loaded.content  # type: ignore[return-value]  # of files and bytes these are bytes

    def __str__(self) -> str:
        return self._source.name


def split_entries(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Split entries into parts of bounded size."""
    part: list[Entry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        image = None if entry.sample is None else entry.sample.image
        if isinstance(image, StoredImage) and isinstance(image.content, bytes):
            size += len(image.content)
        if len(part) >= PART_ROWS or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def encode_part(encoder: RunEncoder, shard: Path, entries: list[Entry], *, references: bool) -> Part:
    """Encode entries of a shard.

    Args:
        encoder: Its option ``on_error`` tells whether entries that cannot be scored are skipped.
        shard: Path, for messages.
        entries: At least one.
        references: Whether to encode the references; then rows without any cannot be scored.

    Raises:
        InputError: An entry cannot be scored and ``on_error`` is ``raise``.
    """
    bad = [(e.label, e.reason) for e in entries if e.sample is None]
    if bad and encoder.options.on_error != "skip":
        raise InputError(f"{shard}: {listing(bad)}\n{SKIP_HINT}")
    reasons: list[str | None] = [None if e.sample is not None else e.reason for e in entries]
    good = {e.label: e.sample for e in entries if e.sample is not None}
    keyed: dict[Any, _KeyedImage] = {}
    images = {
        label: keyed.setdefault(s.image if isinstance(s.image, Path) else label, _KeyedImage(s.image))
        for label, s in good.items()
    }
    run = None
    if good:
        captions = [s.caption for s in good.values()]
        reference_lists = [list(s.references) for s in good.values()] if references else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # captions that are cut are counted instead
            try:
                run = EncodedRun.concat(
                    list(encoder.runs(list(images.values()), captions, reference_lists, list(good)))
                )
            except InputError as error:
                raise InputError(f"{shard}: {error}") from error
        row_of = {e.label: row for row, e in enumerate(entries)}
        for label, reason in run.skipped:
            reasons[row_of[label]] = reason
        run = _with_keys(run, [images[label].key for label in run.ids]) if run.n else None
    rows = np.flatnonzero([reason is None for reason in reasons])
    return Part([e.sample.id if e.sample else e.id for e in entries], reasons, rows, run)


def _with_keys(run: EncodedRun, image_keys: list[str]) -> EncodedRun:
    """Replace the keys of a run, which cannot be compared across shards, by hashes of the content."""
    first_image = np.unique(run.image_index, return_index=True)[1]
    first_text = np.unique(run.text_index, return_index=True)[1]
    texts = [hashlib.sha256(run.captions[i].encode()).hexdigest()[:32] for i in first_text]
    return replace(run, image_keys=tuple(image_keys[i] for i in first_image), text_keys=tuple(texts))


def part_columns(part: Part, dimension: int, *, references: bool) -> Columns:
    """Return a part as columns, one row per sample, from which ``restore_part`` restores it."""
    n = len(part.ids)
    columns: dict[str, Any] = {
        "id": part.ids,
        "skipped": part.reasons,
        "image_key": [""] * n,
        "caption_key": [""] * n,
        "cut": np.zeros(n, dtype=np.int64),
        "image": np.zeros((n, dimension), dtype=np.float32),
        "caption": np.zeros((n, dimension), dtype=np.float32),
    }
    counts, vectors = np.zeros(n, dtype=np.int64), np.zeros((0, dimension), dtype=np.float32)
    run = part.run
    if run is not None:
        for row, image, text in zip(part.rows, run.image_index, run.text_index, strict=True):
            columns["image_key"][row] = run.image_keys[image]
            columns["caption_key"][row] = run.text_keys[text]
        columns["cut"][part.rows] = 0 if run.tokens_cut is None else run.tokens_cut
        columns["image"][part.rows] = run.images[run.image_index]
        columns["caption"][part.rows] = run.texts[run.text_index]
        if run.references is not None:
            counts[part.rows] = [len(index) for index in run.references.index]
            vectors = run.references.vectors[np.concatenate(run.references.index)]
    return {**columns, "references": (counts, vectors)} if references else columns


def restore_part(columns: Columns) -> Part:
    """Restore a part from ``part_columns``."""
    ids, reasons = columns["id"], columns["skipped"]
    rows = np.flatnonzero([reason is None for reason in reasons])
    if not len(rows):
        return Part(ids, reasons, rows, None)
    images, image_index, image_keys = _distinct(columns["image"], columns["image_key"], rows)
    texts, text_index, text_keys = _distinct(columns["caption"], columns["caption_key"], rows)
    references = None
    if "references" in columns:
        counts, vectors = columns["references"]
        pieces = np.split(np.arange(len(vectors)), np.cumsum(counts)[:-1])
        references = EncodedReferences(vectors, tuple(pieces[row] for row in rows))
    run = EncodedRun(
        ids=tuple(ids[row] for row in rows),
        captions=(),
        images=images,
        image_index=image_index,
        image_keys=image_keys,
        texts=texts,
        text_index=text_index,
        text_keys=text_keys,
        references=references,
        tokens_cut=columns["cut"][rows],
    )
    return Part(ids, reasons, rows, run)


def _distinct(vectors: NDArray[np.float32], keys: list[str], rows: NDArray[np.int64]) -> Any:
    """Return the distinct vectors of rows in the order of encoding, so that sums are the same, bit for bit."""
    names, first, index = np.unique(np.array(keys)[rows], return_index=True, return_inverse=True)
    order = np.argsort(first)
    return vectors[rows][first[order]], np.argsort(order)[index], tuple(names[order].tolist())


class ShardWorker:
    """Encodes and scores shards in any process; loads the model when a shard first needs it."""

    def __init__(self, settings: ShardSettings) -> None:
        self._settings = settings
        self._encoder = RunEncoder(settings, settings.prefix)

    def prepare(self) -> Prepared:
        """Load the model and find the statistics.

        Raises:
            ModelError: The model cannot be used.
            StatisticsError: The statistics cannot be used.
        """
        fingerprint, settings = self._encoder.fingerprint, self._settings
        fields = SignatureFields(*self._encoder.signature_fields, resampling=settings.resampling)
        return fingerprint, fields, fixed_statistics(settings.statistics, fingerprint, settings.prefix)

    def run(self, step: Step, job: Job, shards: Sequence[Path]) -> Iterator[Any]:
        """Process shards one after the other, lazily."""
        return (getattr(self, step)(job, shard) for shard in shards)

    def encode(self, job: Job, shard: Path) -> tuple[Moments, Moments] | None:
        """Encode a shard to disk, unless done before, and return the moments of its images and captions."""
        path = (job.embeddings or job.output) / f"{shard.stem}.parquet"
        header = {
            "encoder": dict(job.fields.encoder),
            "encoding": dict(job.fields.encoding),
            "references": job.references,
            "bytes": shard.stat().st_size,
        }
        if _header_if_done(path, header) is None:
            with write_shard(path) as writer:
                writer.header = header
                for part in self._parts(job, shard):
                    dimension = self._encoder.encoder.dimension
                    writer.write(part_columns(part, dimension, references=job.references))
        moments: list[tuple[Moments, Moments]] = []
        for part in map(restore_part, read_parts(path)):
            if part.run is not None:
                images, captions = part.run.pairs
                moments.append((Moments.of(images), Moments.of(captions)))
        return _merge_moments(moments)

    def score(self, job: Job, shard: Path) -> ShardSummary:
        """Score a shard and write its scores, unless done before, and return its summary.

        Raises:
            InputError: A row cannot be scored.
            UsageError: There are scores computed with other settings.
        """
        path = job.output / f"{shard.stem}.parquet"
        header = {
            "signatures": {str(m): str(job.signature(m)) for m in job.metrics},
            "columns": job.columns,
            "bytes": shard.stat().st_size,
        }
        if (done := _header_if_done(path, header)) is not None:
            return ShardSummary.from_data(done["summary"])
        encoded = None if job.embeddings is None else job.embeddings / path.name
        parts = self._parts(job, shard)
        if encoded is not None and encoded.exists():
            parts = map(restore_part, read_parts(encoded))
        summary, seen = ShardSummary(), (set[str](), set[str]())
        with write_shard(path) as writer:
            for part in parts:
                columns, part_summary = score_part(job, part, seen)
                writer.write(columns)
                summary = summary.merge(part_summary)
            writer.header = {**header, "summary": summary.to_data()}
        return summary

    def _parts(self, job: Job, shard: Path) -> Iterator[Part]:
        empty = True
        for entries in split_entries(read_entries(shard, job.images)):
            empty = False
            yield encode_part(self._encoder, shard, entries, references=job.references)
        if empty:
            raise InputError(f"{shard}: Expected at least one row, got none. Remove this shard.")


def score_part(job: Job, part: Part, seen: tuple[set[str], set[str]]) -> tuple[dict[str, Any], ShardSummary]:
    """Compute the columns and the summary of a part.

    Args:
        job: The pass.
        part: Encoded rows.
        seen: Keys of the shard's images and captions that count for the gap already; updated.
    """
    skipped = [(i, r) for i, r in zip(part.ids, part.reasons, strict=True) if r is not None]
    summary = ShardSummary(skipped=len(skipped), examples=skipped[:EXAMPLES])
    columns: dict[str, Any] = {"id": part.ids}
    columns |= {name: np.full(len(part.ids), np.nan) for name in job.columns}
    run = part.run
    if run is not None:
        fields = replace(job.fields, resampling=replace(job.settings.resampling, resamples=0), ranks=False)
        weights = poisson_weights([key.encode() for key in run.image_keys], job.settings.resampling)
        _, read, results = compute_metrics(run, job.metrics, job.statistics, fields)
        for name, values in (read.breakdown or {}).items():
            columns[name][part.rows] = values
        for name, metric in results.items():
            columns[name][part.rows] = metric.values
            for detail in DETAILS:
                if f"{name}.{detail}" in columns:
                    columns[f"{name}.{detail}"][part.rows] = getattr(metric, detail)
            summary.metrics[name] = MetricSums.of(metric.values, run.image_index, weights, metric.scale)
        summary.n = run.n
        summary.cut = 0 if run.tokens_cut is None else int(np.count_nonzero(run.tokens_cut))
        new_images, new_texts = (
            [i for i, key in enumerate(keys) if key not in known]
            for keys, known in zip((run.image_keys, run.text_keys), seen, strict=True)
        )
        seen[0].update(run.image_keys)
        seen[1].update(run.text_keys)
        summary.images = len(new_images)
        x, y = run.images[new_images], run.texts[new_texts]
        summary.gap[str(NONE)] = VectorSum.of(x), VectorSum.of(y)
        if job.statistics is not None:
            x, y = job.statistics.standardize(POST, x, y)
            summary.gap[str(POST)] = VectorSum.of(x), VectorSum.of(y)
    columns["skipped"] = part.reasons
    return columns, summary


def _header_if_done(path: Path, expected: dict[str, Any]) -> dict[str, Any] | None:
    """Return the header of an earlier run's file; None if there is no file.

    Raises:
        UsageError: The file was written with other settings or from another shard.
    """
    header = read_header(path)
    if header is None:
        return None
    for key, value in json.loads(json.dumps(expected)).items():
        if header.get(key) != value:
            raise UsageError(
                f"{path} is from an earlier run with other {key}: {header.get(key)}, now {value}. "
                "Choose another output folder, or remove the file to score the shard again."
            )
    return header


def _merge_moments(parts: Iterable[tuple[Moments, Moments] | None]) -> tuple[Moments, Moments] | None:
    merged: tuple[Moments, Moments] | None = None
    for part in parts:
        if part is not None:
            merged = part if merged is None else (merged[0].merge(part[0]), merged[1].merge(part[1]))
    return merged


class Engine(Protocol):
    """Runs the work on single shards; ``ShardWorker`` does it in this process."""

    def prepare(self) -> Prepared:
        """Run ``ShardWorker.prepare``."""

    def run(self, step: Step, job: Job, shards: Sequence[Path]) -> Iterator[Any]:
        """Run ``ShardWorker.encode`` or ``ShardWorker.score`` on every shard, in order."""


def score(
    paths: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    images: str | Path | None = None,
    engine: Callable[[ShardSettings], Engine] | None = None,
    progress: bool = False,
    **settings: Any,
) -> CorpusSummary:
    """Score shards and write the scores of each to a Parquet file of the same name in ``output``.

    Finished shards are not scored again, so an interrupted run can be resumed; scores computed with other settings are
    an error. Only one run at a time may write to a folder.

    Args:
        paths: Parquet files and tar archives, or folders of them; see ``docs/large-runs.md``.
        output: Folder of the scores, created if missing. Columns: ``id``; each metric (null where undefined), and under
            statistics its percentiles, ``p_match``, and the breakdown, named as by ``Result.to_pandas``; and
            ``skipped`` (the reason, or null). Rows are in the order of the input.
        images: Folder of the images that Parquet files name; by default the folder of each file.
        engine: Makes the engine that runs the work; by default it runs in this process.
        progress: Whether to show progress on stderr.
        settings: Fields of ``ShardSettings``: ``model``, ``statistics``, ``metrics``, ….

    Raises:
        UsageError: A setting is wrong, or ``output`` holds scores of other settings or other shards.
        InputError: A shard or, under ``on_error="raise"``, a row cannot be scored.
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
    _prepare_output(target, shards)
    folder = None if images is None else Path(images).absolute()
    metrics = _metrics(chosen, shards[0], folder)
    runner: Engine = ShardWorker(chosen) if engine is None else engine(chosen)
    fingerprint, fields, statistics = runner.prepare()
    job = Job(chosen, metrics, fields, target, folder, None, statistics)
    if statistics is None and any(metric.needs_statistics for metric in metrics):
        job = _with_batch_statistics(runner, job, fingerprint, shards, progress)
    total = ShardSummary()
    for part in _with_progress(runner.run("score", job, shards), "shards", len(shards), progress):
        total = total.merge(part)
    if job.embeddings is not None:
        shutil.rmtree(job.embeddings, ignore_errors=True)
    summary = _corpus_summary(job, total, len(shards))
    (target / SUMMARY).write_text(dumps(summary.to_dict(), indent=2) + "\n", encoding="utf-8")
    return summary


def _prepare_output(target: Path, shards: Sequence[Path]) -> None:
    """Create the output folder, which must not hold an input shard."""
    inside = next((shard for shard in shards if shard.parent.resolve() == target.resolve()), None)
    if inside is not None:
        raise UsageError(f"{target} holds the input shard {inside.name}. Choose another folder for the scores.")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot create {target} ({error.strerror}). Choose another folder.") from error
    remove_drafts(target)


def _metrics(settings: ShardSettings, shard: Path, images: Path | None) -> tuple[Metric, ...]:
    """Return the metrics of the settings, or of the preset, depending on whether the first sample has references."""
    if settings.metrics is not None:
        metrics = parse_metrics(settings.metrics)
        if needing := [str(metric) for metric in metrics if metric.needs_context]:
            raise UsageError(f"{', '.join(needing)}: Contexts of shards are not read. Leave the metric out.")
        return metrics
    samples = (entry.sample for entry in read_entries(shard, images) if entry.sample is not None)
    first = next(samples, None)
    return parse_metrics(PRESETS[settings.preset].choose(first is not None and bool(first.references)))


def _with_batch_statistics(
    engine: Engine, job: Job, fingerprint: Fingerprint, shards: Sequence[Path], progress: bool
) -> Job:
    """Return the job of the second pass, with statistics from a first pass or from an earlier run."""
    prefix = job.settings.prefix
    if job.settings.statistics != "batch":
        raise StatisticsError(
            f"No statistics are shipped for {fingerprint.name} with this prefix. Pass a file from `i0tscore fit` "
            "(statistics=FILE), or statistics='batch' for a first pass that fits them."
        )
    job = replace(job, embeddings=job.output / _EMBEDDINGS)
    names = "\n".join(f"{shard.name} {shard.stat().st_size}" for shard in shards)
    source = f"{len(shards)} scored shards, {hashlib.sha256(names.encode()).hexdigest()[:12]}"
    path = job.output / STATISTICS
    if not path.exists():
        parts = engine.run("encode", job, shards)
        moments = _merge_moments(_with_progress(parts, "shards (first pass)", len(shards), progress))
        if moments is None:
            raise NothingToScoreError("Nothing to score: every sample was skipped.")
        statistics = Statistics("batch", fingerprint.name, fingerprint.space, prefix, *moments, source=source)
        with drafted(path) as draft:
            statistics.save(draft)
    fitted = Statistics.load(path)
    if fitted.source != source:
        raise UsageError(f"{path} was fitted to other shards ({fitted.source}). Choose another output folder.")
    fitted.require(fingerprint.name, fingerprint.space, prefix)
    return replace(job, statistics=fitted)


def _with_progress(parts: Iterator[Any], unit: str, count: int, progress: bool) -> Iterator[Any]:
    with progress_bar(count, unit, shown=progress) as bar:
        for part in parts:
            yield part
            bar.update()


def _corpus_summary(job: Job, total: ShardSummary, shards: int) -> CorpusSummary:
    """Compute the figures of a corpus from the merged sums of its shards.

    Raises:
        NothingToScoreError: Every sample was skipped.
    """
    if not total.n:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in total.examples[:3])
        raise NothingToScoreError(f"Nothing to score: every sample was skipped ({reasons}).")
    metrics = {}
    for metric in job.metrics:
        sums = total.metrics[str(metric)]
        metrics[str(metric)] = CorpusMetric(
            n=sums.count,
            mean=sums.total / sums.count if sums.count else None,
            interval=sums.interval(job.settings.confidence, total.images),
            confidence=job.settings.confidence,
            zeros=sums.zeros / sums.count if sums.count else 0.0,
            scale=sums.scale,
            signature=job.signature(metric, total.n, total.skipped),
        )
    notes = [f"The scores of single samples are in {job.output}: {shards} shards."]
    if total.skipped > EXAMPLES:
        notes.append(f"Lists {EXAMPLES} of {total.skipped} skipped samples. The column skipped has all of them.")
    if total.cut:
        notes.append(f"{total.cut} captions exceed the context length of the model.")
    undefined = sum(total.n - sums.count for sums in total.metrics.values())
    if undefined:
        notes.append(f"{undefined} scores are undefined (null): an embedding equals its reference mean.")
    gap = {name: total.centroid_distance(name) for name in (str(NONE), str(POST))}
    fixed = None if job.settings.statistics == "batch" else job.statistics
    fit = None if fixed is None else total.statistics_fit(fixed)
    if fit is not None:
        notes += fit.notes
        if not fit.fits:
            warnings.warn(notes[-1], UserWarning, stacklevel=3)
    skipped = tuple(Skipped(*example) for example in total.examples)
    return CorpusSummary(total.n, total.skipped, metrics, gap, fit, skipped, tuple(notes))
