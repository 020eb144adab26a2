"""Scores as columns of Hugging Face datasets, and datasets as input of the package."""

from __future__ import annotations

import functools
import json
import os
import shutil
import warnings
import weakref
from pathlib import Path

import datasets
import numpy as np
import pytest
import tiny_models
import torch
from examples_on_disk import write_examples
from PIL import Image

import i0tscore
from i0tscore import encoders
from i0tscore.cli.main import main
from i0tscore.errors import InputError, StatisticsError, UsageError
from i0tscore.integrations.datasets import score_batch

NAMES = ["chelsea", "coffee", "coins", "grass", "camera"]
CAPTIONS = ["A tabby cat.", "A cup of espresso.", "Old coins in rows.", "Short grass.", "A cup of espresso."]
REFERENCES = [
    ["A cat.", "A tabby."],
    ["Coffee on a table."],
    ["Coins."],
    ["A lawn."],
    ["A man.", "A camera."],
]
METRICS = ["I0TScore", "CLIPScore"]


@pytest.fixture(autouse=True)
def quiet():
    """Without progress bars."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("user")) / "images"


@pytest.fixture(scope="module")
def paths(folder):
    return [str(folder / f"{name}.png") for name in NAMES]


@pytest.fixture
def dataset(paths):
    return datasets.Dataset.from_dict({"image": paths, "caption": CAPTIONS, "references": REFERENCES})


@pytest.fixture(scope="module")
def expected(paths):
    names = [*METRICS, "RefI0TScore", "RefCLIPScore"]
    return i0tscore.i0t_score(paths, CAPTIONS, REFERENCES, model="lite", metrics=names)


def close(values):
    return pytest.approx(values.tolist(), abs=1e-6)


@pytest.mark.parametrize("feature", [None, datasets.Image(), datasets.Image(decode=False)])
@pytest.mark.parametrize("streamed", [False, True])
def test_columns_equal_i0t_score(dataset, expected, feature, streamed):
    if feature:
        dataset = dataset.cast_column("image", feature)
    rows = dataset.to_iterable_dataset() if streamed else dataset
    rows = rows.map(score_batch, batched=True, batch_size=2, fn_kwargs={"model": "lite"})
    found = {name: [row[name] for row in rows] for name in METRICS}
    assert found == {name: close(expected[name].values) for name in METRICS}
    if not streamed:
        assert rows.column_names == ["image", "caption", "references", *METRICS]


def test_a_batch_of_arrays_and_bytes(paths, expected):
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths[:2]]
    batch = {"image": [*arrays, *(Path(path).read_bytes() for path in paths[2:])], "caption": CAPTIONS}
    assert score_batch(batch, model="lite")["I0TScore"] == close(expected["I0TScore"].values)
    same_size = torch.from_numpy(np.stack([arrays[0], arrays[0]]))  # one tensor, like formatted columns
    scores = score_batch({"image": same_size, "caption": CAPTIONS[:2]}, model="lite")["CLIPScore"]
    assert scores[0] == pytest.approx(expected["CLIPScore"].values[0], abs=1e-6)
    assert scores[1] < scores[0]


@pytest.mark.parametrize("format_", ["arrow", "pandas", "numpy", "torch"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "mixed"])
def test_every_format_of_a_data_set_gives_the_same_scores(paths, format_, mode):
    modes = ["RGB", "L", "RGBA"] if mode == "mixed" else [mode] * 3
    images = [Image.open(path).convert("RGB").convert(mode) for path, mode in zip(paths, modes, strict=False)]
    for image in images:
        if image.mode == "RGBA":
            image.putalpha(Image.linear_gradient("L").resize(image.size))
    columns = {
        "image": images,
        "caption": CAPTIONS[:3],
        "references": REFERENCES[:3],
        "lists": [[c] for c in CAPTIONS[:3]],
    }
    rows = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    expected = i0tscore.i0t_score(images, CAPTIONS[:3], REFERENCES[:3], model="lite")["RefI0TScore"].values
    options = {"model": "lite", "references": "references", "metrics": "RefI0TScore"}
    scored = rows.with_format(format_).map(score_batch, batched=True, fn_kwargs=options).with_format(None)
    assert scored["RefI0TScore"][:] == close(expected)
    options["caption"] = "lists"
    scored = rows.with_format(format_).map(score_batch, batched=True, fn_kwargs=options).with_format(None)
    assert [score for (score,) in scored["RefI0TScore"]] == close(expected)


def test_tokens_are_refused_or_skipped(paths):
    batch = {"image": paths[:2], "caption": [["A", "tabby", "cat", "."], ["A cup.", "Coffee."]]}
    with pytest.raises(InputError, match="row 0: Expected a caption, got a list of tokens"):
        score_batch(batch, model="lite")
    with pytest.warns(UserWarning, match="Skipped 1 of 3 captions of a batch. First: row 0: Expected a caption"):
        scores = score_batch(batch, model="lite", on_error="skip")["CLIPScore"]
    assert scores[0] is None
    assert [type(score) for score in scores[1]] == [float, float]


def test_columns_can_be_named(dataset, expected):
    renamed = dataset.rename_columns({"image": "photo", "caption": "text", "references": "truth"})
    options = {
        "model": "lite", "image": "photo", "caption": "text", "references": "truth",
        "metrics": ["RefI0TScore", "CLIPScore"], "output": "lite/{metric}",
    }  # fmt: skip
    scored = renamed.map(score_batch, batched=True, fn_kwargs=options, remove_columns=renamed.column_names)
    assert scored.column_names == ["lite/RefI0TScore", "lite/CLIPScore"]
    assert scored["lite/RefI0TScore"][:] == close(expected["RefI0TScore"].values)
    with pytest.raises(UsageError, match="one name"):
        score_batch(dataset[:2], model="lite", output="score")


def test_references_add_their_metrics(dataset, expected):
    scores = score_batch(dataset[:], model="lite", references="references")
    assert scores == {name: close(expected[name].values) for name in expected}


def test_lists_of_captions_get_lists_of_scores(paths, expected):
    rows = datasets.Dataset.from_dict(
        {
            "image": paths,
            "caption": [["A tabby cat.", "A cup of espresso."], [], *([text] for text in CAPTIONS[2:])],
            "references": REFERENCES,
        }
    )
    options = {"model": "lite", "references": "references"}
    scored = rows.map(score_batch, batched=True, batch_size=2, fn_kwargs=options)
    assert [len(scores) for scores in scored["RefI0TScore"]] == [2, 0, 1, 1, 1]
    values = expected["RefI0TScore"].values
    assert [scored["RefI0TScore"][i][0] for i in (0, 2, 3, 4)] == close(values[[0, 2, 3, 4]])
    assert scored["I0TScore"][0][1] < scored["I0TScore"][0][0]
    assert score_batch({"image": paths[:1], "caption": [[]]}, model="lite", metrics="CLIPScore") == {"CLIPScore": [[]]}


def test_a_batch_needs_fixed_statistics(dataset, tmp_path, expected):
    with pytest.raises(StatisticsError, match="I0TScore of a batch needs fixed statistics"):
        score_batch(dataset[:], model="lite", statistics="batch")
    encoder = tiny_models.encoder()
    with pytest.raises(StatisticsError, match="none are shipped"):
        score_batch(dataset[:], model=encoder)
    clip = i0tscore.clip_score(dataset["image"], dataset["caption"], model=encoder)
    found = score_batch(dataset[:], model=encoder, metrics="CLIPScore")
    assert found["CLIPScore"] == close(clip["CLIPScore"].values)

    fitted = i0tscore.fit(dataset["image"], dataset["caption"], model="lite")
    fitted.save(tmp_path / "own.safetensors")
    by_file, by_value = (
        score_batch(dataset[:], model="lite", statistics=statistics)["I0TScore"]
        for statistics in (tmp_path / "own.safetensors", fitted)
    )
    assert by_file == by_value != close(expected["I0TScore"].values)


def test_invalid_batches_are_an_error(dataset):
    with pytest.raises(UsageError, match="Expected a column 'text', got image, caption, references"):
        score_batch(dataset[:], model="lite", caption="text")
    with pytest.raises(InputError, match="Expected as many caption as image, got 1 caption and 2 image"):
        score_batch({"image": dataset["image"][:2], "caption": CAPTIONS[:1]}, model="lite")
    with pytest.raises(UsageError, match="batched=True"):
        dataset.map(score_batch, fn_kwargs={"model": "lite"})
    with pytest.raises(InputError, match=r"row 1: no\.png: there is no such file"):
        score_batch({"image": [dataset[0]["image"], "no.png"], "caption": CAPTIONS[:2]}, model="lite")
    with pytest.raises(TypeError, match="modle"):
        score_batch(dataset[:2], modle="lite")
    with pytest.raises(InputError, match="row 1: no references"):
        score_batch({**dataset[:2], "references": [["A cat."], None]}, model="lite", references="references")
    with pytest.raises(InputError, match="row 0, caption 1: the caption is empty"):
        score_batch({"image": dataset["image"][:1], "caption": [["A cat.", " "]]}, model="lite")


@pytest.mark.filterwarnings("ignore:Skipped all 1 captions of a batch")
def test_skipped_rows_get_none(paths, expected):
    rows = datasets.Dataset.from_dict({"image": [paths[0], "no.png", "no.png"], "caption": CAPTIONS[:3]})
    options = {"model": "lite", "on_error": "skip"}
    with pytest.warns(UserWarning, match="Skipped 1 of 2 captions of a batch. First: row 1: no.png: there is"):
        scored = rows.map(score_batch, batched=True, batch_size=2, fn_kwargs=options)
    assert scored["I0TScore"][:] == [pytest.approx(expected["I0TScore"].values[0], abs=1e-6), None, None]


@pytest.fixture(scope="module", autouse=True)
def _architectures(tmp_path_factory):
    tiny_models.register(tmp_path_factory.mktemp("architectures"))


@pytest.fixture
def tiny(tmp_path):
    """Save a small model to a file, which nothing has loaded yet."""
    from safetensors.torch import save_file

    save_file(tiny_models.stock("tiny-eos").state_dict(), tmp_path / "tiny.safetensors")
    return {"model": "tiny-eos", "weights": str(tmp_path / "tiny.safetensors"), "metrics": "CLIPScore"}


def test_map_reuses_cached_results(dataset, tiny, tmp_path):
    dataset.save_to_disk(tmp_path / "stored")

    def computed(**options):
        stored = datasets.load_from_disk(tmp_path / "stored")
        scored = stored.map(score_batch, batched=True, fn_kwargs={**tiny, **options})
        return [file["filename"] for file in scored.cache_files]

    first = computed()
    assert len(first) == 1
    written = Path(first[0]).stat().st_mtime_ns
    assert computed() == first
    assert Path(first[0]).stat().st_mtime_ns == written
    assert computed(metrics="CLIPScore(clip=no)") != first


def probe(batch, **options):
    """Return the scores of a batch with the warnings and the process."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        scores = score_batch(batch, **options)
    told = " ".join(str(warning.message) for warning in said)
    count = len(batch["caption"])
    return {**scores, "said": [told] * count, "process": [os.getpid()] * count}


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded, use of fork")
def test_processes_that_load_their_own_model_warn_once(dataset, tiny):
    def mapped():
        scored = dataset.map(probe, batched=True, batch_size=1, num_proc=2, fn_kwargs=tiny, load_from_cache_file=False)
        assert len(set(scored["process"])) == 2
        assert os.getpid() not in scored["process"]
        return scored

    alone = mapped()
    told = [text for text in alone["said"] if text]
    assert len(told) == 2
    assert all("loads its own copy of 'tiny-eos'" in text for text in told)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here = score_batch(dataset[:], **tiny)
    shared = mapped()
    assert not any(shared["said"])
    assert shared["CLIPScore"][:] == alone["CLIPScore"][:] == pytest.approx(here["CLIPScore"], abs=1e-6)


class Decoded:
    """Counts the decoded images of datasets in memory."""

    def __init__(self, monkeypatch):
        self.now = self.most = self.all = 0
        decode = datasets.Image.decode_example

        def counting(*arguments, **options):
            image = decode(*arguments, **options)
            weakref.finalize(image, self.gone)
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)
            return image

        monkeypatch.setattr(datasets.Image, "decode_example", counting)

    def gone(self):
        self.now -= 1


def noise(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    rows = {"image": [Image.fromarray(one) for one in pixels], "caption": ["Noise."] * count}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def test_columns_are_read_a_few_images_at_a_time(monkeypatch):
    rows = noise(120)
    decoded = Decoded(monkeypatch)
    result = i0tscore.clip_score(rows["image"], rows["caption"], model=tiny_models.encoder(), batch_size=8)
    assert result.n == decoded.all == 120
    assert decoded.most < 60


def test_streams_are_read_in_parts(monkeypatch):
    rows, encoder = noise(1200), tiny_models.encoder()
    stream = rows.to_iterable_dataset()
    decoded = Decoded(monkeypatch)
    captions = (row["caption"] for row in stream.select_columns("caption"))
    whole = i0tscore.clip_score((row["image"] for row in stream), captions, model=encoder)
    assert whole.n == decoded.all == 1200
    assert decoded.most < 600

    decoded.most = 0
    scorer = i0tscore.I0TScorer(encoder, metrics="CLIPScore")
    for batch in stream.take(200).iter(batch_size=20):
        scorer.update(batch["image"], batch["caption"])
    assert decoded.most <= 60
    assert scorer.compute()["CLIPScore"].values.tolist() == close(whole["CLIPScore"].values[:200])


@pytest.mark.parametrize("form", ["parquet", "imagefolder"])
def test_the_command_line_accepts_data_sets(dataset, expected, folder, tmp_path, monkeypatch, capsys, form):
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    path = tmp_path / ("set.parquet" if form == "parquet" else "set")
    if form == "parquet":
        content = [{"bytes": Path(image).read_bytes(), "path": None} for image in dataset["image"]]
        embedded = dataset.remove_columns("image").add_column("image", content)
        embedded.cast_column("image", datasets.Image()).to_parquet(str(path))
    else:
        shutil.copytree(folder, path)
        rows = zip(NAMES, CAPTIONS, REFERENCES, strict=True)
        lines = [{"file_name": f"{name}.png", "caption": c, "references": r} for name, c, r in rows]
        (path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(path), "--model", "lite", "--format", "json", "--no-cache"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["n"] == len(CAPTIONS)
    assert shown["scores"]["RefI0TScore"]["mean"] == pytest.approx(expected["RefI0TScore"].mean, abs=1e-6)
