"""Metric names, and the scorer on embeddings."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from i0tscore import I0TScorer, Metric, clip_score, fit, functional, i0t_score
from i0tscore.errors import InputError, StatisticsError, UsageError
from i0tscore.gap import Normalization, NormalizationPair, Statistics, dot, normalize
from i0tscore.metrics.metric import METRICS


def _pairs(n: int = 200, d: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, d))
    return shared + rng.normal(size=(n, d)) + 1, shared + rng.normal(size=(n, d)) - 1


@pytest.mark.parametrize(
    "name",
    [
        "CLIPScore",
        "I0TScore(clip=yes,weight=2)",
        "RefI0TScore(reference_rule=mean)",
        "RefI0TScore(reference_rule=mean3)",
        "I0TScore(lambda=0.5)",
        "DNScore(lambda=0.5)",
        "CLIPScore(clip=no,weight=100)",
        "CLIPScore(weight=2.12345678)",
        "DNScore(lambda=0.12345678)",
        "I0TScore(std=async)",
        "CLIPScore(clip=no,std=shift(0.5),weight=2)",
        "RefCLIPScore(std=clip(0.1),reference_rule=mean)",
        "DNScore(std=nnn(0.5))",
        "ContextI0TScore",
        "ContextI0TScore(std=covariance(0.2),context_rule=mean)",
    ],
)
def test_metric_names_survive_a_round_trip(name: str) -> None:
    assert str(Metric.parse(name)) == name
    assert Metric.parse(f"  {name.lower()} ") == Metric.parse(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "BLEU",
        "I0TScore(clip=perhaps)",
        "CLIPScore(lambda=1)",
        "CLIPScore(reference_rule=mean)",
        "I0TScore(",
        "CLIPScore(weight=inf)",
        "CLIPScore(weight=0)",
        "DNScore(lambda=nan)",
        "I0TScore(std=whitening)",
        "I0TScore(std=dn(0.5)",
        "I0TScore(std=async,lambda=1)",
        "RefI0TScore(std=nnn(0.5))",
        "ContextI0TScore(std=nnn(0.5))",
        "I0TScore(context_rule=mean)",
        "ContextI0TScore(context_rule=max)",
    ],
)
def test_unknown_metrics_and_settings_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="metric"):
        Metric.parse(name)


def test_the_table_is_keyed_by_the_names_it_prints() -> None:
    assert all(key == str(metric).lower() for key, metric in METRICS.items())


def test_scores_of_embeddings_are_the_functional_ones() -> None:
    x, y = _pairs()
    statistics = fit(x, y)
    mx, my = statistics.image.mean, statistics.caption.mean
    metrics = ["I0TScore", "CLIPScore", "DNScore", "I0TScore(clip=yes,weight=2)"]
    result = I0TScorer(statistics=statistics, metrics=metrics).score(x, y)
    expected = functional.i0t_score(x, y, mx, my)
    np.testing.assert_allclose(result["I0TScore"].values, expected, atol=1e-6)
    np.testing.assert_allclose(result["CLIPScore"].values, functional.clip_score(x, y), atol=1e-6)
    np.testing.assert_allclose(result["DNScore"].values, functional.dn_score(x, y, mx, my), atol=1e-6)
    np.testing.assert_allclose(result["I0TScore(clip=yes,weight=2)"].values, 2 * expected.clip(0), atol=1e-6)


def test_reference_metrics_of_embeddings_are_the_functional_ones() -> None:
    x, y = _pairs(60)
    rng = np.random.default_rng(9)
    refs = [y[i] + rng.normal(size=(1 + i % 3, y.shape[1])) for i in range(60)]
    statistics = fit(x, y)
    mx, my = statistics.image.mean, statistics.caption.mean
    result = I0TScorer(statistics=statistics).score(x, y, references=refs)
    assert list(result) == ["I0TScore", "CLIPScore", "RefI0TScore", "RefCLIPScore"]
    np.testing.assert_allclose(result["RefI0TScore"].values, functional.ref_i0t_score(x, y, refs, mx, my), atol=1e-6)
    np.testing.assert_allclose(result["RefCLIPScore"].values, functional.ref_clip_score(x, y, refs), atol=1e-6)
    # Every caption against every image with that image's references, counted the slow way.
    for i in (0, 7, 31):
        table = functional.ref_i0t_score(np.repeat(x[i : i + 1], 60, 0), y, [refs[i]] * 60, mx, my)
        rank = 1 + int((table > table[i] + 1e-6).sum())
        assert result.samples[i].scores["RefI0TScore"].rank == (rank, 60)


def test_ranks_count_distinct_captions_that_score_higher() -> None:
    x, y = _pairs(50)
    result = clip_score(x, y)
    table = normalize(x) @ normalize(y).T
    expected = 1 + (table > np.diag(table)[:, None] + 1e-6).sum(1)
    np.testing.assert_array_equal(result["CLIPScore"].rank, expected)


def test_statistics_auto_needs_32_samples_and_says_how_to_fit() -> None:
    x, y = _pairs(31)
    with pytest.raises(StatisticsError, match=r"31 images are too few.*i0tscore fit"):
        i0t_score(x, y)
    assert clip_score(x, y).n == 31, "CLIPScore needs no statistics"
    with pytest.warns(UserWarning, match="remaining gap of about 0."):
        result = i0t_score(x, y, statistics="batch")
    assert any("31 scored images" in note for note in result.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert i0t_score(*_pairs(128)).n == 128


def test_two_samples_under_batch_statistics_always_score_the_same() -> None:
    with pytest.warns(UserWarning, match="2 scored images"):
        result = i0t_score(*_pairs(2), statistics="batch")
    assert result["I0TScore"].values[0] == pytest.approx(result["I0TScore"].values[1], abs=1e-5)


def test_a_collapsed_captioner_gets_null_with_a_reason() -> None:
    x, y = _pairs(200)
    result = i0t_score(x, np.repeat(y[:1], 200, axis=0), statistics="batch")
    assert result["I0TScore"].mean is None
    assert result.samples[3].scores["I0TScore"].value is None
    assert "equals its reference mean" in result.samples[3].notes[0]
    assert "NaN" not in result.to_json()


def test_statistics_of_another_dimension_or_name_are_refused(tmp_path) -> None:
    fit(*_pairs(50, d=8)).save(tmp_path / "s.safetensors")
    with pytest.raises(StatisticsError, match="8 dimensions, the embeddings 24"):
        i0t_score(*_pairs(50), statistics=tmp_path / "s.safetensors")
    with pytest.raises(StatisticsError, match="unknown encoder"):
        i0t_score(*_pairs(50), statistics="builtin")


def test_update_and_compute_equal_one_score() -> None:
    x, y = _pairs(90)
    scorer = I0TScorer(statistics="batch")
    for rows in (slice(0, 20), slice(20, 50), slice(50, 90)):
        scorer.update(x[rows], y[rows])
    with pytest.warns(UserWarning, match="90 scored"):
        streamed, whole = scorer.compute(), scorer.score(x, y)
    np.testing.assert_allclose(streamed["I0TScore"].values, whole["I0TScore"].values, atol=1e-6)
    assert streamed.ids == whole.ids
    np.testing.assert_array_equal(streamed["CLIPScore"].rank, whole["CLIPScore"].rank)
    scorer.reset()
    with pytest.raises(InputError, match="Nothing to compute"):
        scorer.compute()


def test_equal_rows_of_embeddings_are_one_image() -> None:
    x, y = _pairs(40)
    repeated = clip_score(np.repeat(x, 5, axis=0), np.repeat(y, 5, axis=0))["CLIPScore"]
    assert repeated.rank_of == 40
    assert repeated.interval == pytest.approx(clip_score(x, y)["CLIPScore"].interval, abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "said"),
    [("I0TScore(std=nnn)", "only compares images with captions"), ("RefI0TScore", "needs references")],
)
def test_similarity_within_a_modality_refuses_what_says_nothing_there(metric: str, said: str) -> None:
    items = np.eye(3, dtype=np.float32)
    with pytest.raises(UsageError, match=said):
        I0TScorer().similarity(items, items, kinds=("caption", "caption"), metric=metric)


def test_similarity_puts_all_kinds_on_one_scale() -> None:
    x, y = _pairs(200)
    statistics = fit(x, y)
    scorer = I0TScorer(statistics=statistics)
    cross = scorer.similarity(x[:5], y[:7])
    assert cross.shape == (5, 7)
    np.testing.assert_allclose(np.diag(cross[:, :5]), scorer.score(x, y)["I0TScore"].values[:5], atol=1e-6)
    texts = scorer.similarity(y[:4], y[:4], kinds=("caption", "caption"))
    np.testing.assert_allclose(np.diag(texts), 1, atol=1e-5)
    with pytest.raises(StatisticsError, match="fixed statistics"):
        I0TScorer(statistics="auto").similarity(x, y)


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (np.ones((3, 4)), np.ones((2, 4)), "got 3 images and 2 captions"),
        (np.ones((3, 4)), np.ones((3, 5)), "the same number of dimensions, got 4 and 5"),
        (np.full((3, 4), np.nan), np.ones((3, 4)), "NaN"),
        (np.zeros((3, 4)), np.ones((3, 4)), "Embedding 0 is all zeros"),
        (np.ones((1, 4)), "a dog", "one string"),
        ("photo.jpg", ["a dog"], "list of images, got one string"),
    ],
)
def test_bad_input_is_named(images, captions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        clip_score(images, captions)


@pytest.mark.parametrize(
    "options", [{"preset": "best"}, {"confidence": 1.5}, {"long_captions": "drop"}, {"on_error": "ignore"}]
)
def test_bad_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        I0TScorer(**options)


def test_any_setting_that_changes_a_number_shows_in_the_signature() -> None:
    x, y = _pairs(150)
    base = I0TScorer(statistics="batch").score(x, y)["I0TScore"].signature
    variants = [
        I0TScorer(statistics=fit(x[:99], y[:99])).score(x, y)["I0TScore"].signature,
        I0TScorer(statistics="batch", seed=1).score(x, y)["I0TScore"].signature,
        I0TScorer(statistics="batch").score(x[1:], y[1:])["I0TScore"].signature,
        I0TScorer(statistics="batch", metrics=["I0TScore(clip=yes)"]).score(x, y)["I0TScore(clip=yes)"].signature,
    ]
    assert len({str(s) for s in [base, *variants]}) == len(variants) + 1


def test_fitted_statistics_give_percentiles_and_calibrated_odds() -> None:
    x, y = _pairs(2000, d=64)
    statistics = fit(x[:1000], y[:1000], name="half")
    assert isinstance(statistics, Statistics)
    result = i0t_score(x[1000:], y[1000:], statistics=statistics)["I0TScore"]
    assert np.median(result.percentile_matched) == pytest.approx(50, abs=6)
    assert np.mean(result.percentile_mismatched) > 95
    assert np.mean(result.p_match) > 0.9
    assert "stats:half-" in str(result.signature)


def test_percentiles_under_standardizers_without_a_distribution_are_null_with_the_reason() -> None:
    x, y = _pairs(200)
    statistics = fit(x, y, name="known")
    result = I0TScorer(statistics=statistics, metrics=["I0TScore", "DNScore(lambda=0.5)"]).score(x, y)
    assert result["I0TScore"].percentile_matched is not None
    assert result["DNScore(lambda=0.5)"].percentile_matched is None
    assert [note for note in result.notes if "no reference distribution" in note] == [
        "Percentiles and p_match are null: statistics 'known' have no reference distribution for dn(0.5)."
    ]


def test_any_metric_takes_any_standardizer() -> None:
    x, y = _pairs(150)
    statistics = fit(x, y)
    assert Metric.parse("I0TScore(std=post)") == Metric.parse("I0TScore")
    names = ["CLIPScore(clip=no,std=shift(0.5),weight=1)", "CLIPScore(clip=no,std=clip(0.1),weight=1)"]
    result = I0TScorer(statistics=statistics, metrics=names).score(x, y)
    mx, my = statistics.image.mean, statistics.caption.mean
    g = 0.5 * (mx - my) / np.linalg.norm(mx - my)
    shifted = dot(normalize(normalize(x) - g), normalize(normalize(y) + g))
    clipped = dot(*(normalize(normalize(v).clip(-0.1, 0.1)) for v in (x, y)))
    np.testing.assert_allclose(result[names[0]].values, shifted, atol=1e-6)
    np.testing.assert_allclose(result[names[1]].values, clipped, atol=1e-6)
    assert result[names[1]].signature["stats"] == "none", "clipping uses no statistics"


def test_the_async_metric_uses_the_normalization_and_its_signature_shows_it() -> None:
    x, y = _pairs(150)
    rng = np.random.default_rng(3)
    pair = tuple(
        Normalization(rng.normal(size=24), rng.uniform(0.5, 1, 24), np.ones(24), rng.normal(size=24)) for _ in range(2)
    )
    plain = fit(x, y)
    first, second = (plain.with_fitted(normalization=NormalizationPair(*n)) for n in (pair, pair[::-1]))
    scores = {
        id(s): I0TScorer(statistics=s, metrics=["AsyncI0TScore", "I0TScore"]).score(x, y) for s in (first, second)
    }
    one, two = scores.values()
    expected = dot(pair[0](normalize(x)), pair[1](normalize(y)))
    np.testing.assert_allclose(one["AsyncI0TScore"].values, expected, atol=1e-6)
    assert one["AsyncI0TScore"].signature["std"] == "async"
    assert one["AsyncI0TScore"].signature["stats"] != two["AsyncI0TScore"].signature["stats"]
    assert one["I0TScore"].signature == two["I0TScore"].signature
    with pytest.raises(StatisticsError, match="--method async"):
        I0TScorer(statistics=plain, metrics=["AsyncI0TScore"]).score(x, y)


def test_repeated_images_do_not_count_as_many_for_their_own_statistics() -> None:
    x, y = _pairs(10)
    with pytest.raises(StatisticsError, match="10 images are too few"):
        i0t_score(np.repeat(x, 6, axis=0), np.repeat(y, 6, axis=0))


def test_captions_that_are_all_alike_cannot_be_fitted() -> None:
    x, y = _pairs(40)
    with pytest.raises(StatisticsError, match="identical"):
        fit(x, np.repeat(y[:1], 40, axis=0))


def test_one_metric_may_be_given_by_itself_and_nothing_is_not_scored() -> None:
    x, y = _pairs(40)
    assert list(I0TScorer(metrics="CLIPScore", statistics="batch").score(x, y)) == ["CLIPScore"]
    with pytest.raises(InputError, match=r"(?i)nothing to score"):
        clip_score(x[:0], y[:0])


def test_signatures_of_embeddings_identify_them_and_claim_nothing_else() -> None:
    x, y = _pairs(150)
    first, second = (clip_score(x, captions)["CLIPScore"].signature for captions in (y, y[::-1]))
    assert first["w"] != second["w"]
    assert not {"prefix", "prec", "long"} & {key for key, _ in first.fields}


def test_statistics_of_a_named_encoder_are_used_for_unknown_embeddings_with_a_warning() -> None:
    x, y = _pairs(150)
    named = replace(fit(x, y), encoder="lite", space="abc")
    with pytest.warns(UserWarning, match="of lite are used for embeddings of an unknown encoder"):
        result = i0t_score(x, y, statistics=named)
    assert any("cannot be checked" in note for note in result.notes)


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (np.ones((5, 8)), np.ones((5, 9)), r"\(5, 8\) and \(5, 9\)"),
        (np.ones((5, 8)), np.ones((1, 8)), r"\(5, 8\) and \(1, 8\)"),
        ([[1.0]], [[1.0]], "list and list"),
    ],
)
def test_formulas_refuse_what_is_not_pairs(images, captions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        functional.clip_score(images, captions)


CONTEXTUAL = ["I0TScore", "ContextI0TScore", "ContextI0TScore(context_rule=mean)"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(4, 40), places=st.integers(2, 6))
def test_scores_by_context_are_the_written_formula_with_ranks_and_gaps(seed: int, n: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = _pairs(n, seed=seed)
    vectors, own = rng.normal(size=(places, x.shape[1])) + 0.5, rng.integers(0, places, n)
    statistics = fit(*_pairs(seed=seed + 1))
    result = I0TScorer(statistics=statistics, metrics=CONTEXTUAL, resamples=0).score(x, y, contexts=vectors[own])
    means = statistics.image.mean, statistics.caption.mean
    image, text, place = (normalize(normalize(v) - m) for v, m in ((x, means[0]), (y, means[1]), (vectors, means[1])))
    by_image, by_place = image @ text.T, place[own] @ text.T
    for name, scores in zip(CONTEXTUAL, (by_image, by_place, (by_image + by_place) / 2), strict=True):
        values = np.diagonal(scores)
        np.testing.assert_allclose(result[name].values, values, atol=1e-6)
        np.testing.assert_array_equal(result[name].rank, 1 + (scores > values[:, None] + 1e-6).sum(axis=1))
    np.testing.assert_allclose(
        functional.context_i0t_score(y, vectors[own], means[1]), np.diagonal(by_place), atol=1e-6
    )


def test_scores_by_context_do_not_depend_on_the_order_or_the_batches_and_are_null_without_a_context() -> None:
    x, y = _pairs(60)
    places = normalize(y + np.random.default_rng(3).normal(size=y.shape))
    scorer = I0TScorer(statistics=fit(x, y, contexts=places), metrics=CONTEXTUAL, resamples=0)
    whole, order = scorer.score(x, y, contexts=places), np.random.default_rng(0).permutation(60)
    shuffled = scorer.score(x[order], y[order], contexts=places[order])
    for rows in (slice(0, 20), slice(20, 50)):
        scorer.update(x[rows], y[rows], contexts=places[rows])
    scorer.update(x[50:], y[50:])  # no contexts
    parts = scorer.compute()
    for name in CONTEXTUAL:
        np.testing.assert_array_equal(shuffled[name].values, whole[name].values[order])
        have = 60 if name == "I0TScore" else 50
        np.testing.assert_array_equal(parts[name].values[:have], whole[name].values[:have])
        assert np.isnan(parts[name].values[have:]).all()
        assert (parts[name].rank[have:] == 0).all()
        np.testing.assert_array_equal(parts[name].p_match[:have], whole[name].p_match[:have])
    assert parts.samples[49].notes == ()
    assert parts.samples[50].notes == ("no score by context: the sample has no context",)


def test_percentiles_by_context_compare_own_contexts_with_those_of_other_images_and_texts(tmp_path) -> None:
    x, y = _pairs(400)
    own = np.arange(400) % 50
    places = normalize(np.random.default_rng(3).normal(size=(50, y.shape[1])))[own]  # unrelated to the captions
    fit(x, y, contexts=places).save(tmp_path / "s.safetensors")
    scorer = I0TScorer(statistics=tmp_path / "s.safetensors", metrics=CONTEXTUAL, resamples=0)
    result = scorer.score(x, y, contexts=places)
    assert np.abs(result["ContextI0TScore"].p_match - 0.5).max() < 0.1  # nothing to tell the pairs apart by
    assert result["I0TScore"].p_match.mean() > 0.7
    for metric in result.values():
        assert metric.percentile_matched.mean() == pytest.approx(50, abs=1)
    without = I0TScorer(statistics=fit(x, y), metrics=CONTEXTUAL, resamples=0).score(x, y, contexts=places)
    assert without["ContextI0TScore"].p_match is None
    assert without["I0TScore"].p_match is not None
    assert "have no reference distribution of contexts" in " ".join(without.notes)
    with pytest.warns(UserWarning, match="Expected at least 2 different contexts, got 1"):
        assert not [key for key in fit(x, y, contexts=places[:1].repeat(400, axis=0)).reference if "context" in key]


def test_contexts_that_cannot_be_used_are_refused() -> None:
    x, y = _pairs(40)
    scorer = I0TScorer(metrics="ContextI0TScore")
    with pytest.raises(InputError, match="ContextI0TScore needs contexts, but none were given"):
        scorer.score(x, y)
    with pytest.raises(InputError, match="as many contexts as captions, got 3 contexts and 40 captions"):
        scorer.score(x, y, contexts=["one"] * 3)
    with pytest.raises(InputError, match="the context is int, not a string"):
        scorer.score(x, y, contexts=[None] * 39 + [3])
    with pytest.raises(InputError, match="Expected contexts with 24 dimensions like the images, got 3"):
        scorer.score(x, y, contexts=np.ones((40, 3)))
    with pytest.raises(UsageError, match="needs references or contexts"):
        scorer.similarity(x, y, metric="ContextI0TScore")
