"""Scoring of shards in this process."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow
import pytest
import shards_on_disk as on_disk
import tiny_models
from examples_on_disk import ROOT
from pyarrow import fs, parquet

from i0tscore.errors import I0TScoreError, InputError, SampleFileError, StatisticsError, UsageError
from i0tscore.integrations import shard_io, shards
from i0tscore.integrations.shard_io import find_shards, read_entries
from i0tscore.metrics.functional import Breakdown
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.results.result import DETAILS

METRICS = ("I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    tiny_models.register(tmp_path_factory.mktemp("configurations"))
    return tiny_models.encoder()


@pytest.fixture(scope="module")
def rows():
    return on_disk.make_rows(280)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, rows):
    return on_disk.write_parquet(tmp_path_factory.mktemp("corpus") / "shards", rows, 7)


@pytest.fixture(scope="module")
def single_run(encoder, rows):
    return on_disk.single(encoder, rows)


@pytest.fixture(scope="module")
def fitted(encoder, rows):
    import i0tscore

    half = rows[:140]
    return i0tscore.fit([row["image"]["bytes"] for row in half], [row["caption"] for row in half], model=encoder)


def assert_equal_results(summary, result):
    assert list(summary.metrics) == list(result)
    assert summary.n == result.n
    for name, metric in result.items():
        assert summary.metrics[name].mean == pytest.approx(metric.mean, abs=1e-6)
        mine, theirs = summary.metrics[name].signature, metric.signature
        assert [key for key, _ in mine.fields] == [key for key, _ in theirs.fields]
        own = {"bs", "stats"}  # means of merged moments differ in their last bits, and so do digests
        assert [f for f in mine.fields if f[0] not in own] == [f for f in theirs.fields if f[0] not in own]
    assert summary.gap == pytest.approx(result.gap, abs=1e-6)
    assert repr(summary).startswith(f"CorpusSummary(n={result.n}, {next(iter(result))}=")


def test_two_passes_equal_a_single_run(encoder, rows, corpus, single_run, tmp_path):
    summary = shards.score(corpus, output=tmp_path / "out", model=encoder, statistics="batch")
    assert_equal_results(summary, single_run)
    columns = on_disk.written(tmp_path / "out")
    assert columns["id"] == [row["id"] for row in rows]
    assert list(columns) == ["id", "image_key", "tokens", "tokens_cut", *METRICS, *Breakdown._fields, "skipped"]
    assert [a == b for a, b in pairwise(columns["image_key"])] == [i % 2 == 0 for i in range(279)]
    assert columns["tokens"] == single_run.tokens.tolist()
    for name, values in single_run.breakdown.items():
        np.testing.assert_allclose(columns[name], values, atol=1e-6)
    for name in METRICS:
        np.testing.assert_allclose(columns[name], single_run[name].values, atol=1e-6)
    assert not list(tmp_path.glob("out/.*"))


def test_fixed_statistics_take_one_pass(encoder, rows, corpus, fitted, tmp_path):
    summary = shards.score(corpus, output=tmp_path / "out", model=encoder, statistics=fitted)
    single_run = on_disk.single(encoder, rows, fitted)
    assert_equal_results(summary, single_run)
    assert summary.metrics["I0TScore"].signature["stats"] == single_run["I0TScore"].signature["stats"]
    assert summary.metrics["I0TScore"].scale == single_run["I0TScore"].scale
    columns = on_disk.written(tmp_path / "out")
    for detail in DETAILS:
        expected = getattr(single_run["I0TScore"], detail)
        np.testing.assert_allclose(columns[f"I0TScore.{detail}"], expected, atol=1e-3)
        assert f"RefI0TScore.{detail}" not in columns
    np.testing.assert_allclose(columns["semantic"], single_run.breakdown["semantic"], atol=1e-6)


def test_intervals_equal_the_bootstrap_for_any_division_into_shards(encoder, rows, corpus, single_run, tmp_path):
    divided = shards.score(corpus, output=tmp_path / "seven", model=encoder, statistics="batch")
    whole_corpus = on_disk.write_parquet(tmp_path / "whole", rows, 1)
    whole = shards.score(whole_corpus, output=tmp_path / "one", model=encoder, statistics="batch")
    for name in METRICS:
        assert divided.metrics[name].interval == pytest.approx(whole.metrics[name].interval, abs=1e-6)
        low, high = divided.metrics[name].interval
        expected_low, expected_high = single_run[name].interval
        assert high - low == pytest.approx(expected_high - expected_low, rel=0.15)
        assert low < divided.metrics[name].mean < high


def test_archives_and_parquet_files_score_alike(encoder, rows, corpus, fitted, tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    for number in range(7):
        part = rows[40 * number : 40 * (number + 1)]
        on_disk.write_tar(folder / f"{number}.tar", on_disk.tar_members(part))
    ours = {"model": encoder, "statistics": fitted}
    assert shards.score(folder, output=tmp_path / "a", **ours).metrics["RefI0TScore"].mean == pytest.approx(
        shards.score(corpus, output=tmp_path / "b", **ours).metrics["RefI0TScore"].mean, abs=1e-9
    )
    assert on_disk.written(tmp_path / "a")["id"] == [row["id"] for row in rows]


def test_finished_shards_are_not_encoded_again(encoder, corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    encoded = []
    encode = type(encoder).encode_pixels

    def counted(self, pixels):
        if len(encoded) == 4:
            encoded.append("interrupted")
            raise KeyboardInterrupt
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(type(encoder), "encode_pixels", counted)
    with pytest.raises(KeyboardInterrupt):  # in the first pass
        shards.score(corpus, output=out, model=encoder, statistics="batch", batch_size=20)
    assert not list(out.glob("*.parquet"))
    summary = shards.score(corpus, output=out, model=encoder, statistics="batch", batch_size=20)
    assert encoded == [20, 20, 20, 20, "interrupted", 20, 20, 20]
    kept = {file.name: file.stat().st_mtime_ns for file in out.glob("*.parquet")}
    (out / "shard-00005.parquet").unlink()
    again = shards.score(corpus, output=out, model=encoder, statistics="batch", batch_size=20)
    assert encoded[8:] == [20]
    assert again == summary
    del kept["shard-00005.parquet"]
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


def test_a_full_disk_leaves_finished_shards_and_nothing_half_written(encoder, corpus, fitted, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".shard-00002.parquet.draft").symlink_to("/dev/full")
    ours = {"output": out, "model": encoder, "statistics": fitted}
    with pytest.raises(I0TScoreError, match=r"shard-00002\.parquet: Cannot be written \(the disk is full\)"):
        shards.score(corpus, **ours)
    assert sorted(file.name for file in out.iterdir()) == ["shard-00000.parquet", "shard-00001.parquet"]
    assert shards.score(corpus, **ours).n == 280


def test_a_damaged_shard_names_itself(encoder, rows, fitted, tmp_path):
    corpus = on_disk.write_parquet(tmp_path / "shards", rows[:30], 3)
    content = (corpus / "shard-00001.parquet").read_bytes()
    (corpus / "shard-00001.parquet").write_bytes(content[:100] + bytes(2000) + content[2100:])
    with pytest.raises(InputError, match=r"shard-00001\.parquet"):
        shards.score(corpus, output=tmp_path / "out", model=encoder, statistics=fitted)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["shard-00000.parquet"]


def test_shards_on_an_object_store_score_like_local_ones(encoder, rows, corpus, fitted, tmp_path, monkeypatch):
    store = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())  # no local path for the code under test

    def locate(path):
        return store, str(path).removeprefix("s3://")

    local = shards.score(corpus, output=tmp_path / "local", model=encoder, statistics=fitted)
    on_disk.write_parquet(tmp_path / "bucket", rows, 7)
    monkeypatch.setattr(shards, "locate", locate)
    monkeypatch.setattr(shard_io, "locate", locate)
    ours = {"model": encoder, "statistics": fitted}
    remote = shards.score("s3://bucket", output="s3://scores", **ours)
    assert on_disk.written(tmp_path / "scores") == on_disk.written(tmp_path / "local")
    assert remote.metrics == local.metrics
    (tmp_path / "scores" / "shard-00003.parquet").unlink()
    assert shards.score("s3://bucket", output="s3://scores", **ours) == remote
    with pytest.raises(UsageError, match=r"holds the input shard shard-00000\.parquet"):
        shards.score("s3://bucket", output="s3://bucket", **ours)
    with pytest.raises(UsageError, match="local output folder"):
        shards.score("s3://bucket", output="s3://other", model=encoder, statistics="batch")


def test_paths_and_uris_are_located():
    assert shard_io.locate("a folder/b%20")[1].endswith("/a folder/b%20")
    for uri in ("s3://bucket/a/b?region=eu-west-1", Path("s3://bucket/a/b?region=eu-west-1")):
        filesystem, path = shard_io.locate(uri)
        assert (filesystem.type_name, path) == ("s3", "bucket/a/b")
    with pytest.raises(UsageError, match="such as s3://bucket/folder") as error:
        shard_io.locate("nothing://name:password@bucket")
    assert "password" not in str(error.value)


def test_scores_of_other_settings_are_not_mixed(encoder, rows, corpus, fitted, tmp_path):
    out = tmp_path / "out"
    shards.score(corpus, output=out, model=encoder, statistics=fitted)
    (out / "shard-00003.parquet").unlink()
    for other in (
        {"statistics": "batch"},
        {"statistics": fitted, "metrics": ["CLIPScore"]},
        {"statistics": fitted, "resamples": 100},
        {"statistics": fitted, "model": tiny_models.encoder(seed=1)},
    ):
        with pytest.raises((UsageError, StatisticsError), match=r"another output folder|belong to"):
            shards.score(corpus, output=out, **{"model": encoder, **other})
        assert not (out / "shard-00003.parquet").exists()
    changed = on_disk.write_parquet(tmp_path / "changed", rows[:200], 7)
    with pytest.raises(UsageError, match="other bytes"):
        shards.score(changed, output=out, model=encoder, statistics=fitted)


def test_statistics_of_other_shards_are_an_error(encoder, rows, corpus, tmp_path):
    shards.score(corpus, output=tmp_path / "out", model=encoder, statistics="batch")
    more = on_disk.write_parquet(tmp_path / "more", rows, 8)
    with pytest.raises(UsageError, match="fitted to other shards"):
        shards.score(more, output=tmp_path / "out", model=encoder, statistics="batch")


def test_bad_rows_are_an_error_or_skipped_in_place(encoder, fitted, tmp_path):
    rows = on_disk.make_rows(12, captions_an_image=1)
    rows[2]["caption"] = " "
    rows[5]["image"]["bytes"] = b"not an image"
    rows[7]["references"] = []
    rows[9]["image"] = {"bytes": None, "path": "../secret.png"}
    corpus = on_disk.write_parquet(tmp_path / "shards", rows, 2)
    ours = {"model": encoder, "statistics": fitted}
    with pytest.raises(
        InputError, match=r"shard-00000(?s:.)*row 3 \(id \"row-2\"\): Expected a caption, got an empty string"
    ):
        shards.score(corpus, output=tmp_path / "out", **ours)
    assert not list((tmp_path / "out").iterdir())
    summary = shards.score(corpus, output=tmp_path / "out", on_error="skip", **ours)
    columns = on_disk.written(tmp_path / "out")
    reasons = {i: reason for i, reason in enumerate(columns["skipped"]) if reason is not None}
    assert list(reasons) == [2, 5, 7, 9]
    assert "text, not an image" in reasons[5]
    assert "no references" in reasons[7]
    assert "outside" in reasons[9]
    assert [i for i, value in enumerate(columns["I0TScore"]) if value is None] == [2, 5, 7, 9]
    assert columns["id"] == [row["id"] for row in rows]
    assert (summary.n, summary.n_skipped) == (8, 4)
    assert summary.metrics["CLIPScore"].signature["skipped"] == "4"
    batch = {"model": encoder, "statistics": "batch", "on_error": "skip"}
    two_passes = shards.score(corpus, output=tmp_path / "batch", **batch)
    assert (two_passes.n, two_passes.n_skipped) == (8, 4)
    assert on_disk.written(tmp_path / "batch")["skipped"] == columns["skipped"]
    good = [row for i, row in enumerate(rows) if i not in reasons]
    with pytest.warns(UserWarning, match="statistics were computed from only"):
        assert_means(two_passes, on_disk.single(encoder, good))


def assert_means(summary, result):
    for name, metric in result.items():
        assert summary.metrics[name].mean == pytest.approx(metric.mean, abs=1e-6)


def test_images_are_found_in_the_images_folder(encoder, fitted, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        (images / f"{name}.png").write_bytes(on_disk.png(ord(name)))
    table = pyarrow.table({"image": ["a.png", "b", "a.png"], "caption": ["one", "two", "three"]})
    parquet.write_table(table, tmp_path / "paths.parquet")
    summary = shards.score(
        tmp_path / "paths.parquet", output=tmp_path / "out", images=images, model=encoder, statistics=fitted
    )
    assert summary.n == 3
    assert on_disk.written(tmp_path / "out")["id"] == ["a", "b", "a"]
    assert list(summary.metrics) == ["I0TScore", "CLIPScore"]


def test_contexts_score_as_in_a_single_run(encoder, fitted, tmp_path):
    rows = on_disk.make_rows(40)
    places = [None if i % 5 == 4 else f"a text about {i // 8} houses" for i in range(40)]
    rows = [{**row, "context": place} for row, place in zip(rows, places, strict=True)]
    places[20:] = [None] * 20
    for row in rows[20:]:  # a part without any
        row["context"] = None
    corpus = on_disk.write_parquet(tmp_path / "shards", rows, 2)
    summary = shards.score(corpus, output=tmp_path / "out", model=encoder, statistics=fitted)
    columns = [[row[name] for row in rows] for name in ("caption", "references", "id", "context")]
    result = I0TScorer(encoder, statistics=fitted).score([row["image"]["bytes"] for row in rows], *columns)
    assert list(summary.metrics) == list(result)
    assert "ContextI0TScore" in result
    for name, metric in result.items():
        assert summary.metrics[name].mean == pytest.approx(metric.mean, abs=1e-6)
    values = on_disk.written(tmp_path / "out")["ContextI0TScore"]
    assert [value is None for value in values] == [place is None for place in places]


def test_the_summary_follows_the_schema(encoder, corpus, fitted, tmp_path):
    summary = shards.score(corpus, output=tmp_path / "out", model=encoder, statistics=fitted)
    data = json.loads((tmp_path / "out" / "summary.json").read_text())
    schema = json.loads((ROOT / "docs/reference/result.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(data)
    assert data == json.loads(json.dumps(summary.to_dict()))


def test_entries_without_sample_have_a_reason(tmp_path):
    shard = on_disk.write_tar(
        tmp_path / "odd.tar",
        [
            ("./a/1.jpg", b"image"),
            ("./a/1.txt", "café\n".encode()),
            ("./a/1.cls", b"7"),
            ("2.txt", b"no image"),
            ("3.jpg", b"image"),
            ("3.json", b"{broken"),
            ("4.jpg", b"image"),
            ("4.json", b'{"caption": ["one", ""], "image": "/etc/passwd"}'),
            ("5.jpg", b"image"),
            ("5.txt", b"\xff"),
            ("6.txt", b"x" * 1_000_001),
            ("6.jpg", b"image"),
        ],
    )
    entries = list(read_entries(shard))
    assert [entry.sample is not None for entry in entries] == [True, False, False, True, False, False, False]
    assert (entries[0].id, entries[0].sample.caption) == ("a/1", "café")
    assert entries[3].sample.image.read_bytes() == b"image"
    for entry, reason in zip(
        entries[1:3] + entries[4:],
        ["no image of this name", "Invalid JSON", "empty", "Expected UTF-8", "got 1,000,001"],
        strict=True,
    ):
        assert reason in entry.reason
    assert len({entry.label for entry in entries}) == len(entries)


def test_a_shard_may_have_any_input_format(tmp_path):
    for name in ("dog.jpg", "cat.jpg"):
        (tmp_path / name).write_bytes(b"not decoded here")
    shard = tmp_path / "captions.jsonl"
    shard.write_text('{"id": "dog", "caption": "A dog."}\n{broken\n{"id": "cat", "caption": ["A cat.", ""]}\n')
    assert [found.path for found in find_shards(shard)] == [str(shard)]
    entries = list(read_entries(shard))
    assert [(entry.label, entry.sample is not None) for entry in entries] == [
        ('line 1 (id "dog")', True),
        ("line 2", False),
        ('line 3 (id "cat"), caption 1', True),
        ('line 3 (id "cat"), caption 2', False),
    ]
    assert "Invalid JSON" in entries[1].reason


@pytest.mark.parametrize("name", ["bad.tar", "bad.parquet"])
def test_errors_name_damaged_shards(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(SampleFileError, match=name):
        list(read_entries(tmp_path / name))


def test_paths_without_shards_are_an_error(encoder, corpus, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "shard-00000.tar").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="folder of them, got none"):
        find_shards(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"missing\.parquet: .* got none"):
        find_shards(tmp_path / "missing.parquet")
    with pytest.raises(UsageError, match=r"\.parquet or \.tar"):
        find_shards(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="the same file"):
        find_shards([corpus, tmp_path / "shard-00000.tar"])
    with pytest.raises(UsageError, match="as paths"):
        find_shards(7)
    with pytest.raises(UsageError, match="another folder"):
        shards.score(corpus, output=corpus, model=encoder)


def test_logs_of_img2dataset_are_no_shards(tmp_path):
    for name in ("00000.tar", "00000.parquet", "00000_stats.json", "00001.tar", "other.parquet"):
        (tmp_path / name).write_bytes(b"")
    assert [shard.stem for shard in find_shards(tmp_path)] == ["00000", "00001", "other"]
    (tmp_path / "00000_stats.json").unlink()
    with pytest.raises(UsageError, match="the same file"):
        find_shards(tmp_path)


def test_errors_name_missing_columns(encoder, tmp_path):
    parquet.write_table(pyarrow.table({"id": ["1"], "what": ["a"]}), tmp_path / "shard.parquet")
    with pytest.raises(SampleFileError, match='"caption"'):
        shards.score(tmp_path / "shard.parquet", output=tmp_path / "out", model=encoder)


def test_auto_never_takes_two_passes(encoder, corpus, tmp_path):
    with pytest.raises(StatisticsError, match="statistics='batch'"):
        shards.score(corpus, output=tmp_path / "out", model=encoder)
    summary = shards.score(corpus, output=tmp_path / "out", model=encoder, metrics="CLIPScore")
    assert summary.gap["post"] is None
    assert summary.metrics["CLIPScore"].signature["stats"] == "none"
