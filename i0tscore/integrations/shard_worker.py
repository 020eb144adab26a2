"""Scores one shard, in whatever process: shard in, scores in a shard of the same name out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.encoded import EncodedRun
from i0tscore.errors import InputError, UsageError
from i0tscore.gap import NONE, POST, Moments
from i0tscore.integrations.shard_files import read_entries
from i0tscore.integrations.shard_parts import Part, encode_part, grouped, part_columns, restored_part
from i0tscore.integrations.shard_settings import Job, Prepared, ShardSettings
from i0tscore.integrations.shard_store import read_header, read_parts, write_shard
from i0tscore.integrations.shard_summary import (
    EXAMPLES,
    MetricSums,
    ShardSummary,
    VectorSum,
    poisson_weights,
)
from i0tscore.metrics.evaluate import evaluate
from i0tscore.metrics.statistics_choice import fixed_statistics
from i0tscore.results.signature import SignatureFields


class ShardWorker:
    """Encodes and scores shards; the model is loaded when a shard first needs it."""

    def __init__(self, settings: ShardSettings) -> None:
        self._settings = settings
        self._encoder = RunEncoder(settings, settings.prefix)

    def prepare(self) -> Prepared:
        """Load the model and find the statistics.

        Raises:
            ModelError: The model cannot be used.
            StatisticsError: The statistics cannot.
        """
        fingerprint = self._encoder.fingerprint
        made_by = SignatureFields(
            encoder=self._encoder.signature_fields,
            encoding=self._encoder.encoding_fields,
            resampling=self._settings.resampling,
        )
        statistics = fixed_statistics(self._settings.statistics, fingerprint, self._settings.prefix)
        return Prepared(fingerprint, made_by, statistics)

    def keep(self, job: Job, shard: Path) -> tuple[Moments, Moments] | None:
        """First of two passes: encode a shard to disk, unless it is there; moments of both sides."""
        path = _target(job.kept or job.output, shard)
        made = {
            "encoder": dict(job.made_by.encoder),
            "encoding": dict(job.made_by.encoding),
            "references": job.references,
            "bytes": shard.stat().st_size,
        }
        header = read_header(path)
        if header is None:
            with write_shard(path) as writer:
                writer.header = made
                for part in self._encode(job, shard):
                    dimension = self._encoder.encoder.dimension
                    writer.write(part_columns(part, dimension, references=job.references))
        else:
            _refuse_other(path, header, made)
        moments = [_moments(part.run) for part in _restored(path) if part.run is not None]
        if not moments:
            return None
        images, captions = moments[0]
        for more_images, more_captions in moments[1:]:
            images, captions = images.merge(more_images), captions.merge(more_captions)
        return images, captions

    def score(self, job: Job, shard: Path) -> ShardSummary:
        """Score a shard and write its scores, unless they are there; what the corpus figures need of it.

        Raises:
            InputError: A row cannot be scored, or there are scores made with other settings.
        """
        path = _target(job.output, shard)
        made = {
            "signatures": {str(m): str(job.signature(m)) for m in job.metrics},
            "bytes": shard.stat().st_size,
        }
        header = read_header(path)
        if header is not None:
            _refuse_other(path, header, made)
            return ShardSummary.from_data(header["summary"])
        kept = None if job.kept is None else _target(job.kept, shard)
        parts = _restored(kept) if kept is not None and kept.exists() else self._encode(job, shard)
        summary, seen = ShardSummary(), (set[str](), set[str]())
        with write_shard(path) as writer:
            for part in parts:
                columns, figures = _scored(job, part, seen)
                writer.write(columns)
                summary = summary.merge(figures)
            writer.header = {**made, "summary": summary.to_data()}
        return summary

    def _encode(self, job: Job, shard: Path) -> Iterator[Part]:
        skip = self._settings.on_error == "skip"
        empty = True
        for entries in grouped(read_entries(shard, job.images)):
            empty = False
            yield encode_part(self._encoder, shard, entries, references=job.references, skip=skip)
        if empty:
            raise InputError(f"{shard}: no rows in it: leave it out")


def _scored(job: Job, part: Part, seen: tuple[set[str], set[str]]) -> tuple[dict[str, Any], ShardSummary]:
    """Columns and figures of a part; ``seen`` are the images and captions that counted for the gap."""
    skipped = [(i, r) for i, r in zip(part.ids, part.reasons, strict=True) if r is not None]
    summary = ShardSummary(skipped=len(skipped), examples=skipped[:EXAMPLES])
    columns: dict[str, Any] = {"id": part.ids}
    columns |= {str(metric): np.full(len(part.ids), np.nan) for metric in job.metrics}
    run = part.run
    if run is not None:
        unsampled = replace(job.made_by, resampling=replace(job.settings.resampling, resamples=0), ranks=False)
        result = evaluate(run, job.metrics, job.statistics, unsampled)
        weights = poisson_weights([key.encode() for key in run.image_keys], job.settings.resampling)
        for name, metric in result.items():
            columns[name][part.rows] = metric.values
            summary.metrics[name] = MetricSums.of(metric.values, run.image_index, weights, metric.scale)
        summary.n = run.n
        summary.cut = 0 if run.tokens_cut is None else int(np.count_nonzero(run.tokens_cut))
        summary.images, summary.gap = _gap(job, run, seen)
    columns["skipped"] = part.reasons
    return columns, summary


def _gap(
    job: Job, run: EncodedRun, seen: tuple[set[str], set[str]]
) -> tuple[int, dict[str, tuple[VectorSum, VectorSum]]]:
    """How many images are new to the shard, and the sums of new images and captions."""
    new = [
        [i for i, key in enumerate(keys) if key not in known]
        for keys, known in zip((run.image_keys, run.text_keys), seen, strict=True)
    ]
    seen[0].update(run.image_keys)
    seen[1].update(run.text_keys)
    x, y = run.images[new[0]], run.texts[new[1]]
    gap = {str(NONE): (VectorSum.of(x), VectorSum.of(y))}
    if job.statistics is not None:
        x, y = job.statistics.standardize(POST, x, y)
        gap[str(POST)] = (VectorSum.of(x), VectorSum.of(y))
    return len(new[0]), gap


def _moments(run: EncodedRun) -> tuple[Moments, Moments]:
    x, y = run.pairs
    return Moments.of(x), Moments.of(y)


def _restored(path: Path) -> Iterator[Part]:
    return map(restored_part, read_parts(path))


def _target(folder: Path, shard: Path) -> Path:
    return folder / f"{shard.stem}.parquet"


def _refuse_other(path: Path, header: dict[str, Any], made: dict[str, Any]) -> None:
    """Refuse a file of an earlier run that was made of something else, or otherwise."""
    for key, value in json.loads(json.dumps(made)).items():
        if header.get(key) != value:
            raise UsageError(
                f"{path} is of an earlier run with other {key}: {header.get(key)}, now {value}; choose "
                "another output folder, or remove this one to score anew"
            )
