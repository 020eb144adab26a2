"""Cost of each step of a run over shards, for the estimates of docs/evidence/large-runs.md.

    python benchmarks/large_runs.py --images FOLDER      # any images, such as Flickr8k's

Times are CPU seconds of one thread, which other work on the machine hardly affects. The model is open_clip's ViT-B-32
with random weights, which is as fast as with trained weights. The steps after the encoder are timed on random
embeddings of 512 dimensions, in a shard of 10,240 pairs without references.
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
from pyarrow import fs, parquet
from tabulate import tabulate

from i0tscore.encoders.cache import EmbeddingCache
from i0tscore.encoders.encode import EncodedRun
from i0tscore.encoders.images import decode, load
from i0tscore.encoders.loop import embed_captions
from i0tscore.encoders.open_clip_models import quiet
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.gap import Moments, Statistics, normalize
from i0tscore.integrations.shard_io import PART_ROWS, Entry, Part, Shard, find_shards, open_scores, read_parts
from i0tscore.integrations.shard_summary import CorpusSums
from i0tscore.integrations.shards import Job, ScoredPart, ShardWorker, write_shard
from i0tscore.metrics.metric import parse_metrics
from i0tscore.results import Resampling
from i0tscore.results.signature import SignatureFields
from i0tscore.samples import Sample
from i0tscore.samples.sample import StoredImage

DIMENSION = 512
PARTS = 10
ROWS = PARTS * PART_ROWS
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
    images, contents = [decode(file) for file in files], [file.read_bytes() for file in files]
    shard = Path(tempfile.mkdtemp(dir=scratch)) / "shard.parquet"
    rows = [{"id": file.stem, "image": file.read_bytes(), "caption": "A dog runs."} for file in files]
    parquet.write_table(pyarrow.Table.from_pylist(rows * 16), shard)
    (read,) = find_shards(shard)
    cache = EmbeddingCache(encoder, scratch / "cache")
    vectors = {f"{i:064x}": vector for i, vector in enumerate(unit_vectors())}
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    captions = [f"A photo depicts {n} people who walk along a street in the rain" for n in range(32)]
    times = {
        "read a row of a shard": timed(lambda: list(read_parts(read)), 16 * len(files)),
        "load an image": timed(lambda: [load(content) for content in contents], len(files)),
        "decode an image": timed(lambda: [decode(file) for file in files], len(files)),
        "preprocess an image": timed(lambda: [encoder.preprocess(image) for image in images], len(files)),
        "encode an image, fp32": timed(lambda: encoder.encode_pixels(pixels), len(files)),
        "tokenize a caption": timed(lambda: encoder.tokenize(captions), len(captions)),
        "encode a caption, fp32": timed(lambda: embed_captions(encoder, captions), len(captions)),
        "store an embedding": timed(lambda: cache.put("image", vectors), len(vectors)),
        "restore an embedding": timed(lambda: [cache.get("image", key) for key in vectors], len(vectors)),
    }
    cache.close()
    return times


def unit_vectors(seed: int = 0) -> Any:
    """Return random embeddings of a part."""
    return normalize(np.random.default_rng(seed).normal(size=(PART_ROWS, DIMENSION)).astype(np.float32))


class Encoded(ShardWorker):
    """Scores random embeddings."""

    def _encode(self, job: Job, part: Part) -> tuple[EncodedRun, list[str | None]]:
        rows = np.arange(PART_ROWS)
        x, y = unit_vectors(part.start), unit_vectors(part.start + 1)
        keys = tuple(f"{part.start + i:064x}" for i in rows)
        tokens = np.full(PART_ROWS, 12)
        ids = tuple(entry.id for entry in part.entries)
        run = EncodedRun(ids, (), x, rows, keys, y, rows, keys, tokens=tokens, tokens_cut=0 * tokens)
        return run, [None] * PART_ROWS


def after_encoding(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Measure the steps after the embeddings, and sizes."""
    x, y = unit_vectors(), unit_vectors(1)
    statistics = Statistics("batch", "ViT-B-32", "", "", Moments.of(x), Moments.of(y))
    fields = SignatureFields((("m", "ViT-B-32"),), (), Resampling(), ranks=False)
    job = Job(METRICS, fields, None, statistics)
    target = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
    keys = np.random.default_rng(2).integers(1, 1 << 63, PART_ROWS).tolist()
    given, shard = [], Shard(fs.LocalFileSystem(), "scores", 0)
    for start in range(0, ROWS, PART_ROWS):
        samples = [Sample(f"{start + i:012}", StoredImage("", b""), "") for i in range(PART_ROWS)]
        entries = [Entry(one.id, one.id, one, "", key) for one, key in zip(samples, keys, strict=True)]
        given.append(Part(shard, start, entries, last=start + PART_ROWS == ROWS))
    worker = Encoded({"model": "lite"})
    embedding = timed(lambda: [worker._encode(job, part) for part in given], ROWS)
    scored: list[ScoredPart] = [worker.score(job, part) for part in given]

    def write() -> None:
        write_shard(target, shard, iter(scored), job.identity)

    write()
    scores, header = open_scores(target, "scores.parquet")
    times = {
        "compute moments of a pair": timed(lambda: [Moments.of(side) for side in (x, y)], PART_ROWS),
        "merge the statistics of a part": timed(lambda: statistics.merge(statistics), 1),
        "score a pair": timed(lambda: [worker.score(job, part) for part in given], ROWS) - embedding,
        "write the scores of a pair": timed(write, ROWS),
        "summarize a pair": timed(lambda: CorpusSums(["I0TScore", "CLIPScore"]).read(target, "scores.parquet"), ROWS),
    }
    size = len(json.dumps(header))
    stored = sum(file.stat().st_size for file in (folder / "cache").iterdir())
    sizes = {
        "stored embeddings of a pair": 2 * stored / PART_ROWS,
        "scores of a pair": (Path(folder, "scores.parquet").stat().st_size - size) / ROWS,
        "header of a shard": size,
        "moments of a part": sum(m.mean.nbytes + m.covariance.nbytes for m in (statistics.image, statistics.caption)),
    }
    scores.close()
    return times, sizes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    torch.set_num_threads(1)
    folder = parser.parse_args().images
    with tempfile.TemporaryDirectory() as scratch:
        times = encoding(folder, Path(scratch))
        more, sizes = after_encoding(Path(scratch))
    print(tabulate((times | more).items(), ["step", "µs of one core"], floatfmt=",.1f"))
    print()
    print(tabulate(sizes.items(), ["data", "bytes"], floatfmt=",.0f"))
