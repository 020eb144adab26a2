"""Runs on a local Ray cluster, whose results test_ray.py checks.

They run in a separate process because Ray opens sockets, starts threads, and emits warnings.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
import shards_on_disk as on_disk
import tiny_models

from i0tscore.cli.main import main
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.errors import UsageError
from i0tscore.integrations.ray import score, score_dataset

SHARDS = 6


class Observed(OpenClipEncoder):
    """Logs how many images it encodes, and kills a process in the fifth batch, once."""

    folder: Path
    victim = "worker"

    def encode_pixels(self, pixels: Any) -> Any:
        with (self.folder / "encoded.txt").open("a") as file:
            file.write(f"{os.getpid()} {len(pixels)}\n")
        if sum(1 for _ in (self.folder / "encoded.txt").open()) >= 5:
            with contextlib.suppress(FileExistsError):
                (self.folder / "killed.txt").open("x").write(str(os.getpid()))
                pids = {"worker": os.getpid(), "raylet": os.getppid()}  # Ray's daemon starts the workers
                if self.victim == "driver":
                    pids["driver"] = int((self.folder / "driver.txt").read_text())
                os.kill(pids[self.victim], signal.SIGKILL)
                time.sleep(5)
        return super().encode_pixels(pixels)


def observed(folder: Path) -> Any:
    tiny_models.register(folder)
    encoder = copy.copy(tiny_models.encoder())
    encoder.__class__ = Observed
    encoder.folder = folder
    return encoder


def encoded(folder: Path) -> int:
    lines = (folder / "encoded.txt").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines)


def killed_and_resumed(folder: Path, encoder: Any) -> dict[str, Any]:
    corpus = on_disk.write_parquet(folder / "shards", on_disk.make_rows(264), SHARDS)
    ours: dict[str, Any] = {"output": folder / "out", "model": encoder, "statistics": "batch"}
    first = score(corpus, actors=2, **ours)
    before = encoded(folder)
    times = {file.name: file.stat().st_mtime_ns for file in folder.glob("out/*.parquet")}
    gone = [folder / "out" / f"shard-{n:05}.parquet" for n in (1, 4)]
    for file in gone:
        file.unlink()
    second = score(corpus, actors=1, **ours)
    kept = [name for name, time in times.items() if (folder / "out" / name).stat().st_mtime_ns == time]
    return {
        "summary": first.to_dict(),
        "same": first == second,
        "kept": sorted(kept),
        "encoded_again": encoded(folder) - before,
    }


def memory(folder: Path, encoder: Any) -> int | None:
    """Return the peak growth of this process while it scores many shards; None where Linux does not report it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    except OSError:
        return None
    before = resident("VmRSS")
    score(folder / "many", output=folder / "many-out", model=encoder, metrics="CLIPScore", actors=1)
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """Return a value of /proc/self/status in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


def command(folder: Path) -> dict[str, Any]:
    """Run the command with the embedded model, on a cluster that it starts and shuts down itself."""
    corpus = on_disk.write_parquet(folder / "photographs", on_disk.make_rows(6), 2)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["score", str(corpus), "--engine", "ray", "--model", "lite", "--actors", "1", "--format", "json"])
    return {"code": code, "result": json.loads(out.getvalue()), "left_running": ray.is_initialized()}


def dataset(folder: Path) -> dict[str, Any]:
    """Score a Ray dataset, and collect the errors for invalid ones."""
    rows = ray.data.read_parquet(str(folder / "photographs")).rename_columns({"caption": "text"})
    options: dict[str, Any] = {"model": "lite", "caption": "text", "references": "references"}
    scored = score_dataset(rows, batch_size=4, **options)
    columns = scored.columns()
    names = [name for name in columns if name.endswith("Score")]
    found = {row["id"]: [float(row[name]) for name in names] for row in scored.take_all()}
    facts: dict[str, Any] = {"columns": columns, "scores": found}
    try:
        score_dataset(rows.map(lambda row: {**row, "text": " "}), actors=1, **options).take_all()
    except ray.exceptions.RayTaskError as error:
        facts["error"] = str(error)
    try:
        score(rows, output=folder / "nowhere", model="lite")
    except UsageError as error:
        facts["refused"] = str(error)
    return facts


def interrupted(folder: Path, victim: str) -> None:
    """Score shards until the victim is killed, or to the end if it was killed before."""
    encoder = observed(folder)
    encoder.victim = victim
    (folder / "driver.txt").write_text(str(os.getpid()))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    score(folder / "shards", output=folder / "out", model=encoder, metrics="CLIPScore", actors=1)


def run(folder: Path) -> None:
    facts: dict[str, Any] = {"command": command(folder)}
    encoder = observed(folder)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        facts["batch"] = killed_and_resumed(folder, encoder)
        facts["memory"] = memory(folder, encoder)
        facts["dataset"] = dataset(folder)
        facts["left_running"] = ray.is_initialized()
    finally:
        ray.shutdown()
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        interrupted(Path(sys.argv[1]), sys.argv[2])
    else:
        run(Path(sys.argv[1]))
