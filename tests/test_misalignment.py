from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from click.testing import CliRunner
from PIL import Image

from i0tscore.encoders.lite import IMAGE_FEATURES, TEXT_FEATURES, LiteHeads
from i0tscore.gap import normalize
from i0tscore.inversion import invert_images
from i0tscore.results.intervals import Resampling
from studies import misalignment
from studies import misalignment_report as report
from studies.lite_training import HeadRecipe, PairFeatures, embed, train_heads
from studies.misalignment import Crossing, Material, Side, measure, misalignment_rows, sample_queries, sides
from studies.misalignment_report import cross_cosines, image_precisions, inversion_dynamics

RECIPE = HeadRecipe(epochs=30, batch_size=20, hidden=32, hard_weight=1.0)
FEW = Resampling(resamples=40)


def pairs(seed: int, count: int = 40, *, image: int = 24, caption: int = 16) -> PairFeatures:
    """Two linear views of one hidden vector, each with an offset; captions of a photograph differ a lot."""
    drawn = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(1)
    hidden = torch.randn(count, 1, 8, generator=drawn)
    to_image, to_caption = (torch.randn(8, size, generator=fixed) for size in (image, caption))
    images = hidden @ to_image + 2 + 0.5 * torch.randn(count, 2, image, generator=drawn)
    captions = hidden @ to_caption - 1 + 2 * torch.randn(count, 5, caption, generator=drawn)
    return PairFeatures(images, captions, captions)


def material(**sizes: int) -> Material:
    labels = np.array([f"class {row % 3}" for row in range(12)])
    shipped = LiteHeads.load()
    test = pairs(2, 20, **sizes)
    return Material(shipped.names, shipped.removed, pairs(0, **sizes), test, np.arange(4, 16), labels)


def likeness(vectors: np.ndarray) -> float:
    """How much more alike two of one photograph are than two of different ones, vectors (n, k, d)."""
    own = np.einsum("nkd,nld->nkl", vectors, vectors)
    k = vectors.shape[1]
    flat = vectors.reshape(-1, vectors.shape[2])
    return float((own.sum() - len(flat)) / (len(flat) * (k - 1)) - (flat @ flat.T).mean())


def test_without_intra_modal_terms_training_is_as_it_was() -> None:
    features = pairs(0)
    plain, same = (train_heads(features, replace(RECIPE, intra_scale=scale), 0) for scale in (10.0, 1.0))
    for one, other in zip(plain, same, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name])


def test_each_intra_modal_term_pulls_its_own_modality_together() -> None:
    features, other = pairs(0), pairs(3)

    def found(**weights: float) -> tuple[float, float]:
        heads = train_heads(features, replace(RECIPE, logit_scale=20.0, **weights), 0)
        views, captions = (
            embed(head, inputs.flatten(0, 1)).reshape(*inputs.shape[:2], -1)
            for head, inputs in zip(heads, (other.images, other.captions), strict=True)
        )
        return likeness(views), likeness(captions)

    none, images, captions = found(), found(image_intra=5.0), found(caption_intra=5.0)
    assert images[0] > none[0] + 0.05
    assert captions[1] > none[1] + 0.05


def test_low_temperatures_keep_the_gap_and_high_ones_close_it() -> None:
    crossing = Crossing(scales=())
    found = list(
        misalignment_rows(
            material(),
            scales=(1.0, 50.0),
            terms=("none", "both"),
            recipe=RECIPE,
            crossing=crossing,
            resampling=FEW,
        )
    )
    assert [(row["logit_scale"], row["intra"]) for row in found] == [
        (scale, term) for scale in (1.0, 50.0) for term in ("none", "both")
    ]
    assert found[2]["gap"] > found[0]["gap"] + 0.2
    for row in found:
        for name in ("image_to_text", "text_to_image", "images", "captions"):
            low, high = row[name]["interval"]
            assert 0 <= low <= row[name]["value"] <= high <= 1


def test_items_are_compared_with_the_others_of_their_kind() -> None:
    given = material()
    heads = train_heads(given.train, RECIPE, 0)
    images, captions = sides(heads, given)
    # Sums over other batches differ in their last bits.
    np.testing.assert_allclose(images.vectors, embed(heads[0], given.test.images[4:16, 0]), atol=1e-6)
    np.testing.assert_allclose(captions.vectors[5:10], embed(heads[1], given.test.captions[5]), atol=1e-6)
    assert captions.labels.tolist() == np.repeat(np.arange(4, 16), 5).tolist()
    expected = image_precisions(images.vectors, images.vectors, images.labels, np.arange(12)).mean()
    assert measure(heads, given, FEW)["images"]["value"] == pytest.approx(expected)


def test_crossing_compares_the_same_queries_with_an_unchanged_gallery() -> None:
    vectors = normalize(np.random.default_rng(0).normal(size=(30, 5)))
    labels = np.arange(30) % 3
    side = Side(vectors, labels, np.arange(30))
    targets = {}

    def invert(chosen: np.ndarray) -> Any:
        targets["given"] = chosen
        centres = np.eye(5)[np.argmax(chosen, axis=1)]
        config = SimpleNamespace(steps=7)
        return SimpleNamespace(vectors=centres, losses=1 - (centres * chosen).sum(axis=1), config=config)

    row = side.crossed(invert, 10, FEW)
    own = sample_queries(30, 10)
    np.testing.assert_array_equal(targets["given"], vectors[own])
    centres = np.eye(5)[np.argmax(vectors[own], axis=1)]
    native, crossed = (image_precisions(q, vectors, labels, own).mean() for q in (vectors[own], centres))
    assert (row["queries"], row["steps"]) == (10, 7)
    assert row["native"]["value"] == pytest.approx(native)
    assert row["crossed"]["value"] == pytest.approx(crossed)
    assert row["difference"]["value"] == pytest.approx(crossed - native)
    assert row["cosine"] == pytest.approx(vectors[own].max(axis=1).mean())


def test_trained_heads_are_inverted_through_the_towers() -> None:
    given = material(image=IMAGE_FEATURES + TEXT_FEATURES, caption=TEXT_FEATURES)
    heads = train_heads(given.train, replace(RECIPE, epochs=1), 0)
    row = Crossing(images=2, steps=3, captions=1, caption_steps=1).measure(heads, given, FEW)
    assert {name: (part["queries"], part["steps"]) for name, part in row.items()} == {
        "oti": (2, 3),
        "ovi": (1, 1),
    }
    assert -1 <= row["oti"]["cosine"] <= 1


def test_dynamics_follow_what_inversion_records(tmp_path: Path) -> None:
    tiny_models.register(tmp_path)
    encoder = tiny_models.encoder()
    images = normalize(np.random.default_rng(0).normal(size=(12, 16))).astype(np.float32)
    labels = np.array(list("abc" * 4))
    queries = sample_queries(12, 5)
    rows = inversion_dynamics(encoder, images, labels, queries, tokens=(1, 2), eval_steps=(0, 4, 8), resampling=FEW)
    assert [(row["tokens"], row["step"]) for row in rows] == [
        (0, 0),
        *((count, step) for count in (1, 2) for step in (0, 4, 8)),
    ]
    still = rows[0]
    assert still["loss"] == pytest.approx(0, abs=1e-6)
    assert still["difference"]["value"] == 0
    ids = [str(query) for query in queries]
    inverted = invert_images(encoder, images[queries], ids=ids, tokens=2, steps=8)
    cosines = inverted.vectors @ images.T
    own = np.arange(12) == queries[:, None]
    last = rows[-1]
    assert last["loss"] == pytest.approx(inverted.losses.mean(), abs=1e-5)
    assert last["own"]["50"] == pytest.approx(np.median(cosines[own]), abs=1e-5)
    assert last["other"]["95"] == pytest.approx(np.percentile(cosines[~own], 95), abs=1e-5)
    native, found = (
        image_precisions(vectors, images, labels, queries).mean() for vectors in (images[queries], inverted.vectors)
    )
    assert last["mAP"]["value"] == pytest.approx(found)
    assert last["difference"]["value"] == pytest.approx(found - native)


def test_cosines_of_captions_are_told_apart_by_their_image() -> None:
    images, captions = np.eye(2), np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0]])
    found = cross_cosines(images, captions)
    assert found["own"]["5"] == pytest.approx(np.percentile([1, 0.6, 1, 1], 5))
    assert found["other"]["95"] == pytest.approx(np.percentile([0, 0.8, 0, 0], 95))


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Flickr8k's layout: 8 photographs to train on, 8 to test on, captions alone of 30 others."""
    folder = tmp_path / "data" / "flickr8k"
    (folder / "images_224").mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines = []
    for split, count in (("train", 8), ("dev", 30), ("test", 8)):
        names = [f"{split}{i}.jpg" for i in range(count)]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            if split != "dev":
                pixels = generator.integers(0, 256, (30, 40, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "images_224" / name)
            lines += [f"{name}#{k}\tA {('dog', 'boat')[i % 2]} {i} {k} {split}" for k in range(5)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def test_from_photographs_to_a_report(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, heads = tmp_path / "features", tmp_path / "heads.json"
    arguments = ["--data", str(small_data), "--features", str(features), "--output", str(heads)]
    arguments += ["--photographs", "6", "--images", "0", "--scale", "1", "--term", "both", "--view", "flip"]
    refused = CliRunner().invoke(misalignment.main, arguments)
    assert refused.exit_code == 1
    assert "Expected at least 500 images, one batch, got 6" in refused.output
    arguments += ["--batch-size", "3", "--epochs", "1"]
    assert CliRunner().invoke(misalignment.main, arguments).exit_code == 0
    stored = json.loads(heads.read_text())
    assert (stored["settings"]["photographs"], len(stored["rows"])) == (6, 1)

    monkeypatch.setattr(report, "class_captions", lambda: [(f"a {i}", "", "") for i in range(130)])
    monkeypatch.setattr(report, "EVAL_STEPS", (0, 2))
    command = ["--data", str(small_data), "--model", "lite", "--queries", "3", "--resamples", "40"]
    command += ["--heads", str(heads), "--output", str(tmp_path / "out"), "--no-cache"]
    result = CliRunner().invoke(report.main, command)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "misalignment-lite.md").read_text()
    assert "8 images with a label, 3 of them" in text
    assert "![Inverted images by number of updates](misalignment-lite.svg)" in text
    assert "| both " in text
    assert (tmp_path / "out" / "misalignment-lite.svg").read_bytes().startswith(b"<?xml")
    data = json.loads((tmp_path / "out" / "misalignment-lite.json").read_text())
    assert data["heads"] == stored
    assert [row["method"][:3] for row in data["rivals"]] == ["PCA", "PCA"]
