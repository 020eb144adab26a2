"""Scoring of shards on a local Ray cluster, which ray_runs.py runs in a process of its own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import shards_on_disk as on_disk
import tiny_models

from i0tscore import I0TScorer
from i0tscore.cli.main import main
from i0tscore.errors import MissingExtraError, SampleFileError, UsageError
from i0tscore.integrations.ray import score

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
TESTS = Path(__file__).parent


def in_own_process(folder, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, str(TESTS / "ray_runs.py"), str(folder), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def facts(folder):
    large = on_disk.make_rows(24, captions_an_image=1, side=256)
    on_disk.write_parquet(folder / "many", large * 48, 48)
    done = in_own_process(folder)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "facts.json").read_text())


@needs_ray
def test_a_run_with_a_killed_worker_equals_a_single_run(facts, folder):
    assert int((folder / "killed.txt").read_text()) > 0
    tiny_models.register(folder)
    single_run = on_disk.single(tiny_models.encoder(), on_disk.make_rows(264))
    summary = facts["batch"]["summary"]
    assert summary["n"] == 264
    columns = on_disk.written(folder / "out")
    assert columns["id"] == list(single_run.ids)
    assert len(single_run) == 4
    for name, metric in single_run.items():
        assert summary["scores"][name]["mean"] == pytest.approx(metric.mean, abs=1e-6)
        np.testing.assert_allclose(columns[name], metric.values, atol=1e-6)
    for name, distance in single_run.gap.items():
        assert summary["gap"][name] == pytest.approx(distance, abs=1e-6)
    assert not list(folder.glob("out/.*"))


@needs_ray
@pytest.mark.parametrize("victim", ["driver", "raylet"])
def test_a_run_continues_after_its_driver_or_the_daemon_of_ray_is_killed(tmp_path, victim):
    rows = on_disk.make_rows(48, captions_an_image=1)
    on_disk.write_parquet(tmp_path / "shards", rows, 6)
    assert in_own_process(tmp_path, victim).returncode != 0
    assert (tmp_path / "killed.txt").exists()
    assert not (tmp_path / "out" / "summary.json").exists()
    finished = len(list(tmp_path.glob("out/*.parquet")))
    assert finished < 6
    (tmp_path / "encoded.txt").unlink()
    done = in_own_process(tmp_path, victim)
    assert done.returncode == 0, done.stderr
    assert on_disk.written(tmp_path / "out")["id"] == [row["id"] for row in rows]
    assert ray_encoded(tmp_path) == 8 * (6 - finished)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["n"] == 48


def ray_encoded(folder):
    return sum(int(line.split()[1]) for line in (folder / "encoded.txt").read_text().splitlines())


@needs_ray
def test_finished_shards_are_not_encoded_again(facts):
    batch = facts["batch"]
    assert batch["same"]
    assert batch["kept"] == [f"shard-{n:05}.parquet" for n in (0, 2, 3, 5)]
    assert batch["encoded_again"] == 44  # two shards of 22 images


@needs_ray
def test_driver_memory_does_not_grow_with_the_corpus(facts, folder):
    if facts["memory"] is None:
        pytest.skip("this system does not report the peak memory of a process")
    size = sum(file.stat().st_size for file in (folder / "many").iterdir())
    assert size > 200_000_000
    assert facts["memory"] < size / 2


def test_errors_of_workers_keep_their_class_and_message():
    problems = SampleFileError("shard.tar", ["row 1: empty", "row 2: empty"])
    missing = MissingExtraError("a package", "extra", "this")
    for error in (problems, missing, UsageError("no such thing")):
        restored = pickle.loads(pickle.dumps(error))
        assert type(restored) is type(error)
        assert (str(restored), vars(restored)) == (str(error), vars(error))


@needs_ray
def test_the_command_starts_a_cluster_and_shuts_it_down(facts, folder):
    command = facts["command"]
    assert command["code"] == 0
    assert not command["left_running"]
    assert facts["left_running"]
    rows = on_disk.make_rows(6)
    result = I0TScorer("lite").score(
        [row["image"]["bytes"] for row in rows],
        [row["caption"] for row in rows],
        [row["references"] for row in rows],
    )
    scores = command["result"]["scores"]
    assert list(scores) == list(result)
    for name, metric in result.items():
        assert scores[name]["mean"] == pytest.approx(metric.mean, abs=1e-6)
    assert on_disk.written(folder / "photographs.scores")["id"] == [row["id"] for row in rows]


@needs_ray
def test_a_dataset_gets_columns_of_scores(facts):
    dataset = facts["dataset"]
    names = ["I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore"]
    assert dataset["columns"] == ["id", "image", "text", "references", *names]
    rows = on_disk.make_rows(6)
    result = I0TScorer("lite").score(
        [row["image"]["bytes"] for row in rows],
        [row["caption"] for row in rows],
        [row["references"] for row in rows],
    )
    found = [dataset["scores"][row["id"]] for row in rows]
    np.testing.assert_allclose(found, np.transpose([result[name].values for name in names]), atol=1e-6)
    assert "the caption is empty" in dataset["error"]
    assert "score_dataset" in dataset["refused"]


def test_without_ray_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data", raising=False)
    assert main(["score", "shards", "--engine", "ray", "--model", "lite"]) == 1
    assert 'pip install "i0tscore[ray]"' in capsys.readouterr().err
    with pytest.raises(MissingExtraError):
        score("shards", output="out")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--engine", "ray", "--references", "r.json"], "--references"),
        (["--engine", "ray", "--format", "csv"], "--format csv"),
        (["--engine", "ray", "--per-sample"], "--per-sample"),
        (["--actors", "2"], "--engine ray"),
    ],
)
def test_options_that_do_not_apply_to_shards_are_an_error(options, named, capsys):
    assert main(["score", "shards", *options]) == UsageError.exit_code
    assert named in capsys.readouterr().err
