"""The gap reports: from made-up embeddings, and from made-up photographs through a small encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import mannwhitneyu
from test_retrieval import normal

from i0tscore import i0t_score
from i0tscore.cli.main import main
from i0tscore.errors import UsageError
from i0tscore.gap import NONE, POST, GapStatistics, Standardizer, centroid_distance, normalize
from i0tscore.gap.standardizers import MEANS, STANDARDIZERS, StandardizerSpec
from i0tscore.results import Resampling
from i0tscore.results.intervals import Difference, Estimate, bootstrap_mean
from studies import embedder, gap, gap_pairs
from studies.flickr8k import CLASSES
from studies.gap import (
    CHANGES,
    ROWS,
    SAMPLE_SIZES,
    Corpus,
    Labeled,
    conditions,
    differences,
    held_out_statistics,
    measure,
    pair_statistics,
    published_conditions,
    replication,
    sample_sizes,
)
from studies.matching import MatchedPairs, auc_values, shrunk

FEW = Resampling(resamples=60)


def pairs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Matched embeddings in two cones far apart."""
    hidden = normal(count, 12, seed=seed)
    sides = (hidden + normal(count, 12, seed=seed + k) * 0.4 for k in (100, 200))
    apart = np.eye(12)[0] * 4
    x, y = (normalize(side + offset).astype(np.float32) for side, offset in zip(sides, (apart, -apart), strict=True))
    return x, y


def run(command: object, *arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr


@pytest.fixture(scope="module")
def measured():
    images, captions = pairs(80)
    own = np.arange(80) % 4
    labeled = Labeled(images, own, captions[:4], by_features=captions[4:8])
    corpus = Corpus(images, captions, labeled)
    held_out = held_out_statistics(*pairs(60, seed=7), "others")
    tried = [*conditions(held_out), *published_conditions(pair_statistics(images, captions, "own"))]
    return tried, {c.name: measure(c, corpus, FEW) for c in tried}


def test_every_standardizer_is_tried_and_published_ones_also_with_own_statistics(measured) -> None:
    tried, found = measured
    assert tried[0].name == "none"
    assert {"post, others", "dn(0.25), others", "nnn(0.5), others", "post, own", "shift(-0.5), own"} <= set(found)
    assert "dn(0.25), own" not in found
    assert len(found) == len(tried)


def test_a_new_standardizer_is_one_line_of_one_table(monkeypatch, tmp_path: Path, capsys) -> None:
    """Metrics, the gap verb and the studies know it by that line."""
    toward = StandardizerSpec(lambda v, side, share: normalize(v - share * side.mean), MEANS, "λ", 0.8, (0.7, 0.8))
    monkeypatch.setitem(STANDARDIZERS, "toward", toward)
    images, captions = pairs(130)
    held_out = held_out_statistics(*pairs(60, seed=7), "others")
    assert {"toward(0.7), others", "toward(0.8), others"} <= {c.name for c in conditions(held_out)}
    result = i0t_score(images, captions, metrics=("I0TScore(std=toward)",), statistics="batch")
    expected = [normalize(v - 0.8 * v.mean(axis=0)) for v in (images, captions)]
    found = result["I0TScore(std=toward(0.8))"].values
    np.testing.assert_allclose(found, (expected[0] * expected[1]).sum(axis=1), atol=1e-5)
    options = []
    for kind, vectors in (("image", images), ("caption", captions)):
        np.save(tmp_path / f"{kind}.npy", vectors)
        (tmp_path / f"{kind}.ids.txt").write_text("\n".join(map(str, range(130))))
        options += [f"--{kind}-embeddings", str(tmp_path / f"{kind}.npy")]
    assert main(["gap", *options, "--resamples", "0", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)["standardizers"]["toward(0.8)"]
    distance = told["measures"]["centroid_distance"]["value"]
    assert distance == pytest.approx(centroid_distance(*expected), abs=1e-5)
    with pytest.raises(UsageError, match=r"toward\(λ\)"):
        Standardizer.parse("nothing")


def test_own_means_close_the_gap_best(measured) -> None:
    gaps = {name: one.gap["centroid_distance"].value for name, one in measured[1].items() if one.gap}
    assert set(measured[1]) - set(gaps) == {f"nnn({strength}), others" for strength in (0.25, 0.5, 0.75)}
    assert gaps["none"] > 0.63 > gaps["post, others"] > gaps["post, own"]
    assert gaps["shift(-0.5), own"] > gaps["none"]


def test_both_rules_of_templates_are_classified_by(measured) -> None:
    tried, found = measured
    images, captions = pairs(80)
    condition = next(c for c in tried if c.name == "post, own")
    x, y = condition.statistics.standardize(POST, images, captions[:8])
    for classes, one in ((y[:4], "classification"), (y[4:], "by_features")):
        right = (x @ classes.T).argmax(axis=1) == np.arange(80) % 4
        assert getattr(found["post, own"], one).right.tolist() == right.tolist()


def test_differences_are_of_the_figures_shown(measured) -> None:
    found = measured[1]
    compared = differences(found, FEW)
    for name, one in found.items():
        if name != "none":
            recall, before = one.ranks[1].recall(1, FEW), found["none"].ranks[1].recall(1, FEW)
            for side in ("to_caption", "to_image"):
                expected = getattr(recall, side).value - getattr(before, side).value
                assert compared[side][name].estimate.value == pytest.approx(expected)
            accuracy = one.classification.balanced_accuracy(FEW).value
            accuracy -= found["none"].classification.balanced_accuracy(FEW).value
            assert compared["accuracy"][name].estimate.value == pytest.approx(accuracy)
    assert "expert" not in compared


def test_the_curve_of_sample_sizes_uses_other_means_than_the_measured_ones() -> None:
    corpus = Corpus(*pairs(50))
    small, large = sample_sizes(*pairs(400, seed=3), corpus, (8, 400, 999), draws=3)
    assert (small["count"], large["count"]) == (8, 400)
    assert (len(small["gaps"]), len(large["gaps"])) == (3, 1)
    assert len(set(small["gaps"])) == 3
    assert min(small["gaps"]) > large["gaps"][0] > 0
    whole = pair_statistics(*pairs(400, seed=3), "")
    assert large["gaps"][0] == pytest.approx(
        centroid_distance(*whole.standardize(POST, corpus.images, corpus.captions)), abs=1e-5
    )


@pytest.mark.parametrize(
    ("interval", "reading"),
    [
        ((-0.3, -0.1), "the same way"),
        ((0.1, 0.2), "the other way"),
        ((-0.1, 0.1), "cannot be told"),
        (None, None),
    ],
)
def test_a_published_fall_is_read_against_our_interval(interval, reading) -> None:
    change = next(c for c in CHANGES if c.standardizer == "shift(0.5)")
    ours = Difference("shift(0.5), own", "none", Estimate(-0.2, interval), None, None)
    compared = {"to_caption": {"shift(0.5), own": ours}}
    found = [(one["theirs"], one["task"], one["reading"]) for one in replication(compared, {"shift(0.5)": ours.first})]
    assert found == ([(change.name, "to_caption", reading)] if reading else [])


def test_published_figures_are_within_their_ranges() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert 0 <= row.centroid_distance <= 2
        assert row.linear_separability <= 1
        assert all(1 < value < 100 for value in (row.to_caption, row.to_image))
    assert sorted(SAMPLE_SIZES) == list(SAMPLE_SIZES)
    # The paper's text: post lowers retrieval of captions a little and lifts that of images.
    post = next(c for c in CHANGES if c.after.name == "I0T_post").points()
    assert post == {"to_caption": -0.4, "to_image": 1.7, "accuracy": -1.1, "expert": -0.58}


def test_released_pairs_give_a_report(tmp_path: Path) -> None:
    released(tmp_path, np.stack(pairs(80)))
    told = run(gap_pairs.main, "--data", tmp_path, "--resamples", 60, "--output", tmp_path)
    assert "gap-clip500.svg" in told
    text = (tmp_path / "gap-clip500.md").read_text()
    assert "python -m studies.gap_pairs --resamples 60\n" in text
    assert "# The modality gap of 80 CLIP ViT-B/16 pairs" in text
    data = json.loads((tmp_path / "gap-clip500.json").read_text())
    assert data["schema"] == "i0tscore.gap_report/1"
    images, captions = pairs(80)
    held = np.random.default_rng(0).permutation(80)[40:]
    none = data["conditions"]["none"]
    distance = centroid_distance(images[held], captions[held])
    assert none["gap"]["measures"]["centroid_distance"]["value"] == pytest.approx(distance, abs=1e-6)
    assert f"{distance:.3f}" in text
    before, after = (data["whole"][name]["gap"]["measures"] for name in ("none", "post, all 80"))
    assert before["linear_separability"]["value"] > after["linear_separability"]["value"]
    assert before["centroid_distance"]["value"] > after["centroid_distance"]["value"]
    assert [size["count"] for size in data["sample_sizes"]] == [32, 40]


def test_only_figures_of_the_same_model_are_compared_with_published_ones(tmp_path: Path) -> None:
    released(tmp_path, np.stack(pairs(80)))
    for name, stem, tasks in (("clip-vitb16", "gap-clip500", ()), ("clip-vitb32", "gap-clip-vitb32", gap.TASKS)):
        run(gap_pairs.main, "--set", name, "--data", tmp_path, "--resamples", 60, "--output", tmp_path, "--no-plot")
        data = json.loads((tmp_path / f"{stem}.json").read_text())
        expected = [t for c in CHANGES for t in c.points() if t in tasks and t in ("to_caption", "to_image")]
        assert [row["task"] for row in data["replication"]] == expected
        assert ("Published figures" in (tmp_path / f"{stem}.md").read_text()) == bool(tasks)
        matching = data["matching"]
        assert (matching["pairs"], matching["mismatched_pairs"]) == (40, 40 * 39)
        assert [size["count"] for size in matching["sizes"]] == [8, 16, 32, 40]
        assert [(row["count"], row["runs"]) for row in matching["runs"]] == [(8, 10), (16, 5), (32, 2)]
        assert {"post, the other half", "dn(0.25), COCO's images"} <= set(matching["conditions"])
        assert ("post, CC12M" in matching["conditions"]) == bool(tasks)
        # Only their mean image is known, and a covariance is not.
        assert "covariance(0.2), COCO's images" not in matching["conditions"]
        assert (matching["sizes"][0]["weights"][1] == 1) == (not tasks)
    (tmp_path / gap_pairs.MEANS).unlink()
    assert "expected a .npz file with means" in run(gap_pairs.main, "--data", tmp_path, code=1)


@given(seed=st.integers(0, 1000), n=st.integers(3, 12))
@settings(max_examples=25, deadline=None)
def test_values_of_images_have_the_auc_as_mean(seed: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 6, (n, n)).astype(float)
    mismatched = ~np.eye(n, dtype=bool) & (generator.random((n, n)) < 0.9)
    mismatched[np.arange(n), np.arange(n) - 1] = True
    found = auc_values(scores, mismatched)
    matched = np.diag(scores)
    expected = mannwhitneyu(matched, scores[mismatched]).statistic / (n * mismatched.sum())
    assert found["auc"].mean() == pytest.approx(expected)
    within = [mannwhitneyu(matched[[i]], scores[i, mismatched[i]]).statistic / mismatched[i].sum() for i in range(n)]
    np.testing.assert_allclose(found["within"], within)


def test_intervals_of_the_auc_are_those_of_resampled_images() -> None:
    x, y = pairs(150)
    own = MatchedPairs(x, y)
    scores = (x @ y.T).astype(np.float64)
    low, high = bootstrap_mean(own.values(NONE, GapStatistics())["auc"], range(150))
    generator, draws = np.random.default_rng(0), []
    for _ in range(400):
        rows = generator.integers(0, 150, 150)
        differ = rows[:, None] != rows[None, :]
        drawn = scores[np.ix_(rows, rows)]
        draws.append(mannwhitneyu(np.diag(drawn), drawn[differ]).statistic / (150 * differ.sum()))
    np.testing.assert_allclose([low, high], np.quantile(draws, [0.025, 0.975]), atol=0.15 * (high - low))


def test_pairs_with_the_same_image_or_caption_are_not_mismatched() -> None:
    x, y = pairs(6)
    x[1], y[3] = x[0], y[2]
    own = MatchedPairs(x, y)
    assert own.clusters.tolist() == [0, 0, 2, 3, 4, 5]
    left_out = ~own.mismatched & ~np.eye(6, dtype=bool)
    assert sorted(map(tuple, np.argwhere(left_out).tolist())) == [(0, 1), (1, 0), (2, 3), (3, 2)]


@pytest.mark.parametrize("distance", [0.0, 0.1, 5.0])
def test_shrinkage_has_the_smallest_error_on_left_out_rows(distance: float) -> None:
    own = MatchedPairs(*pairs(10))
    prior = GapStatistics(pairs(500, seed=9)[0].mean(0) + distance)
    found, (weight, caption_weight) = shrunk(own, prior)

    def error(share: float) -> float:
        others = [np.delete(own.images, i, axis=0).mean(0) for i in range(10)]
        return sum(
            ((row - share * other - (1 - share) * prior.image_mean) ** 2).sum()
            for row, other in zip(own.images, others, strict=True)
        )

    grid = np.linspace(0, 1, 1001)
    assert weight == pytest.approx(grid[np.argmin([error(share) for share in grid])], abs=2e-3)
    np.testing.assert_allclose(
        found.image_mean, weight * own.images.mean(0) + (1 - weight) * prior.image_mean, atol=1e-6
    )
    assert caption_weight == 1
    np.testing.assert_allclose(found.caption_mean, own.captions.mean(0), atol=1e-6)


def released(folder: Path, array: np.ndarray) -> Path:
    """The layout of the released embeddings of pairs; returns the file of the first set."""
    (first, *_), (*second, last) = (pairs.files for pairs in gap_pairs.SETS.values())
    for file, content in zip((first, *second, last), (array, *array[:2]), strict=True):
        (folder / file).parent.mkdir(exist_ok=True)
        np.save(folder / file, content)
    keys = {key for s in gap_pairs.SETS.values() for key in (s.coco, *(s.foreign or ())[1:])}
    (folder / gap_pairs.MEANS).parent.mkdir(exist_ok=True)
    np.savez(folder / gap_pairs.MEANS, **dict.fromkeys(keys, np.full(array.shape[-1], 0.1)))
    return folder / first


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 80, 4)), "shape (2, n, d), got (3, 80, 4)"),
        (np.zeros((2, 10, 4)), "at least 64 pairs"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    file = released(tmp_path, array)
    assert said in run(gap_pairs.main, "--data", tmp_path, code=1)
    file.write_text("no array")
    assert "expected a .npy file" in run(gap_pairs.main, "--data", tmp_path, code=1)


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """Flickr8k's layout: forty training and forty test photographs of noise, each named in its captions."""
    folder = tmp_path / "data" / "flickr8k"
    (folder / "images_224").mkdir(parents=True)
    generator = np.random.default_rng(0)
    captions, ratings = [], []
    for split in ("train", "test"):
        names = [f"{split}{i}.jpg" for i in range(40)]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            pixels = generator.integers(0, 256, (32, 32, 3)) * np.array([i % 2, 1, i // 2 % 2])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images_224" / name)
            thing = ("dog", "boat", "cat")[i % 3]
            captions += [f"{name}#{k}\tThe {thing} number {i} seen {k} times ." for k in range(5)]
    for i in range(40):
        ratings += [f"test{i}.jpg\ttest{(i + k) % 40}.jpg#0\t{1 + k}\t{1 + i % 4}\t2" for k in (1, 2)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(captions) + "\n")
    (folder / "ExpertAnnotations.txt").write_text("\n".join(ratings) + "\n")
    return tmp_path / "data"


def test_photographs_give_a_report_with_all_tasks(flickr8k: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "configs").mkdir()
    tiny_models.register(tmp_path / "configs")
    encoder = tiny_models.encoder()
    monkeypatch.setattr(embedder, "load_encoder", lambda *_, **__: encoder)
    out = (
        "--data",
        flickr8k,
        "--output",
        tmp_path,
        "--resamples",
        60,
        "--cache-dir",
        tmp_path,
        "--model",
        "tiny",
    )
    run(gap.main, *out, "--no-plot")
    data = json.loads((tmp_path / "gap-tiny.json").read_text())
    labelled = [i for i in range(40) if i % 3 < 2]
    found = data["conditions"]["post, 40 train pairs"]
    assert found["classification"]["n"] == len(labelled)
    assert found["classification_features_averaged"]["n"] == len(labelled)
    assert set(found["retrieval"]) == {"1 captions", "5 captions"}
    assert found["expert"]["value"] is not None
    assert data["difference"]["expert"]["post, the test set's own"]["from"] == "none"
    text = (tmp_path / "gap-tiny.md").read_text()
    assert "240 expert ratings" in text
    assert "class accuracy, features averaged" in text
    count = len(data["difference"]["to_caption"])
    assert f"With {count} comparisons and 60 resamples, no p is lower than about {min(1.0, 2 * count / 61):.2f}" in text
    assert f"classes: {len(CLASSES)}" in text
    assert "lite is trained" not in text
    # A second run takes every embedding from the cache and so gives the same bytes.
    before = (tmp_path / "gap-tiny.json").read_bytes()
    monkeypatch.setattr(encoder, "encode_pixels", None)
    monkeypatch.setattr(encoder, "encode_tokens", None)
    run(gap.main, *out, "--no-plot")
    assert (tmp_path / "gap-tiny.json").read_bytes() == before
