"""How well statistics fit a run: the figures, the rule, and where they are shown."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from examples_on_disk import ROOT

from i0tscore import I0TScorer, i0t_score
from i0tscore.gap import POST, Moments, Statistics, normalize
from i0tscore.results.statistics_fit import StatisticsFit
from i0tscore.views.score_view import score_document

POPULATION = np.random.default_rng(7).normal(size=(2, 24, 24)) / 5


def _draw(rng: np.random.Generator, n: int, captions: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of n images, ``captions`` for each, from one population with a gap and unequal variances."""
    meaning = rng.normal(size=(n, 24)) @ POPULATION[0]
    image = normalize(meaning + rng.normal(size=(n, 24)) @ POPULATION[1] + 0.4)
    caption = np.repeat(meaning, captions, 0) + rng.normal(size=(n * captions, 24)) @ POPULATION[1]
    return np.repeat(image, captions, 0).astype(np.float32), normalize(caption - 0.4).astype(np.float32)


def _fitted(images, captions) -> Statistics:
    return I0TScorer().fit(images, captions, name="own", reference=False)


def _fit_of(images, captions, statistics: Statistics) -> StatisticsFit:
    scorer = I0TScorer(statistics=statistics, resamples=0, ranks=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return scorer.score(images, captions).statistics_fit


def _moved(statistics: Statistics, image: np.ndarray | float, caption: np.ndarray | float) -> Statistics:
    """The same statistics with other means."""

    def move(moments: Moments, by: np.ndarray | float) -> Moments:
        return replace(moments, mean=moments.mean + by)

    return replace(statistics, image=move(statistics.image, image), caption=move(statistics.caption, caption))


@pytest.fixture(scope="module")
def own() -> Statistics:
    return _fitted(*_draw(np.random.default_rng(1), 3000))


def test_the_figures_are_those_of_all_pairs_written_out(own) -> None:
    rng = np.random.default_rng(0)
    x, y = _draw(rng, 30, captions=2)
    y[[3, 4, 17]] = y[40]  # one caption of several images
    scorer = I0TScorer(statistics=own)
    run = scorer.encode(x, y)
    run.images[5] = own.image.mean  # no direction left
    found = scorer.evaluate(run).statistics_fit
    pairs_of_run = own.standardize(POST, *run.pairs)
    keep = run.image_index != 5
    images, captions = (side[keep] for side in pairs_of_run)
    distinct = [np.unique(v, axis=0) for v in (images, captions)]
    assert found.centroid_distance == pytest.approx(np.linalg.norm(distinct[0].mean(0) - distinct[1].mean(0)), abs=1e-5)
    pairs = {(a.tobytes(), b.tobytes()) for a, b in zip(images, captions, strict=True)}
    scores = [a @ b for a in distinct[0] for b in distinct[1] if (a.tobytes(), b.tobytes()) not in pairs]
    assert found.mismatched == pytest.approx(np.mean(scores), abs=1e-5)


@pytest.mark.parametrize(("n", "captions", "fitted"), [(40, 1, 4000), (40, 5, 4000), (60, 1, 60), (12, 2, 4000)])
def test_what_sampling_leaves_is_what_samples_leave(n: int, captions: int, fitted: int) -> None:
    rng = np.random.default_rng(n + captions)
    shared = _fitted(*_draw(rng, fitted))
    found = [
        _fit_of(*_draw(rng, n, captions), shared if fitted > n else _fitted(*_draw(rng, fitted))) for _ in range(300)
    ]
    distance = np.sqrt(np.mean([one.centroid_distance**2 for one in found]))
    assert distance == pytest.approx(np.sqrt(np.mean([one.expected_distance**2 for one in found])), rel=0.08)
    mismatched = np.array([one.mismatched for one in found])
    error = np.sqrt(np.mean([one.mismatched_error**2 for one in found]))
    assert 0.6 * error <= mismatched.std() <= 1.15 * error
    assert mismatched.mean() == pytest.approx(np.mean([one.expected_mismatched for one in found]), abs=0.25 * error)
    assert sum(not one.fits for one in found) <= 2


def test_a_difference_must_be_beyond_chance_and_large_enough_to_matter(own) -> None:
    rng = np.random.default_rng(3)
    large, small = _draw(rng, 4000), _draw(rng, 8)
    slightly, far = _moved(own, 0.015, -0.015), _moved(own, 0.1, -0.1)
    found = _fit_of(*large, slightly)
    assert 3 * found.expected_distance < found.centroid_distance < 0.19
    assert found.fits, "certain, but too small to matter"
    assert not _fit_of(*large, far).fits
    assert _fit_of(*small, own).centroid_distance > 0.19
    assert _fit_of(*small, own).fits, "large, but no larger than chance"


def test_a_topic_that_moves_both_modalities_alike_is_found(own) -> None:
    moved = _fit_of(*_draw(np.random.default_rng(4), 500), _moved(own, -0.4 * np.eye(24)[0], -0.4 * np.eye(24)[0]))
    assert moved.centroid_distance < 0.19
    assert moved.mismatched > 0.1
    assert not moved.fits
    assert "A score near 0 does not mean" in moved.notes[-1]


def test_captions_that_move_alone_leave_mismatched_pairs_near_0(own) -> None:
    moved = _fit_of(*_draw(np.random.default_rng(4), 500), _moved(own, 0.0, -0.4 * np.eye(24)[0]))
    assert moved.centroid_distance > 0.19
    assert abs(moved.mismatched) < 0.05
    assert not moved.fits
    assert "Percentiles and p(match) are not valid" in moved.notes[-1]
    assert "near 0" not in moved.notes[-1]


def test_fewer_than_two_images_and_statistics_of_the_run_have_no_fit(own) -> None:
    x, y = _draw(np.random.default_rng(5), 150)
    assert _fit_of(x[:1], y[:1], own) is None
    assert i0t_score(x, y, statistics="batch").to_dict()["statistics_fit"] is None
    everything = np.repeat(x[:3], 3, 0), np.tile(y[:3], (3, 1))
    assert _fit_of(*everything, own).mismatched is None, "every image has every caption"


def test_a_misfit_is_warned_of_once_and_shown_wherever_percentiles_are(own) -> None:
    rng = np.random.default_rng(6)
    x, y = _draw(rng, 300)
    held_out = _moved(own, 0.1, -0.1).with_reference(*_draw(rng, 300))
    scorer = I0TScorer(statistics=replace(held_out, name="elsewhere"))
    with pytest.warns(
        UserWarning, match=r"'elsewhere' do not fit this run: the modality gap under post is .*`i0tscore fit"
    ) as seen:
        result, _ = [scorer.score(x, y) for _ in range(2)]
    assert len(seen) == 1
    assert sum("A score near 0 does not mean that" in note for note in result.notes) == 1
    notes = result.select("I0TScore > 0").notes
    assert [note for note in notes if "do not fit this run" in note] == [notes[0]], "with advice for a filter"
    assert any(note.startswith("Fit of the statistics") for note in notes)
    assert "p(match)*" in result.sample_table().header
    assert {"matched pairs*", "mismatched pairs*"} <= set(result.summary_table().header)
    text = str(score_document(result))
    assert "* Matched and mismatched pairs" in text
    assert "<strong>All of these, and percentiles, do not" in result.to_html()
    data = json.loads(result.to_json())
    jsonschema.validate(data, json.loads((ROOT / "docs/reference/result.schema.json").read_text()))
    assert data["statistics_fit"]["fits"] is False
    assert data["statistics_fit"]["statistics"] == "elsewhere"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitting = i0t_score(x, y, statistics=own.with_reference(*_draw(rng, 300)))
    assert fitting.statistics_fit.fits
    assert any("fit this run: the modality gap" in note for note in fitting.notes)
    assert "p(match)" in fitting.sample_table().header
    assert "do not" not in " ".join(fitting.notes)
    assert "<strong>All of these" not in fitting.to_html()


@pytest.mark.data
def test_means_of_another_corpus_do_not_fit_real_clip_embeddings_and_their_own_do(data_dir) -> None:
    folder = data_dir / "clip_vitb32_model_captions"
    x, y = (np.load(folder / f"{kind}_embeddings.npy") for kind in ("image", "caption"))
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        rows = rng.permutation(len(x))
        alarms += not _fit_of(x[rows[145:]], y[rows[145:]], _fitted(x[rows[:145]], y[rows[:145]])).fits
    assert alarms == 0
    means = np.load(data_dir / "clip_means" / "means.npz")
    foreign = _fitted(x, y)
    moments = (
        Moments(10_000, means[f"cc12m_prefix_{kind}_vitb32"].astype(np.float64), covariance)
        for kind, covariance in (("image", foreign.image.covariance), ("text", foreign.caption.covariance))
    )
    foreign = replace(foreign, **dict(zip(("image", "caption"), moments, strict=True)))
    for n in (20, 50, 290):
        found = _fit_of(x[:n], y[:n], foreign)
        assert not found.fits
        assert found.centroid_distance > 0.5
