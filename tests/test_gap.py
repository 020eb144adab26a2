"""Means, standardizers, statistics files."""

from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from i0tscore import fit, i0t_score
from i0tscore.errors import StatisticsError, UsageError
from i0tscore.gap import (
    POST,
    GapStatistics,
    Moments,
    Normalization,
    NormalizationPair,
    Standardizer,
    Statistics,
    centroid_distance,
    normalize,
)
from i0tscore.gap.measures import expected_residual_gap
from i0tscore.gap.standardizers import (
    STANDARDIZERS,
    FittedState,
    HubnessBank,
    Need,
    StandardizerSpec,
    all_standardizers,
)
from i0tscore.gap.statistics import ReferenceDistribution
from i0tscore.metrics.metric import Metric

NNN = Standardizer("nnn", 0.5)


def _statistics(seed: int = 0, n: int = 300, d: int = 16) -> tuple[Statistics, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, d))
    x = normalize((shared + rng.normal(size=(n, d)) + 1).astype(np.float32))
    y = normalize((shared + rng.normal(size=(n, d)) - 1).astype(np.float32))
    return Statistics("made", "toy", "abc", "A photo depicts ", Moments.of(x), Moments.of(y)), x, y


@given(cut=st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_moments_of_shards_merge_to_those_of_the_whole(cut: list[int], seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(100, 5)).astype(np.float32)
    first, *rest = (Moments.of(part) for part in np.split(rows, sorted(cut)))
    for moments in rest:
        first = first.merge(moments)
    assert first.count == 100
    np.testing.assert_allclose(first.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(first.covariance, np.cov(rows.T, bias=True), atol=1e-6)


def test_statistics_of_shards_merge_and_then_have_no_reference_distribution() -> None:
    whole, x, y = _statistics()
    shards = [replace(whole, image=Moments.of(x[s]), caption=Moments.of(y[s])) for s in (slice(90), slice(90, None))]
    merged = shards[0].with_reference(x[:90], y[:90]).merge(shards[1])
    np.testing.assert_allclose(merged.image.mean, whole.image.mean, atol=1e-6)
    np.testing.assert_allclose(merged.caption.mean, whole.caption.mean, atol=1e-6)
    assert merged.reference == {}
    with pytest.raises(StatisticsError, match=r"other \[abc\]"):
        whole.merge(replace(whole, encoder="other"))


def test_post_closes_the_gap_and_leaves_unit_vectors() -> None:
    statistics, x, y = _statistics()
    x2, y2 = statistics.standardize(POST, x, y)
    assert centroid_distance(x, y) > 0.8
    assert centroid_distance(x2, y2) < 0.1
    np.testing.assert_allclose(np.linalg.norm(x2, axis=1), 1, atol=1e-5)


def test_shift_moves_both_modalities_towards_each_other_along_the_unit_gap() -> None:
    statistics, x, y = _statistics()
    mx, my = statistics.image.mean, statistics.caption.mean
    g = (mx - my) / np.linalg.norm(mx - my)
    x2, y2 = statistics.standardize(Standardizer.parse("shift(0.3)"), x, y)
    np.testing.assert_allclose(x2, normalize(x - 0.3 * g), atol=1e-6)
    np.testing.assert_allclose(y2, normalize(y + 0.3 * g), atol=1e-6)


def test_covariance_weighs_directions_by_their_variance() -> None:
    statistics, x, y = _statistics()
    covariance = np.cov(x.T, bias=True) + np.cov(y.T, bias=True)
    values, directions = np.linalg.eigh(covariance)
    matrix = directions @ np.diag((values / values.mean()) ** 0.3) @ directions.T
    x2, y2 = statistics.standardize(Standardizer.parse("covariance(0.3)"), x, y)
    np.testing.assert_allclose(x2, normalize((x - x.mean(0)) @ matrix), atol=1e-5)
    np.testing.assert_allclose(y2, normalize((y - y.mean(0)) @ matrix), atol=1e-5)
    same = statistics.standardize(Standardizer.parse("covariance(0)"), x, y)
    np.testing.assert_allclose(same[0], statistics.standardize(POST, x, y)[0], atol=1e-5)


def _normalization(seed: int, d: int = 16) -> Normalization:
    rng = np.random.default_rng(seed)
    return Normalization(rng.normal(size=d), rng.uniform(0.1, 2, d), rng.uniform(0.5, 2, d), rng.normal(size=d))


def test_async_is_batch_norm_in_evaluation_then_unit_length() -> None:
    torch = pytest.importorskip("torch")
    statistics, x, y = _statistics()
    pair = (_normalization(1), _normalization(2))
    found = statistics.with_fitted(normalization=NormalizationPair(*pair)).standardize(
        Standardizer.parse("async"), x, y
    )
    for vectors, normalization, result in zip((x, y), pair, found, strict=True):
        layer = torch.nn.BatchNorm1d(16).double().eval()
        state = {
            "running_mean": normalization.mean,
            "running_var": normalization.variance,
            "weight": normalization.weight,
            "bias": normalization.bias,
        }
        layer.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
        with torch.no_grad():
            expected = torch.nn.functional.normalize(layer(torch.tensor(vectors, dtype=torch.float64)), dim=1)
        np.testing.assert_allclose(result, expected.numpy(), atol=1e-6)
        assert result.dtype == np.float32
        as_tensor = normalization(torch.tensor(vectors, dtype=torch.float64))
        np.testing.assert_allclose(as_tensor.numpy(), expected.numpy(), atol=1e-12)


def test_async_without_a_normalization_says_how_to_train_one() -> None:
    statistics, x, y = _statistics()
    with pytest.raises(StatisticsError, match=r"async needs .* normalization\. .*--method async"):
        statistics.standardize(Standardizer.parse("async"), x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variance": -np.ones(16)}, "variances"),
        ({"bias": np.zeros(3)}, r"one shape \(d,\), got .* bias \(3,\)"),
        ({"mean": np.full(16, np.nan)}, "finite"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_what_is_no_normalization_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(_normalization(0), **change)


def test_a_normalization_is_kept_in_the_file_and_not_merged(tmp_path) -> None:
    statistics, x, y = _statistics()
    trained = statistics.with_fitted(
        normalization=NormalizationPair(_normalization(1), replace(_normalization(2), eps=0.01))
    )
    trained = trained.with_reference(x, y)
    assert set(trained.reference) - set(statistics.with_reference(x, y).reference) == {"async"}
    trained.save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    standardizer = Standardizer.parse("async")
    for mine, theirs in zip(back.standardize(standardizer, x, y), trained.standardize(standardizer, x, y), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert trained.merge(trained).fitted == {}


def test_the_digest_covers_what_a_standardizer_uses_and_nothing_else() -> None:
    statistics, _, _ = _statistics()
    trained = statistics.with_fitted(normalization=NormalizationPair(_normalization(1), _normalization(2)))
    other = statistics.with_fitted(
        normalization=NormalizationPair(_normalization(1), replace(_normalization(2), eps=2e-5))
    )
    standardizer = Standardizer.parse("async")
    assert len({s.digest_of(standardizer) for s in (trained, other)} | {trained.digest}) == 3
    assert {s.digest_of(POST) for s in (statistics, trained, other)} == {statistics.digest}


@given(seed=st.integers(0, 50), strength=st.floats(-1, 2))
@settings(max_examples=25, deadline=None)
def test_post_subtracts_a_part_of_the_mean(seed: int, strength: float) -> None:
    statistics, x, y = _statistics(seed, n=20)
    means = statistics.image.mean, statistics.caption.mean
    for value, expected in ((strength, strength), (0.0, 0.0), (None, 1.0)):
        found = statistics.standardize(Standardizer("post", value), x, y)
        for vectors, mean, ours in zip((x, y), means, found, strict=True):
            moved = vectors.astype(np.float64) - expected * mean
            np.testing.assert_allclose(ours, moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=1e-5)


def test_the_whole_mean_is_left_out_of_names() -> None:
    assert {Standardizer.parse("post(1)"), Standardizer("post"), Standardizer("post", 1.0)} == {POST}
    assert (str(POST), str(Standardizer.parse("post(0.5)"))) == ("post", "post(0.5)")
    assert [str(Metric.parse(f"I0TScore(lambda={x})")) for x in ("1", "0.5")] == ["I0TScore", "I0TScore(lambda=0.5)"]
    assert Metric.parse("I0TScore(std=post(0.5))") == Metric.parse("I0TScore(lambda=0.5)")


@given(seed=st.integers(0, 50), strength=st.floats(-1, 1))
@settings(max_examples=25, deadline=None)
def test_shifts_differ_in_the_length_of_their_direction_only(seed: int, strength: float) -> None:
    statistics, x, y = _statistics(seed, n=20)
    length = float(np.linalg.norm(statistics.image.mean - statistics.caption.mean))
    raw = statistics.standardize(Standardizer("shift_raw", strength), x, y)
    unit = statistics.standardize(Standardizer("shift", strength * length), x, y)
    for first, second in zip(raw, unit, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_half_of_the_unit_direction_overshoots_and_half_of_the_raw_one_meets() -> None:
    # An et al. 2025, Table 2: λ = .5 leaves CD .2493 of .7642, which only a unit direction does.
    angle = 2 * np.arcsin(0.7642 / 2)
    mean_x, mean_y = np.array([1.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    known = GapStatistics(mean_x, mean_y)
    unit, raw = Standardizer("shift", 0.5), Standardizer("shift_raw", 0.5)
    assert np.linalg.norm(unit.apply(mean_x, known, "image") - unit.apply(mean_y, known, "caption")) == pytest.approx(
        0.2358, abs=0.02
    )
    np.testing.assert_allclose(raw.apply(mean_x, known, "image"), raw.apply(mean_y, known, "caption"), atol=1e-12)


def test_clipping_bounds_coordinates_before_unit_length_and_needs_no_statistics() -> None:
    vectors = np.array([[0.8, -0.6, 0.05, 0.0]])
    expected = np.array([0.1, -0.1, 0.05, 0.0]) / np.linalg.norm([0.1, 0.1, 0.05])
    clipped = Standardizer.parse("clip")
    for modality in ("image", "caption"):
        np.testing.assert_allclose(clipped.apply(vectors, GapStatistics(), modality)[0], expected)
    with pytest.raises(UsageError, match="above 0"):
        Standardizer.parse("clip(0)")


def test_covariance_decomposes_its_covariance_once() -> None:
    statistics, x, y = _statistics()
    with patch.object(np.linalg, "eigh", wraps=np.linalg.eigh) as decompose:
        for strength in (0.1, 0.2):
            statistics.standardize(Standardizer("covariance", strength), x, y)
    assert decompose.call_count == 1


def _with_bank(nearest: int = 7) -> tuple[Statistics, np.ndarray, np.ndarray]:
    statistics, x, y = _statistics()
    return statistics.with_fitted(bank=HubnessBank.sample(x[100:], y[100:], 40, nearest=nearest)), x[:100], y[:100]


def test_nnn_ranks_as_its_paper_says_in_both_directions() -> None:
    statistics, x, y = _with_bank()
    ours = np.matmul(*(v if i == 0 else v.T for i, v in enumerate(statistics.standardize(NNN, x, y))))
    bank = statistics.fitted["bank"]
    near = np.sort(y.astype(np.float64) @ bank.images.astype(np.float64).T, axis=1)[:, -7:].mean(1)
    far = np.sort(x.astype(np.float64) @ bank.captions.astype(np.float64).T, axis=1)[:, -7:].mean(1)
    to_caption = x @ y.T - 0.5 * near[None, :]
    to_image = y @ x.T - 0.5 * far[None, :]
    np.testing.assert_array_equal(np.argsort(ours, axis=1), np.argsort(to_caption, axis=1))
    np.testing.assert_array_equal(np.argsort(ours.T, axis=1), np.argsort(to_image, axis=1))
    np.testing.assert_allclose(ours, x @ y.T - 0.5 * near[None, :] - 0.5 * far[:, None], atol=1e-5)


def test_nnn_takes_tensors_and_few_vectors_at_a_time() -> None:
    torch = pytest.importorskip("torch")
    statistics, x, y = _with_bank()
    whole = statistics.standardize(NNN, x, y)
    for vectors, result, modality in zip((x, y), whole, ("image", "caption"), strict=True):
        tensor = NNN.apply(torch.tensor(vectors), statistics.gap_statistics, modality)
        np.testing.assert_allclose(tensor.numpy(), result, atol=1e-6)
        with patch("i0tscore.gap.standardizers.CELLS", 100):
            np.testing.assert_allclose(NNN.apply(vectors, statistics.gap_statistics, modality), result, atol=1e-6)
    assert NNN.apply(x[:0], statistics.gap_statistics, "image").shape == (0, 18)


def test_banks_are_drawn_kept_and_merged(tmp_path) -> None:
    statistics, x, y = _statistics()
    drawn = statistics.with_fitted(bank=HubnessBank.sample(x, y, 30))
    assert (drawn.fitted["bank"].nearest, len(drawn.fitted["bank"].images)) == (30, 30)
    assert len(np.unique(drawn.fitted["bank"].captions, axis=0)) == 30
    drawn.with_reference(x, y).save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(back.fitted["bank"].images, drawn.fitted["bank"].images)
    assert back.digest_of(NNN) == drawn.digest_of(NNN) != drawn.digest
    assert "nnn(0.5)" in back.reference
    assert len({drawn.with_fitted(bank=replace(drawn.fitted["bank"], nearest=k)).digest_of(NNN) for k in (3, 4)}) == 2
    assert len(drawn.merge(drawn).fitted["bank"].images) == 60
    assert "bank" not in drawn.merge(statistics).fitted
    with pytest.raises(StatisticsError, match="there are 300"):
        HubnessBank.sample(x, y, 301)
    with pytest.raises(StatisticsError, match="--bank-size N"):
        statistics.standardize(NNN, x, y)
    with pytest.raises(ValueError, match="k = 0"):
        replace(drawn.fitted["bank"], nearest=0)


def test_every_standardizer_of_the_table_survives_a_round_trip() -> None:
    listed = list(all_standardizers())
    assert [Standardizer.parse(str(s)) for s in listed] == listed
    assert len(set(listed)) == len(listed)
    assert {s.name for s in listed} == {s.name for s in map(Standardizer.parse, {s.name for s in listed})}


@pytest.mark.parametrize("text", ["none(1)", "post(x)", "nothing", "dn(x)", "dn(1e)", "dn(nan)", "", "shift("])
def test_unknown_standardizers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="standardizer"):
        Standardizer.parse(text)


def test_reference_distribution_places_and_calibrates() -> None:
    rng = np.random.default_rng(1)
    matched, mismatched = rng.normal(0.4, 0.12, 20_000), rng.normal(0.0, 0.12, 20_000)
    reference = ReferenceDistribution.fit(matched, mismatched)
    assert reference.percentiles(np.array([0.4]))[0][0] == pytest.approx(50, abs=1.5)
    assert reference.percentiles(np.array([0.4]))[1][0] > 99
    # Two equal normals: the log odds are (0.4 · s − 0.08) / 0.12².
    scores = np.array([0.1, 0.2, 0.3])
    exact = 1 / (1 + np.exp(-(0.4 * scores - 0.08) / 0.12**2))
    np.testing.assert_allclose(reference.p_match(scores), exact, atol=0.02)
    assert np.isnan(reference.p_match(np.array([np.nan]))).all()
    assert np.isnan(reference.percentiles(np.array([np.nan]))).all()


def test_mismatched_pairs_never_share_an_image() -> None:
    statistics, x, _ = _statistics(n=60)
    twice = np.repeat(x[:30], 2, axis=0)
    reference = statistics.with_reference(twice, twice, np.repeat(np.arange(30), 2)).reference["none"]
    assert reference.matched.min() == pytest.approx(1, abs=1e-5)
    assert reference.mismatched.max() < 0.99
    with pytest.raises(StatisticsError, match="two different images"):
        statistics.with_reference(x, x, np.zeros(60))


def test_statistics_files_round_trip(tmp_path) -> None:
    statistics, x, y = _statistics()
    path = tmp_path / "s.safetensors"
    statistics.with_reference(x, y).save(path)
    back = Statistics.load(path)
    assert (back.name, back.encoder, back.space, back.prefix) == ("made", "toy", "abc", "A photo depicts ")
    assert back.digest == statistics.digest
    assert back.image.count == 300
    np.testing.assert_array_equal(
        back.reference["post"].p_match(np.array([0.1])),
        statistics.with_reference(x, y).reference["post"].p_match(np.array([0.1])),
    )


def test_statistics_of_another_encoder_or_prefix_are_refused_naming_both() -> None:
    statistics, _, _ = _statistics()
    with pytest.raises(StatisticsError, match=r"toy \[abc\].*lite \[xyz\]"):
        statistics.require("lite", "xyz", "A photo depicts ")
    with pytest.raises(StatisticsError, match="'A photo depicts ', not ''"):
        statistics.require("toy", "abc", "")
    assert statistics.require("toy", "abc", "A photo depicts ") is statistics


def test_files_that_are_not_statistics_are_refused(tmp_path) -> None:
    with pytest.raises(StatisticsError, match="No statistics file"):
        Statistics.load(tmp_path / "missing.safetensors")
    (tmp_path / "text").write_text("hello")
    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    header = {"schema": "i0tscore.statistics/9"}
    save_file({"a": np.zeros(2)}, tmp_path / "newer.safetensors", {"i0tscore": json.dumps(header)})
    for name in ("text", "other.safetensors", "newer.safetensors"):
        with pytest.raises(StatisticsError, match=name):
            Statistics.load(tmp_path / name)


def test_expected_residual_gap_is_what_small_samples_leave() -> None:
    statistics, x, y = _statistics(n=4000, d=64)
    rng = np.random.default_rng(0)
    matched = (statistics.standardize(POST, x, y)[0] * statistics.standardize(POST, x, y)[1]).sum(1).mean()
    measured = []
    for _ in range(20):
        rows = rng.choice(4000, 64, replace=False)
        small = replace(statistics, image=Moments.of(x[rows]), caption=Moments.of(y[rows]))
        measured.append(centroid_distance(*small.standardize(POST, x, y)))
    assert np.mean(measured) == pytest.approx(expected_residual_gap(float(matched), 64), rel=0.15)


class Median(FittedState):
    """Coordinates' medians, as an example of state that only its own row knows."""

    header_key = "median"

    def __init__(self, image: np.ndarray, caption: np.ndarray) -> None:
        self.image, self.caption = image, caption

    @classmethod
    def fit(cls, images, captions):
        return cls(np.median(images, axis=0), np.median(captions, axis=0))

    def to_file(self):
        return True, {"median/image": self.image, "median/caption": self.caption}

    @classmethod
    def from_file(cls, header, tensors):
        return cls(tensors["median/image"], tensors["median/caption"])


def test_a_standardizer_with_fitted_state_is_one_row(monkeypatch, tmp_path) -> None:
    def formula(vectors, side):
        return normalize(vectors - getattr(side.statistics.fitted["median"], side.modality))

    row = StandardizerSpec(formula, Need("median", "medians.", Median), reference=True)
    monkeypatch.setitem(STANDARDIZERS, "median", row)
    plain, x, y = _statistics()
    median = Standardizer.parse("median")
    with pytest.raises(StatisticsError, match="median needs medians"):
        plain.standardize(median, x, y)
    fitted = Statistics.fit(x, y, name="toy").with_reference(x, y)
    assert "median" in fitted.reference
    fitted.save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    expected = [normalize(v - np.median(v, axis=0)) for v in (x, y)]
    for vectors, result in zip(expected, back.standardize(median, x, y), strict=True):
        np.testing.assert_allclose(vectors, result, atol=1e-6)
    assert back.digest_of(median) == fitted.digest_of(median) != fitted.digest
    assert back.merge(back).fitted == {}
    result = i0t_score(x, y, metrics="I0TScore(std=median)", statistics="batch")["I0TScore(std=median)"]
    np.testing.assert_allclose(result.values, (expected[0] * expected[1]).sum(axis=1), atol=1e-6)
    assert result.signature["stats"] == f"batch-{fit(x, y).digest_of(median)[:4]}"


def test_former_names_of_standardizers_parse_with_a_warning_and_load_without(tmp_path) -> None:
    with pytest.warns(UserWarning, match="'color\\(0.3\\)' is now called 'covariance'"):
        assert Standardizer.parse("color(0.3)") == Standardizer("covariance", 0.3)
    statistics, x, y = _statistics()
    named = statistics.with_reference(x, y)
    former = {key.replace("covariance", "color"): value for key, value in named.reference.items()}
    replace(named, reference=former).save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    assert list(back.reference) == list(named.reference)
    assert "covariance(0.2)" in back.reference
    assert back.digest == named.digest
