"""Retrieval measures compared with torchmetrics and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_r_precision,
)

from i0tscore.results import Resampling, retrieval
from i0tscore.results.retrieval import LABEL_MEASURES, cross_modal_ranks, retrieve_by_label
from studies.recall import recall


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def positive(similarity: np.ndarray) -> torch.Tensor:
    """Return the same order without negative numbers: torchmetrics treats scores of 0 or less as irrelevant."""
    return torch.from_numpy(similarity - similarity.min() + 1)


@given(st.integers(2, 7), st.sampled_from([1, 5]), st.integers(0, 1000))
def test_recall_matches_sorting(images: int, each: int, seed: int) -> None:
    x, y = normal(images, 3, seed=seed), normal(images * each, 3, seed=seed + 1)
    forth, back = recall(x, y, (1, 2))
    order = np.argsort(-(x @ y.T), axis=1)
    own = np.repeat(np.arange(images), each)
    best = np.argsort(-(y @ x.T), axis=1)
    for k, depth in enumerate((1, 2)):
        hits = [i in own[order[i, :depth]] for i in range(images)]
        assert forth[k] == pytest.approx(100 * np.mean(hits))
        assert back[k] == pytest.approx(100 * np.mean([own[j] in best[j, :depth] for j in range(len(y))]))


def test_recall_is_torchmetrics_hit_rate() -> None:
    x, y = normal(30, 8), normal(150, 8, seed=1) + np.repeat(normal(30, 8), 5, axis=0)
    ranks = cross_modal_ranks(x, y)
    own = torch.arange(30).repeat_interleave(5)
    for depth in (1, 5, 10):
        found = ranks.recall(depth, Resampling(resamples=0))
        forth = [retrieval_hit_rate(positive(y @ x[i]), own == i, depth) for i in range(30)]
        back = [retrieval_hit_rate(positive(x @ y[j]), torch.arange(30) == own[j], depth) for j in range(150)]
        assert found.to_caption.value == pytest.approx(torch.stack(forth).mean().item(), abs=1e-6)
        assert found.to_image.value == pytest.approx(torch.stack(back).mean().item(), abs=1e-6)


def test_embeddings_that_collapsed_find_nothing() -> None:
    same = np.ones((6, 4))
    assert recall(same, same) == ([0.0, 0.0, 100.0], [0.0, 0.0, 100.0])
    found = retrieve_by_label(same, same, list("aabbcc"), list("aabbcc"), own=np.arange(6))
    np.testing.assert_array_equal(found.values["R@1"], 0)
    np.testing.assert_allclose(found.values["mAP"], 1 / 5)


def test_undefined_embeddings_are_ranked_last_and_find_nothing() -> None:
    x, y = np.eye(3), np.eye(3)
    y[1] = np.nan
    ranks = cross_modal_ranks(x, y)
    assert ranks.to_caption.tolist() == [0, 2, 0]
    assert ranks.to_image.tolist() == [0, 2, 0]


def test_every_image_needs_equally_many_captions() -> None:
    with pytest.raises(ValueError, match="same number of captions for every image, got 5 captions and 2 images"):
        cross_modal_ranks(np.eye(2), np.eye(2)[[0, 0, 1, 1, 1]])


def test_intervals_resample_images_with_their_captions() -> None:
    # Captions of one image are alike: with images as clusters 100 captions tell as little as 20.
    hits = np.repeat(np.arange(20) % 2, 5) * 3
    ranks = retrieval.CrossModalRanks(np.arange(20) % 2 * 3, hits)
    found = ranks.recall(1)
    assert found.to_image.value == found.to_caption.value == 0.5
    assert found.to_image.interval == pytest.approx(found.to_caption.interval)


@pytest.fixture
def labelled():
    return normal(60, 6, seed=3), np.random.default_rng(4).integers(0, 7, 60)


def test_label_measures_match_other_implementations(labelled) -> None:
    items, labels = labelled
    found = retrieve_by_label(items, items, labels, labels, own=np.arange(60))
    assert not found.left_out
    for i in range(60):
        others = np.arange(60) != i
        similarity, relevant = (items @ items[i])[others], (labels == labels[i])[others]
        scores, truth = positive(similarity), torch.from_numpy(relevant)
        expected = retrieval_average_precision(scores, truth).item()
        assert found.values["mAP"][i] == pytest.approx(expected, abs=1e-6)
        r_precision = retrieval_r_precision(scores, truth).item()
        assert found.values["R-precision"][i] == pytest.approx(r_precision, abs=1e-6)
        assert found.values["R@1"][i] == retrieval_hit_rate(scores, truth, 1).item()
        ranked = relevant[np.argsort(-similarity)]
        total = ranked.sum()
        at_r = sum(ranked[: k + 1].mean() for k in range(total) if ranked[k]) / total
        assert found.values["mAP@R"][i] == pytest.approx(at_r, abs=1e-6)


def test_every_item_of_another_gallery_is_searched(labelled) -> None:
    items, labels = labelled
    found = retrieve_by_label(items[:10], items[10:], labels[:10], labels[10:])
    for i in range(10):
        scores, truth = positive(items[10:] @ items[i]), torch.from_numpy(labels[10:] == labels[i])
        expected = retrieval_average_precision(scores, truth).item()
        assert found.values["mAP"][i] == pytest.approx(expected, abs=1e-6)


def test_small_chunks_change_nothing(labelled, monkeypatch) -> None:
    items, labels = labelled
    whole = retrieve_by_label(items, items, labels, labels, own=np.arange(60))
    ranks = cross_modal_ranks(items[:20], items[20:])
    monkeypatch.setattr(retrieval, "_CELLS", 130)
    parts = retrieve_by_label(items, items, labels, labels, own=np.arange(60))
    for name in LABEL_MEASURES:
        np.testing.assert_allclose(parts.values[name], whole.values[name])
    np.testing.assert_array_equal(cross_modal_ranks(items[:20], items[20:]).to_caption, ranks.to_caption)
    np.testing.assert_array_equal(cross_modal_ranks(items[:20], items[20:]).to_image, ranks.to_image)


def test_queries_without_relevant_items_are_left_out_and_counted() -> None:
    items = np.eye(4) + 0.1
    found = retrieve_by_label(items, items, ["a", "a", "b", "c"], ["a", "a", "b", "c"], own=np.arange(4))
    assert found.left_out == 2
    estimates = found.estimates(resampling=Resampling(resamples=0))
    assert estimates["mAP"].value == pytest.approx(np.nanmean(found.values["mAP"]))
    alone = retrieve_by_label(items[:1], items, ["x"], list("aabc"))
    assert alone.estimates()["R@1"].value is None
    counted = retrieve_by_label(items, items, ["a", "a", "b", "c"], ["a", "a", "b", "c"], own=np.arange(4), unmatched=0)
    assert counted.left_out == 0
    assert counted.estimates()["mAP"].value == pytest.approx(found.values["mAP"][:2].sum() / 4)


def test_every_item_needs_a_label() -> None:
    with pytest.raises(ValueError, match="got 1 labels for 2 queries"):
        retrieve_by_label(np.eye(2), np.eye(2), ["a"], ["a", "b"])


def test_intervals_of_label_measures_contain_their_mean(labelled) -> None:
    items, labels = labelled
    found = retrieve_by_label(items, items, labels, labels, own=np.arange(60))
    for estimate in found.estimates(clusters=np.arange(60) // 2).values():
        low, high = estimate.interval
        assert low < estimate.value < high
