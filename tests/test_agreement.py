"""Agreement with ratings: coverage of intervals, and p-values that are uniform under the null."""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy import stats

from human_judgments.averaged import group_accuracy
from i0tscore.results.correlation import agreement, compare_agreement, rater_ceiling, tied_pairs
from i0tscore.results.intervals import Resampling, holm_correction

# The documented larger run: I0TSCORE_TRIALS=2000 python -m pytest tests/test_agreement.py
TRIALS = int(os.environ.get("I0TSCORE_TRIALS", "120"))


def _clustered(groups: int, rng: np.random.Generator, rows: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores and four-level ratings that share a cluster effect, and the clusters."""
    quality = 0.6 * rng.normal(size=(groups, 1)) + rng.normal(size=(groups, rows))
    scores = 0.7 * quality + 0.5 * rng.normal(size=(groups, 1)) + rng.normal(size=(groups, rows))
    ratings = np.digitize(quality, [-1.2, 0.0, 1.2])
    return scores.ravel(), ratings.ravel(), np.repeat(np.arange(groups), rows)


def test_point_values_are_scipys() -> None:
    scores, ratings, clusters = _clustered(50, np.random.default_rng(0))
    result = agreement(scores, ratings, clusters, resampling=Resampling(resamples=40))
    assert result.estimates["tau_b"].value == stats.kendalltau(scores, ratings).statistic
    assert result.estimates["tau_c"].value == stats.kendalltau(scores, ratings, variant="c").statistic
    assert result.estimates["spearman"].value == stats.spearmanr(scores, ratings).statistic
    assert result.estimates["pearson"].value == stats.pearsonr(scores, ratings).statistic
    assert (result.n, result.groups) == (150, 50)


def test_auc_is_mann_whitney_with_ties_half() -> None:
    scores, labels = np.array([1.0, 2, 2, 3]), np.array([0, 0, 1, 1])
    result = agreement(scores, labels, names=["auc"], resampling=Resampling(resamples=50))
    assert result.estimates["auc"].value == 3.5 / 4
    low, high = result.estimates["auc"].interval
    assert 0 <= low <= 3.5 / 4 <= high <= 1


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    scores, ratings, clusters = (np.repeat(a, 10) for a in _clustered(40, rng))
    wide = agreement(scores, ratings, clusters, names=["tau_b"], resampling=Resampling(resamples=200))
    narrow = agreement(scores, ratings, None, names=["tau_b"], resampling=Resampling(resamples=200))
    width = {k: np.ptp(r.estimates["tau_b"].interval) for k, r in (("wide", wide), ("narrow", narrow))}
    assert width["wide"] > 2 * width["narrow"]


@pytest.mark.parametrize("groups", [20, 80])
def test_interval_coverage_is_nominal(groups: int) -> None:
    rng = np.random.default_rng(2)
    truth = agreement(*_clustered(8000, rng), resampling=Resampling(resamples=0)).estimates
    covered = dict.fromkeys(truth, 0)
    for trial in range(TRIALS):
        result = agreement(*_clustered(groups, rng), resampling=Resampling(resamples=200, seed=trial))
        for name, estimate in result.estimates.items():
            low, high = estimate.interval
            covered[name] += low <= truth[name].value <= high
    # 93 to 97 % of many trials; with few, that and three standard errors.
    slack = 3 * np.sqrt(0.95 * 0.05 / TRIALS)
    for name, count in covered.items():
        assert 0.93 - slack <= count / TRIALS <= 0.97 + slack, name


def test_paired_p_values_are_uniform_when_there_is_no_difference() -> None:
    rng = np.random.default_rng(3)
    p_values = []
    for trial in range(TRIALS):
        scores, ratings, clusters = _clustered(60, rng)
        noisy = {name: scores + rng.normal(size=len(scores)) for name in "ab"}
        settings = Resampling(resamples=200, seed=trial)
        p_values.append(compare_agreement(noisy, ratings, clusters, "a", resampling=settings)[0].p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_a_real_difference_is_found_and_signed() -> None:
    rng = np.random.default_rng(4)
    scores, ratings, clusters = _clustered(150, rng)
    metrics = {"good": scores, "worse": scores + 2 * rng.normal(size=len(scores)), "same": scores.copy()}
    worse, same = compare_agreement(metrics, ratings, clusters, "good", resampling=Resampling(resamples=300))
    assert worse.estimate.value < 0
    assert worse.estimate.interval[1] < 0
    assert worse.p_holm < 0.05
    assert same.estimate.value == 0
    assert same.p_value == 1.0


def test_holm_correction_matches_a_textbook_example() -> None:
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm_correction([0.5, None, 0.9]) == [1.0, None, 1.0]


def test_preference_accuracy_counts_ties_half() -> None:
    scores = np.array([3.0, 1, 1, 5, 5])
    ratings = np.array([2, 1, 2, 4, 4])
    groups = ["a", "a", "a", "b", "b"]
    estimate, pairs = group_accuracy(scores, ratings, groups)
    # a: (3,1) correct, (1,1) tied scores count half, (3,1) with equal ratings does not count; b: equal ratings.
    assert (estimate.value, pairs) == (0.75, 2)
    assert estimate.interval is None, "one group only"
    assert group_accuracy(scores, np.ones(5), groups)[0].value is None


def test_rater_ceiling_compares_each_rating_with_the_others() -> None:
    others, own, rows = rater_ceiling(np.array([1, 2, 6, 9]), ["x", "x", "x", "y"])
    np.testing.assert_array_equal(others, [4, 3.5, 1.5])
    np.testing.assert_array_equal(own, [1, 2, 6])
    np.testing.assert_array_equal(rows, [0, 1, 2])


def test_tied_pairs_counts_only_pairs_that_could_be_ordered() -> None:
    assert tied_pairs(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 3])) == 2 / 5
    assert tied_pairs(np.array([1.0]), np.array([1.0])) == 0


def test_undefined_agreement_is_none_and_undefined_scores_are_left_out() -> None:
    result = agreement(np.array([1, 1, np.nan]), np.array([1, 2, 3]), resampling=Resampling(resamples=40))
    assert result.n == 2
    assert result.estimates["tau_b"].value is None
    assert result.estimates["tau_b"].interval is None
