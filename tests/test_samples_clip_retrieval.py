"""clip-retrieval's folders of embeddings, from Python and from the command line."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import i0tscore
from i0tscore.cli.main import main
from i0tscore.errors import SampleFileError
from i0tscore.metrics.scorer import I0TScorer
from i0tscore.samples.embeddings import read_clip_retrieval
from i0tscore.samples.formats import FORMATS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8)).astype(np.float16)
Y = (X + RNG.normal(size=(60, 8))).astype(np.float16)
# By name shard 10 comes before shard 9.
SHARDS = {9: slice(0, 40), 10: slice(40, 60)}


def write(folder: Path, images=X, captions=Y, columns=("key", "image_path", "caption")) -> Path:
    everything = {
        "key": [f"{i:05d}" for i in range(len(images))],
        "image_path": [f"/data/été {i}.v2.jpg" for i in range(len(images))],
        "caption": [f"caption {i}" for i in range(len(images))],
        "width": list(range(len(images))),
    }
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, rows in SHARDS.items():
        np.save(folder / f"img_emb/img_emb_{number}.npy", images[rows])
        np.save(folder / f"text_emb/text_emb_{number}.npy", captions[rows])
        table = pa.table({name: everything[name][rows] for name in (*columns, "width")})
        pq.write_table(table, folder / f"metadata/metadata_{number}.parquet")
    return folder


def unit(values):
    return values.astype(float) / np.linalg.norm(values.astype(float), axis=1, keepdims=True)


def call(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def test_shards_are_joined_in_the_order_of_their_numbers(tmp_path) -> None:
    pairs = read_clip_retrieval(write(tmp_path / "e"))
    assert pairs.images[:].dtype == pairs.captions[:].dtype == np.float32
    np.testing.assert_allclose(pairs.images[:], unit(X), atol=1e-6)
    np.testing.assert_allclose(pairs.captions[:], unit(Y), atol=1e-6)
    assert pairs.ids[:2] == ("00000", "00001")
    assert pairs.texts[40] == "caption 40"
    assert FORMATS["clip-retrieval"].folder(tmp_path / "e")
    assert not FORMATS["clip-retrieval"].folder(tmp_path)


def test_ids_are_keys_or_stems_or_positions(tmp_path) -> None:
    by_path = read_clip_retrieval(write(tmp_path / "a", columns=("image_path",)))
    assert by_path.ids[:2] == ("été 0.v2", "été 1.v2")
    assert by_path.texts == ()
    folder = write(tmp_path / "b", columns=())
    assert read_clip_retrieval(folder).ids[39:41] == ("39", "40")
    for file in (folder / "metadata").iterdir():
        file.unlink()
    (folder / "metadata").rmdir()
    assert read_clip_retrieval(folder).ids[39:41] == ("39", "40")


@pytest.mark.filterwarnings("ignore:The statistics were computed from only")
def test_the_command_line_scores_a_folder_and_shows_its_captions(tmp_path) -> None:
    folder = write(tmp_path / "e")
    code, out, err = call("score", folder, "--statistics", "batch", "--format", "json")
    assert (code, err.count("error")) == (0, 0)
    found = json.loads(out)
    expected = i0tscore.i0t_score(X.astype(np.float32), Y.astype(np.float32), statistics="batch")["I0TScore"]
    assert found["scores"]["I0TScore"]["mean"] == pytest.approx(expected.mean, abs=1e-5)
    assert [s["id"] for s in found["samples"]][:2] == ["00000", "00001"]
    assert found["samples"][41]["caption"] == "caption 41"
    assert found["samples"][41]["scores"]["I0TScore"]["value"] == pytest.approx(expected.values[41], abs=1e-5)
    statistics = tmp_path / "mine.safetensors"
    assert call("fit", folder, "--output", statistics)[0] == 0
    code, out, _ = call(folder, "--statistics", statistics, "--format", "json")
    again = json.loads(out)
    assert again["scores"]["I0TScore"]["mean"] == pytest.approx(expected.mean, abs=1e-5)
    assert again["samples"][3]["scores"]["I0TScore"]["percentile_matched"] is not None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["images"], "holds embeddings, which are read without caption files, images"),
        (["--references", "r.json"], "holds embeddings, which are read without caption files, images"),
        (["--precision", "bf16"], "have no effect on embeddings"),
    ],
)
def test_options_of_other_inputs_are_refused(tmp_path, options, reason) -> None:
    code, _, err = call("score", write(tmp_path / "e"), *options)
    assert code == 2
    assert reason in err


def break_counts(folder):
    np.save(folder / "text_emb/text_emb_9.npy", Y[:39])


def break_metadata_counts(folder):
    pq.write_table(pa.table({"key": ["a"]}), folder / "metadata/metadata_10.parquet")


def remove_texts(folder):
    for file in (folder / "text_emb").iterdir():
        file.unlink()
    (folder / "text_emb").rmdir()


def remove_shard(folder):
    (folder / "metadata/metadata_10.parquet").unlink()


def change_dimension(folder):
    np.save(folder / "img_emb/img_emb_10.npy", X[40:, :7])


def save_objects(folder):
    np.save(folder / "img_emb/img_emb_10.npy", np.array([{}, None]), allow_pickle=True)


def save_words(folder):
    np.save(folder / "img_emb/img_emb_10.npy", np.array([["a"], ["b"]]))


def spoil_rows(folder):
    values = X[40:].copy()
    values[3], values[5, 2] = 0, np.nan
    np.save(folder / "img_emb/img_emb_10.npy", values)


def damage_metadata(folder):
    (folder / "metadata/metadata_9.parquet").write_bytes(b"PAR1 and no more")


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (break_counts, ["rows in shard 9, got img_emb 40, text_emb 39, metadata 40."]),
        (break_metadata_counts, ["rows in shard 10, got img_emb 20, text_emb 20, metadata 1."]),
        (remove_texts, ["No text_emb/text_emb_0.npy", "texts enabled"]),
        (remove_shard, ["metadata: Shard 10 is missing, though other folders have it"]),
        (change_dimension, ["embeddings of 7, 8 dimensions"]),
        (save_objects, ["img_emb_10.npy", "Not a readable array of numbers"]),
        (save_words, ["img_emb, shard 10: Expected numbers of shape (n, d), got <U1 (2, 1)"]),
        (spoil_rows, ["img_emb, shard 10: 1 rows are NaN or infinite (rows 5)", "all zeros", "(rows 3)"]),
        (damage_metadata, ["metadata_9.parquet", "Not a readable parquet file"]),
    ],
)
def test_what_is_wrong_is_said(tmp_path, damage, reasons) -> None:
    folder = write(tmp_path / "e")
    damage(folder)
    with pytest.raises(SampleFileError) as error:
        read_clip_retrieval(folder)
    assert all(reason in str(error.value) for reason in reasons), error.value


def test_memory_does_not_grow_with_the_dimension(tmp_path) -> None:
    n, d = 20_000, 512
    for name in ("img_emb", "text_emb"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / f"{name}_0.npy", np.random.default_rng(0).normal(size=(n, d)).astype(np.float16))
    tracemalloc.start()
    pairs = read_clip_retrieval(tmp_path)
    result = I0TScorer(statistics="batch", resamples=0, ranks=False).score(pairs.images, pairs.captions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result["CLIPScore"].mean == pytest.approx(2.5)
    assert peak < 8 * n * d, "one copy in float32 of both sides"
