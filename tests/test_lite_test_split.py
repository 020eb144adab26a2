"""What the shipped ``lite`` promises, on all of Flickr8k's test split: about two minutes of encoding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from i0tscore import I0TScorer
from i0tscore.gap import POST
from i0tscore.results.correlation import correlation
from i0tscore.results.statistics_fit import measure_fit
from studies.flickr8k import CAPTIONS_PER_IMAGE, read_split

PARTS = ("offset", "image_bias", "caption_bias", "semantic")


@pytest.fixture(scope="module")
def encoded(data_dir):
    """A scorer, and every caption with its own photograph, then with another one."""
    split = read_split(data_dir, "test")
    own = [image for image in split.images for _ in range(CAPTIONS_PER_IMAGE)]
    shift = CAPTIONS_PER_IMAGE * 317
    other = own[shift:] + own[:shift]
    scorer = I0TScorer("lite", statistics="builtin", resamples=0)
    return scorer, scorer.encode(own + other, [*split.captions, *split.captions])


@pytest.fixture(scope="module")
def scored(encoded):
    scorer, run = encoded
    return scorer.evaluate(run)


@pytest.mark.data
def test_the_parts_of_every_cosine_add_up(scored) -> None:
    total = sum(scored.breakdown[part] for part in PARTS)
    np.testing.assert_allclose(total, scored.breakdown["cosine"], atol=1e-6)
    norms = scored.breakdown["image_residual_norm"] * scored.breakdown["caption_residual_norm"]
    np.testing.assert_allclose(scored.breakdown["semantic"] / norms, scored["I0TScore"].values, atol=1e-5)
    np.testing.assert_allclose(2.5 * scored.breakdown["cosine"].clip(0), scored["CLIPScore"].values, atol=1e-5)


@pytest.mark.data
def test_there_is_a_gap_and_post_closes_it(scored) -> None:
    assert 0.7 <= scored.gap["none"] <= 0.9
    assert scored.gap["post"] <= 0.06


@pytest.mark.data
@pytest.mark.parametrize(("share", "least", "fits"), [(1.0, 3, True), (0.5, 20, False), (0.0, 20, False)])
def test_the_shipped_statistics_fit_any_part_of_the_split_and_shrunken_ones_fit_none(
    encoded, share: float, least: int, fits: bool
) -> None:
    scorer, run = encoded
    shipped = scorer.statistics
    image, caption = (replace(one, mean=share * one.mean) for one in (shipped.image, shipped.caption))
    statistics = replace(shipped, image=image, caption=caption)
    images, texts = statistics.standardize(POST, run.images, run.texts)
    owners, captions = run.image_index[: run.n // 2], run.text_index[: run.n // 2]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        size = int(rng.choice([n for n in (3, 10, 20, 50, 200) if n >= least]))
        rows = np.isin(owners, rng.choice(len(images), size, replace=False))
        rows &= np.arange(len(owners)) % CAPTIONS_PER_IMAGE < rng.integers(1, CAPTIONS_PER_IMAGE + 1)
        part = replace(run, images=images, texts=texts, image_index=owners[rows], text_index=captions[rows])
        found.append(measure_fit(part, statistics).fits)
    assert abs(sum(found) - 300 * fits) <= 2  # 0.6 false alarms are expected if both tests are exact


@pytest.mark.data
def test_matched_pairs_are_told_from_others(scored) -> None:
    truth = np.repeat([1, 0], scored.n // 2)
    for name in scored:
        assert correlation("auc", scored[name].values, truth) >= 0.97


@pytest.mark.data
def test_p_match_is_calibrated(scored) -> None:
    truth = np.repeat([1.0, 0.0], scored.n // 2)
    for name in scored:
        p = scored[name].p_match
        bins = np.minimum((p * 10).astype(int), 9)
        error = sum(abs((truth - p)[bins == b].sum()) for b in range(10)) / len(p)
        assert error <= 0.05


@pytest.mark.data
def test_the_first_caption_is_often_the_right_one(scored) -> None:
    # A caption is first for its photograph among all 5,000: for a third of photographs one of the five is.
    first = (scored["CLIPScore"].rank[: scored.n // 2] == 1).reshape(-1, CAPTIONS_PER_IMAGE).any(axis=1)
    assert first.mean() >= 0.30
