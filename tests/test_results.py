"""Signatures, intervals and result objects."""

from __future__ import annotations

import json

import numpy as np
import pytest
from examples_on_disk import ROOT
from hypothesis import given
from hypothesis import strategies as st

from i0tscore import Explanation, I0TScorer
from i0tscore.errors import UsageError
from i0tscore.results import Resampling, Result, Signature, bootstrap_mean
from i0tscore.results.comparison import Comparison
from i0tscore.results.correlation import CorrelationReport
from i0tscore.results.gap import GapReport
from i0tscore.results.report import Report
from i0tscore.results.retrieval import RetrievalReport
from i0tscore.results.selection import Selection


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(max_size=20)), max_size=5))
def test_signatures_round_trip_with_any_values(pairs: list[tuple[str, str]]) -> None:
    signature = Signature("I0TScore", tuple(pairs))
    assert "\n" not in str(signature)
    assert Signature.parse(str(signature)) == signature


def test_intervals_resample_images_not_rows() -> None:
    rng = np.random.default_rng(0)
    per_image = rng.normal(size=50)
    values, clusters = np.repeat(per_image, 40), np.repeat(np.arange(50), 40)
    by_image = bootstrap_mean(values, clusters)
    by_row = bootstrap_mean(values, range(len(values)))
    assert by_image is not None
    assert by_row is not None
    expected = 2 * 1.96 * per_image.std() / np.sqrt(50)
    assert by_image[1] - by_image[0] == pytest.approx(expected, rel=0.12)
    assert by_row[1] - by_row[0] < 0.3 * expected
    assert bootstrap_mean(values, clusters) == by_image, "seeded"


def test_intervals_leave_out_undefined_values_and_need_two_images() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0])
    assert bootstrap_mean(values, [0, 0, 1, 0]) is None
    low, high = bootstrap_mean(values, [0, 1, 1, 2])
    assert 1 <= low < high <= 4


def test_interval_coverage_is_nominal() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(200):
        effects = rng.normal(size=60)
        values = np.repeat(effects, 3) + rng.normal(size=180)
        low, high = bootstrap_mean(values, np.repeat(np.arange(60), 3), Resampling(resamples=300, seed=trial))
        covered += low <= 0 <= high
    assert 180 <= covered <= 199  # nominal 190; the percentile bootstrap is a little narrow at 60 images


@pytest.mark.parametrize(("confidence", "resamples"), [(0.95, 1), (0.95, 39), (0.99, 199), (1.0, 1000), (0.9, -1)])
def test_too_few_resamples_are_rejected(confidence: float, resamples: int) -> None:
    with pytest.raises(UsageError, match=r"confidence|resamples"):
        Resampling(confidence, resamples)
    assert Resampling(0.95, 40).resamples == 40
    assert Resampling(0.99, 0).resamples == 0


@pytest.fixture
def result():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(150, 12))
    scorer = I0TScorer(statistics="batch", resamples=100)
    return scorer.score(x, x + rng.normal(size=(150, 12)), ids=[f"a{i}" for i in range(150)])


def test_result_is_a_mapping_with_samples(result) -> None:
    assert list(result) == ["I0TScore", "CLIPScore"]
    assert result.n == len(result.samples) == 150
    assert result["I0TScore"].mean == pytest.approx(result["I0TScore"].values.mean())
    first, last = result.samples[0], result.samples[-1]
    assert (first.id, last.id) == ("a0", "a149")
    assert first.scores["I0TScore"].value == result["I0TScore"].values[0]
    assert [s.id for s in result.samples[2:4]] == ["a2", "a3"]
    with pytest.raises(IndexError):
        result.samples[150]


def test_a_rank_of_another_metric_than_the_first_is_named(result) -> None:
    assert "rank" in result.sample_table().header
    equal = I0TScorer(statistics="batch", resamples=0).score(np.eye(150), np.ones((150, 150)))
    assert equal["I0TScore"].mean is None
    assert "rank of CLIPScore" in equal.sample_table().header


def test_json_is_strict_and_complete(result) -> None:
    data = json.loads(result.to_json())
    assert data["schema"] == "i0tscore.result/1"
    sample = data["samples"][5]
    parts = sample["breakdown"]
    total = parts["offset"] + parts["image_bias"] + parts["caption_bias"] + parts["semantic"]
    assert total == pytest.approx(parts["cosine"], abs=1e-6)
    assert sample["scores"]["I0TScore"]["percentile_matched"] is None
    assert any("circular" in note for note in data["notes"])
    assert len(result.to_jsonl().splitlines()) == 150
    assert "samples" not in result.to_dict(per_sample=False)


def test_every_report_has_a_documented_schema() -> None:
    reports = (Result, Comparison, CorrelationReport, Explanation, GapReport, RetrievalReport, Selection)
    documented = {json.loads(file.read_text())["$id"] for file in (ROOT / "docs/reference").glob("*.schema.json")}
    assert {report.SCHEMA for report in reports} == documented
    assert all(issubclass(report, Report) for report in reports)


def test_samples_of_a_result_are_a_sequence(result) -> None:
    assert result.samples[-2:] == [result.samples[148], result.samples[149]]
    assert [sample.id for sample in result.samples] == list(result.ids)
    with pytest.raises(IndexError, match="from -150 to 149, got -151"):
        result.samples[-151]
