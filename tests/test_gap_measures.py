"""Measures of the modality gap, against numbers worked out the long way."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from i0tscore.encoders.encode import EncodedRun
from i0tscore.errors import InputError, StatisticsError
from i0tscore.gap import NONE, POST, Moments, Standardizer, Statistics, normalize
from i0tscore.gap.measures import (
    centroid_distance,
    minimum_cosine_distance,
    pair_measures,
    peak_coordinates,
    plot_panel,
    separability,
    severity,
)
from i0tscore.results import Resampling
from i0tscore.results.gap import MEASURES, gap_panels, measure_gap, report_gap
from i0tscore.results.signature import SignatureFields

QUICK = Resampling(resamples=200)
SETTINGS = SignatureFields((), (), QUICK)


def made(images: int = 12, captions: int = 3, d: int = 6, seed: int = 0, apart: float = 1.0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(images, d))
    x = normalize(shared + rng.normal(size=(images, d)) + apart)
    owners = rng.permutation(np.repeat(np.arange(images), captions))
    y = normalize(shared[owners] + rng.normal(size=(len(owners), d)) - apart)
    return x, y, owners


def the_long_way(x: np.ndarray, y: np.ndarray, owners: np.ndarray) -> dict[str, float]:
    """Every pair by itself."""
    same = owners[:, None] == owners[None, :]
    own = np.arange(len(x))[:, None] == owners[None, :]
    cosines = {
        "matched": (x @ y.T)[own].mean(),
        "mismatched": (x @ y.T)[~own].mean(),
        "image_image": (x @ x.T)[~np.eye(len(x), dtype=bool)].mean(),
        "caption_caption": (y @ y.T)[~same].mean(),
    }
    d = {name: (1 - value) / 2 for name, value in cosines.items()}
    # As in Schrodi et al.: captions of one image are pairs too, and only a distance of 0 or less is replaced.
    all_captions = (1 - (y @ y.T)[~np.eye(len(y), dtype=bool)].mean()) / 2
    within = (d["image_image"] + all_captions) / 2
    return {
        **cosines,
        "relative_gap": d["matched"] / (d["matched"] + within),
        "centroid_distance": np.linalg.norm(x.mean(0) - y.mean(0)),
        "minimum_cosine_distance": (1 - x @ y.T).min(),
    }


@given(images=st.integers(2, 9), captions=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_measures_from_sums_are_those_of_all_pairs(images: int, captions: int, seed: int) -> None:
    x, y, owners = made(images, captions, seed=seed)
    found = measure_gap(x, y, owners, Resampling(resamples=0))
    for name, value in the_long_way(x, y, owners).items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name
        assert found[name].interval is None


def test_weights_are_repetitions_without_pairs_of_copies() -> None:
    x, y, owners = made(5, 2)
    weights = np.array([[2, 0, 1, 3, 0]])
    drawn = np.repeat(np.arange(5), weights[0])
    (found,) = pair_measures(x, y, owners, [weights])
    pairs = [(a, b) for a in drawn for b in drawn if a != b]
    of = [np.flatnonzero(owners == image) for image in range(5)]
    assert found["image_image"][0] == pytest.approx(np.mean([x[a] @ x[b] for a, b in pairs]))
    assert found["mismatched"][0] == pytest.approx(np.mean([x[a] @ y[c] for a, b in pairs for c in of[b]]))
    assert found["caption_caption"][0] == pytest.approx(
        np.mean([y[c] @ y[e] for a, b in pairs for c in of[a] for e in of[b]])
    )
    chosen = np.concatenate([of[a] for a in drawn])
    assert found["centroid_distance"][0] == pytest.approx(np.linalg.norm(x[drawn].mean(0) - y[chosen].mean(0)))


def test_the_relative_gap_weights_pairs_of_captions_of_one_image_by_the_draws_of_the_image() -> None:
    x, y, owners = made(5, 2)
    (found,) = pair_measures(x, y, owners, [np.array([[2, 0, 1, 3, 0]])])
    draws = [np.flatnonzero(owners == image) for image in (0, 0, 2, 3, 3, 3)]
    images = (0, 0, 2, 3, 3, 3)
    cosines = [
        y[c] @ y[e]
        for i, a in enumerate(draws)
        for j, b in enumerate(draws)
        for c in a
        for e in b
        if (c != e if i == j else images[i] != images[j])
    ]
    d_m, d_ii = ((1 - found[name][0]) / 2 for name in ("matched", "image_image"))
    expected = d_m / (d_m + (d_ii + (1 - np.mean(cosines)) / 2) / 2)
    assert found["relative_gap"][0] == pytest.approx(expected)


@pytest.mark.parametrize(("angle", "distance"), [(0.0, 0.001), (0.02, 1e-4)])
def test_only_a_matched_distance_of_zero_is_replaced(angle: float, distance: float) -> None:
    x = np.eye(4)[:2]
    y = np.cos(angle) * x + np.sin(angle) * np.eye(4)[2:]
    (found,) = pair_measures(x, y, np.arange(2))
    within = ((1 - 0) / 2 + (1 - 0) / 2) / 2
    assert found["relative_gap"][0] == pytest.approx(distance / (distance + within), rel=1e-3)


def test_intervals_cover_what_they_are_about() -> None:
    # 100 corpora of a known population, each with its interval: 95% ± 3 standard errors.
    x, y, owners = made(50_000, 1, seed=999)
    true_cosine = (x[owners] * y).sum(1).mean()
    covered = []
    for seed in range(100):
        low, high = measure_gap(*made(60, 1, d=6, seed=seed), QUICK)["matched"].interval
        covered.append(low <= true_cosine <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 100))


def test_the_interval_of_a_small_distance_is_not_pushed_up_by_noise() -> None:
    x, y, owners = made(80, 1, apart=0.0)
    found = measure_gap(x, y, owners, QUICK)["centroid_distance"]
    assert found.value is not None
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_the_minimum_is_found_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _ = made(30, 2)
    whole = (1 - x @ y.T).min()
    monkeypatch.setattr("i0tscore.gap.measures.CELLS", 70)
    assert minimum_cosine_distance(x, y) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("distance", "band"),
    [
        (0.0, "low"),
        (0.1899, "low"),
        (0.19, "moderate"),
        (0.6299, "moderate"),
        (0.63, "severe"),
        (1.4, "severe"),
    ],
)
def test_bands_are_the_papers(distance: float, band: str) -> None:
    assert severity(distance) == band


def test_separability_is_least_squares_on_pairs_split_whole() -> None:
    x, y, _ = made(200, 1, d=5)
    found = separability(x, y, seed=3)
    train = np.setdiff1d(np.arange(200), found.pairs)
    assert (len(train), len(found.pairs), found.fitted_rows) == (140, 60, 280)
    rows = np.concatenate([x[train], y[train]])
    design = np.c_[np.ones(len(rows)), rows]
    weights = np.linalg.solve(design.T @ design, design.T @ np.repeat([0, 1], 140))
    predicted = np.stack([np.c_[np.ones(60), side[found.pairs]] @ weights for side in (x, y)], axis=1)
    assert found.linear_separability == pytest.approx(1 - np.mean((predicted - [0, 1]) ** 2))
    assert found.accuracy == pytest.approx(np.mean((predicted > 0.5) == [False, True]))
    again = separability(x, y, seed=3)
    np.testing.assert_array_equal(again.squared_errors, found.squared_errors)
    assert separability(x, y, seed=4).linear_separability != found.linear_separability


def test_without_a_gap_separability_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    runs = [separability(*rng.normal(size=(2, 100, 60)), seed=i) for i in range(60)]
    values = [r.linear_separability for r in runs]
    assert np.mean(values) == pytest.approx(runs[0].without_gap, abs=4 * stats.sem(values))
    assert np.mean([r.accuracy for r in runs]) == pytest.approx(0.5, abs=0.03)


def test_too_few_pairs_for_a_regression_are_said_and_not_guessed() -> None:
    x, y, owners = made(10, 2, d=32)
    with pytest.raises(InputError, match="more than 34 rows"):
        separability(x, y[:10])
    found = measure_gap(x, y, owners, QUICK)
    assert found["linear_separability"].value is found["modality_accuracy"].value is None
    assert found.separability_without_gap is None
    assert "70% of 10 pairs" in found.notes[0]


def test_peaks_are_found_and_leave_the_room_that_is_left() -> None:
    rng = np.random.default_rng(0)
    x, y = (normalize(rng.normal(size=(400, 50))) * 0.8 for _ in range(2))
    x[:, 7] = y[:, 30] = 0
    x[:, 30], y[:, 7] = 0.6, -0.6
    found = peak_coordinates(x.mean(0), y.mean(0))
    assert found.peaks == (7, 30)
    assert [peak.coordinate for peak in found.largest[:2]] == [7, 30]
    assert sum(p.share for p in peak_coordinates(x.mean(0), y.mean(0), count=50).largest) == pytest.approx(1)
    assert found.ceiling == pytest.approx(0.64)
    assert (normalize(x) @ normalize(y).T).max() <= found.ceiling


@given(seed=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_no_cosine_is_above_the_ceiling_of_its_own_values(seed: int) -> None:
    x, y = normalize(np.random.default_rng(seed).normal(size=(2, 8)))
    assert x @ y <= peak_coordinates(x, y).ceiling + 1e-9


def test_vectors_without_direction_are_left_out_with_a_note() -> None:
    x, y, owners = made(6, 2)
    x[2], y[0] = np.nan, np.nan
    found = measure_gap(x, y, owners, QUICK)
    assert (found.images, found.captions) == (5, 12 - 2 - (owners[0] != 2))
    assert "Left out because they have no direction: 1 images" in found.notes[0]
    with pytest.raises(InputError, match="two images"):
        measure_gap(x[:1], y[owners == 0], np.zeros(2, dtype=int), QUICK)
    with pytest.raises(InputError, match="Expected one image row per caption"):
        measure_gap(x, y)


def clip_pairs(data_dir) -> tuple[np.ndarray, np.ndarray, Statistics]:
    x, y = normalize(np.load(data_dir / "clip_vitb16_pairs" / "image_text_500.npy"))
    return x, y, Statistics("own", "", "", "", Moments.of(x), Moments.of(y))


@pytest.mark.data
def test_real_clip_has_a_severe_gap_in_two_coordinates_and_post_closes_it(data_dir) -> None:
    x, y, statistics = clip_pairs(data_dir)
    before = measure_gap(x, y, resampling=QUICK)
    after = measure_gap(*statistics.standardize(POST, x, y), resampling=QUICK)
    assert before["centroid_distance"].value == pytest.approx(0.851, abs=5e-4)
    assert after["centroid_distance"].value == pytest.approx(0.028, abs=5e-4)
    assert (before.severity, after.severity) == ("severe", "low")
    assert before.peaks.peaks == (362, 442)
    assert sum(peak.share for peak in before.peaks.largest[:2]) > 0.65
    assert before["linear_separability"].value > 0.99
    assert after["linear_separability"].value < after.separability_without_gap
    assert before["image_image"].value > before["matched"].value > before["mismatched"].value


@pytest.mark.data
def test_means_of_one_half_close_the_gap_of_the_other(data_dir) -> None:
    x, y, _ = clip_pairs(data_dir)
    known = Statistics("half", "", "", "", Moments.of(x[:250]), Moments.of(y[:250]))
    after = measure_gap(*known.standardize(POST, x[250:], y[250:]), resampling=QUICK)
    assert 0.03 < after["centroid_distance"].value < 0.19
    unit, raw = (
        centroid_distance(*known.standardize(Standardizer.parse(name), x[250:], y[250:]))
        for name in ("shift(0.5)", "shift_raw(0.5)")
    )
    assert raw < 0.1 < unit


def run_of(x: np.ndarray, y: np.ndarray, owners: np.ndarray) -> EncodedRun:
    return EncodedRun(
        ids=tuple(map(str, range(len(y)))),
        captions=(),
        images=x.astype(np.float32),
        image_index=owners,
        image_keys=tuple(range(len(x))),
        texts=y.astype(np.float32),
        text_index=np.arange(len(y)),
        text_keys=tuple(range(len(y))),
    )


def test_a_report_says_whether_statistics_are_of_the_measured_samples() -> None:
    x, y, owners = made(60, 2)
    run = run_of(x, y, owners)
    own = Statistics("own", "", "", "", *(Moments.of(side) for side in run.pairs))
    other = Statistics("other", "", "", "", *(Moments.of(side[:50]) for side in run.pairs))
    for statistics, in_sample, said in ((own, True, "In-sample"), (other, False, "Held-out")):
        report = report_gap(run, statistics, settings=SETTINGS)
        assert report.in_sample is in_sample
        assert any(note.startswith(said) for note in report.notes)
    names = ["none", "post", "dn(0.25)", "shift(0.5)", "shift_raw(0.5)", "clip(0.1)", "covariance(0.2)"]
    assert list(report.measures) == names
    assert len({str(signature) for signature in report.signatures.values()}) == len(names)
    assert report.signatures["post"]["stats"] == f"other-{other.digest[:4]}"
    assert report.signatures["clip(0.1)"]["stats"] == "none"
    left_out = [note for note in report.notes if "left out" in note]
    assert len(left_out) == 2, "async and nnn"
    assert report.measures["post"]["centroid_distance"].value < report.measures["none"]["centroid_distance"].value
    assert set(report.to_dict()["standardizers"]["post"]["measures"]) == set(MEASURES)


def test_a_report_refuses_what_was_asked_for_and_cannot_be() -> None:
    run = run_of(*made())
    with pytest.raises(InputError, match="changes similarities and has no gap"):
        report_gap(run, None, [Standardizer.parse("nnn")], settings=SETTINGS)
    with pytest.raises(StatisticsError, match="post needs reference means"):
        report_gap(run, None, [POST], settings=SETTINGS)
    alone = report_gap(run, None, settings=SETTINGS)
    assert list(alone.measures) == ["none", "clip(0.1)"]
    assert alone.to_dict()["statistics"] is None
    assert re.fullmatch(r"GapReport\(measure=centroid_distance, none=[\d.]+ \(.*\), clip\(0\.1\)=.*\)", repr(alone))


def test_pictures_show_points_on_the_sphere_and_every_kind_of_cosine() -> None:
    x, y, owners = made(30, 2, d=9)
    shown = plot_panel(x, y, owners)
    np.testing.assert_allclose(np.linalg.norm(shown.images, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(shown.captions, axis=1), 1)
    assert {k: len(v) for k, v in shown.cosines.items()} == {
        "matched": 30,
        "mismatched": 30 * 29,
        "image_image": 435,
        "caption_caption": 435,
    }
    both = np.concatenate([x, y[np.unique(owners, return_index=True)[1]]])
    assert shown.share == pytest.approx((np.linalg.svd(both)[1][:3] ** 2).sum() / (both**2).sum())
    assert set(gap_panels(run_of(x, y, owners), None, [NONE])) == {"none"}
    with pytest.raises(InputError, match="three dimensions"):
        plot_panel(x[:, :2], y[:, :2], owners)
