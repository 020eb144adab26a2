"""Cost of each step of a run over shards, for the estimates of docs/large-runs.md.

    python benchmarks/large_runs.py --images FOLDER      # any images, such as Flickr8k's

Times are CPU seconds of one thread, which other work on the machine hardly affects. The model is open_clip's ViT-B-32
with random weights, which is as fast as with trained weights. The steps after the encoder are timed on random
embeddings of 512 dimensions, in a shard of 5,120 pairs without references.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from pyarrow import parquet
from tabulate import tabulate

from i0tscore.encoders.encode import EncodedRun
from i0tscore.encoders.images import decode
from i0tscore.encoders.loop import embed_captions
from i0tscore.encoders.open_clip_models import quiet
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.gap import Moments, Statistics, normalize
from i0tscore.integrations.shard_io import read_entries, read_parts, write_shard
from i0tscore.integrations.shard_summary import ShardSummary
from i0tscore.integrations.shards import (
    PART_ROWS,
    Job,
    Part,
    ShardSettings,
    part_columns,
    restore_part,
    score_part,
)
from i0tscore.metrics.metric import parse_metrics
from i0tscore.results import Resampling
from i0tscore.results.signature import SignatureFields

DIMENSION = 512
ROWS = 10 * PART_ROWS
METRICS = parse_metrics(["I0TScore", "CLIPScore"])


def timed(work: Callable[[], Any], count: int) -> float:
    """Return microseconds of CPU time per item for ``count`` items, the minimum of three runs."""
    spent = []
    for _ in range(3):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return 1e6 * min(spent) / count


def encoding(folder: Path, scratch: Path) -> dict[str, float]:
    """Measure the steps up to the embeddings."""
    with quiet():
        model = open_clip.create_model("ViT-B-32", load_weights=False, pretrained_text=False).eval()
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    encoder = OpenClipEncoder(model, open_clip.get_tokenizer("ViT-B-32"), transform, name="ViT-B-32")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})[:32]
    images = [decode(file) for file in files]
    shard = Path(tempfile.mkdtemp(dir=scratch)) / "shard.parquet"
    rows = [{"id": file.stem, "image": file.read_bytes(), "caption": "A dog runs."} for file in files]
    parquet.write_table(pyarrow.Table.from_pylist(rows * 16), shard)
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    captions = [f"A photo depicts {n} people who walk along a street in the rain" for n in range(32)]
    return {
        "read a row of a shard": timed(lambda: list(read_entries(shard)), 16 * len(files)),
        "decode an image": timed(lambda: [decode(file) for file in files], len(files)),
        "preprocess an image": timed(lambda: [encoder.preprocess(image) for image in images], len(files)),
        "encode an image, fp32": timed(lambda: encoder.encode_pixels(pixels), len(files)),
        "tokenize a caption": timed(lambda: encoder.tokenize(captions), len(captions)),
        "encode a caption, fp32": timed(lambda: embed_captions(encoder, captions), len(captions)),
    }


def parts() -> list[Part]:
    """Return an encoded shard of random embeddings."""
    generator = np.random.default_rng(0)
    found = []
    for start in range(0, ROWS, PART_ROWS):
        ids = [f"{start + i:012}" for i in range(PART_ROWS)]
        rows = np.arange(PART_ROWS)
        x, y = (normalize(generator.normal(size=(PART_ROWS, DIMENSION)).astype(np.float32)) for _ in "xy")
        keys = tuple(f"{start + i:032x}" for i in rows)
        run = EncodedRun(tuple(ids), (), x, rows, keys, y, rows, keys)
        found.append(Part(ids, [None] * PART_ROWS, rows, run))
    return found


def after_encoding(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Measure the steps after the embeddings, and sizes."""
    given = parts()
    sides = [np.concatenate([getattr(p.run, side) for p in given]) for side in ("images", "texts")]
    moments = [Moments.of(side) for side in sides]
    statistics = Statistics("batch", "ViT-B-32", "", "", *moments)
    settings = ShardSettings(model="lite")
    fields = SignatureFields((("m", "ViT-B-32"),), (), Resampling())
    job = Job(settings, METRICS, fields, folder, statistics=statistics)
    saved, scores = folder / "saved.parquet", folder / "scores.parquet"

    def save() -> None:
        with write_shard(saved) as writer:
            for part in given:
                writer.write(part_columns(part, DIMENSION, references=False))

    def score() -> ShardSummary:
        summary, seen = ShardSummary(), (set[str](), set[str]())
        with write_shard(scores) as writer:
            for part in given:
                columns, part_summary = score_part(job, part, seen)
                writer.write(columns)
                summary = summary.merge(part_summary)
            writer.header = {"summary": summary.to_data()}
        return summary

    summary = score()
    times = {
        "save the embeddings of a pair": timed(save, ROWS),
        "restore a pair": timed(lambda: list(map(restore_part, read_parts(saved))), ROWS),
        "compute moments of a pair": timed(lambda: [Moments.of(side) for side in sides], ROWS),
        "score a pair and write it": timed(score, ROWS),
        "merge the moments of a shard": timed(lambda: [m.merge(m) for m in moments], 1),
        "merge the summary of a shard": timed(lambda: summary.merge(summary), 1),
    }
    sizes = {
        "saved embeddings of a pair": saved.stat().st_size / ROWS,
        "scores of a pair": (scores.stat().st_size - len(json.dumps(summary.to_data()))) / ROWS,
        "summary of a shard": len(json.dumps(summary.to_data())),
        "moments of a shard": sum(m.mean.nbytes + m.covariance.nbytes for m in moments),
    }
    return times, sizes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    torch.set_num_threads(1)
    folder = parser.parse_args().images
    with tempfile.TemporaryDirectory() as scratch:
        times = encoding(folder, Path(scratch))
        more, sizes = after_encoding(Path(scratch))
    print(tabulate((times | more).items(), ["step", "µs of one core"], floatfmt=",.0f"))
    print()
    print(tabulate(sizes.items(), ["data", "bytes"], floatfmt=",.0f"))
