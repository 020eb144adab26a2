"""Write shards of noise images with random captions, for tests in which the encoder does not matter."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

WORDS = [
    "red",
    "green",
    "blue",
    "dog",
    "cat",
    "house",
    "tree",
    "car",
    "small",
    "large",
    "runs",
    "sits",
    "under",
]


def png(seed: int, side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def make_rows(count: int, *, captions_an_image: int = 2, side: int = 32) -> list[dict[str, Any]]:
    generator = np.random.default_rng(7)

    def text() -> str:
        return " ".join(generator.choice(WORDS, 6))

    return [
        {
            "id": f"row-{i}",
            "image": {"bytes": png(i // captions_an_image, side), "path": None},
            "caption": text(),
            "references": [text() for _ in range(1 + i % 3)],
        }
        for i in range(count)
    ]


def write_parquet(folder: Path, rows: list[dict[str, Any]], shards: int) -> Path:
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
        table = pyarrow.Table.from_pylist([rows[i] for i in part])
        parquet.write_table(table, folder / f"shard-{number:05}.parquet")
    return folder


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def tar_members(rows: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """Return each row as an image with a JSON file; every other caption is in a text file next to it."""
    members = []
    for i, row in enumerate(rows):
        described = {"id": row["id"], "references": row["references"]}
        if i % 2:
            members.append((f"{i:06}.txt", row["caption"].encode()))
        else:
            described["caption"] = row["caption"]
        members.append((f"{i:06}.json", json.dumps(described).encode()))
        members.append((f"{i:06}.png", row["image"]["bytes"]))
    return members


def single(encoder: Any, rows: list[dict[str, Any]], statistics: Any = "batch") -> Any:
    """Score all rows in one run of the scorer."""
    import i0tscore

    scorer = i0tscore.I0TScorer(encoder, statistics=statistics)
    return scorer.score(
        [row["image"]["bytes"] for row in rows],
        [row["caption"] for row in rows],
        [row["references"] for row in rows],
        [row["id"] for row in rows],
    )


def written(folder: Path) -> dict[str, list[Any]]:
    """Return the columns of all output shards in order."""
    tables = [parquet.read_table(file) for file in sorted(folder.glob("*.parquet"))]
    return pyarrow.concat_tables(tables).to_pydict()
