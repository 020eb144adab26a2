"""Correlations compared with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from i0tscore.results.correlation import (
    CORRELATIONS,
    WeightedRows,
    correlation,
    correlation_report,
    krippendorff_alpha,
)
from i0tscore.results.intervals import Resampling
from i0tscore.samples.ratings import RatingSet


def _scipy(name: str, x: np.ndarray, y: np.ndarray) -> float:
    if name.startswith("tau"):
        return float(stats.kendalltau(x, y, variant=name[-1]).statistic)
    return float((stats.spearmanr if name == "spearman" else stats.pearsonr)(x, y).statistic)


@pytest.mark.parametrize("name", CORRELATIONS)
@given(seed=st.integers(0, 10_000), n=st.integers(5, 60), levels=st.integers(2, 9), ties=st.booleans())
@settings(max_examples=40, deadline=None)
def test_weighted_rows_equal_scipy_on_repeated_rows(name, seed, n, levels, ties) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n).round(1 if ties else 12)
    ratings = rng.integers(0, levels, n)
    weights = rng.integers(0, 4, n)
    x, y = np.repeat(scores, weights), np.repeat(ratings, weights)
    value = WeightedRows(scores, ratings).correlation(name, weights)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(_scipy(name, x, y), abs=1e-12)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_point_values_are_scipys_to_the_last_digit(name) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=500).round(1), rng.integers(1, 5, 500)
    assert correlation(name, x, y) == _scipy(name, x, y)
    assert correlation(name, np.ones(5), np.arange(5)) is None
    assert correlation(name, np.ones(1), np.ones(1)) is None


@pytest.mark.parametrize("name", ["tau_b", "tau_c"])
def test_the_fallback_for_many_rating_levels_agrees(name, monkeypatch) -> None:
    rng = np.random.default_rng(1)
    x, y, w = rng.normal(size=80), rng.normal(size=80), rng.integers(0, 3, 80)
    counted = WeightedRows(x, y).correlation(name, w)
    monkeypatch.setattr("i0tscore.results.correlation._CELLS", 10)
    assert WeightedRows(x, y).correlation(name, w) == pytest.approx(counted, abs=1e-12)


# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, example C: four observers, twelve units.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)


def test_alpha_has_no_interval_if_clusters_divide_the_ratings_of_an_item() -> None:
    rng = np.random.default_rng(0)
    item, rating = np.repeat(np.arange(20), 4), rng.integers(1, 6, 80).astype(float)
    clusters = {"image": np.repeat(np.arange(10), 8), "rater": np.tile(np.arange(4), 20)}
    for over, labels in clusters.items():
        names = tuple(map(str, labels))
        rated = RatingSet("demo", (), item, rating, names, over=over, scores={"mine": rng.normal(size=80)})
        alpha = correlation_report(rated, resampling=Resampling(resamples=50)).alpha
        assert alpha is not None
        assert alpha.value == pytest.approx(krippendorff_alpha(rating, item))
        assert (alpha.interval is None) == (over == "rater")


def test_krippendorffs_alpha_is_the_published_one() -> None:
    given = [(unit, value) for row in OBSERVERS for unit, value in enumerate(row) if value is not None]
    units, ratings = map(np.array, zip(*given, strict=True))
    assert round(krippendorff_alpha(ratings, units), 3) == 0.849
    repeated = np.repeat(np.arange(len(units)), 1 + (units % 3))
    copies = np.concatenate([np.arange(1 + unit % 3) for unit in units])
    expected = krippendorff_alpha(ratings[repeated], units[repeated] * 3 + copies)
    assert krippendorff_alpha(ratings, units, 1 + units % 3) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(krippendorff_alpha(ratings, np.arange(len(ratings))))
    assert np.isnan(krippendorff_alpha(np.ones(4), [0, 0, 1, 1]))
