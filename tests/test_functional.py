"""The formulas against themselves written out, on numpy and torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from i0tscore.errors import InputError
from i0tscore.gap import POST, Moments, Statistics, centroid_distance, normalize
from i0tscore.metrics import functional


def _pairs(seed: int, n: int = 40, d: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, d))
    x = shared + rng.normal(size=(n, d)) + 2.0
    y = shared + rng.normal(size=(n, d)) - 1.0
    return x.astype(np.float32), y.astype(np.float32)


def _unit(v: np.ndarray) -> np.ndarray:
    v = v.astype(np.float64)
    return v / np.sqrt((v**2).sum(-1, keepdims=True))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_clip_score_is_the_written_formula(kind: str) -> None:
    x, y = _pairs(0)
    expected = [2.5 * max(float(a @ b), 0.0) for a, b in zip(_unit(x), _unit(y), strict=True)]
    given_x, given_y = (x, y) if kind == "numpy" else (torch.tensor(x), torch.tensor(y))
    score = functional.clip_score(given_x, given_y)
    assert type(score) is type(given_x)
    np.testing.assert_allclose(np.asarray(score), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_ref_clip_score_is_the_written_formula(kind: str) -> None:
    x, y = _pairs(1)
    rng = np.random.default_rng(2)
    refs = [rng.normal(size=(1 + i % 4, x.shape[1])).astype(np.float32) for i in range(len(x))]
    expected = []
    for a, b, r in zip(_unit(x), _unit(y), refs, strict=True):
        clip, ref = 2.5 * max(float(a @ b), 0), max(float((_unit(r) @ b).max()), 0)
        expected.append(2 * clip * ref / (clip + ref) if clip + ref else 0.0)
    if kind == "torch":
        score = functional.ref_clip_score(torch.tensor(x), torch.tensor(y), [torch.tensor(r) for r in refs])
    else:
        score = functional.ref_clip_score(x, y, refs)
    np.testing.assert_allclose(np.asarray(score), expected, atol=1e-6)
    assert (np.asarray(score) == 0).any(), "the sample must hold a case where one side is clipped"


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_i0t_and_dn_scores_are_the_written_formulas(kind: str) -> None:
    x, y = _pairs(3)
    mx, my = _unit(x).mean(0), _unit(y).mean(0)
    centered = _unit(_unit(x) - mx), _unit(_unit(y) - my)
    i0t = (centered[0] * centered[1]).sum(1)
    dn = ((_unit(x) - 0.25 * mx) * (_unit(y) - 0.25 * my)).sum(1)
    if kind == "torch":
        x, y = torch.tensor(x), torch.tensor(y)
    np.testing.assert_allclose(np.asarray(functional.i0t_score(x, y, mx, my)), i0t, atol=1e-6)
    np.testing.assert_allclose(np.asarray(functional.dn_score(x, y, mx, my)), dn, atol=1e-6)


def test_ref_i0t_score_centres_each_side_once_and_obeys_its_rule() -> None:
    x, y = _pairs(4)
    mx, my = _unit(x).mean(0), _unit(y).mean(0)
    refs = np.stack([y + np.float32(0.5), -y], axis=1)
    a = (_unit(_unit(x) - mx) * _unit(_unit(y) - my)).sum(1)
    b = np.einsum("nrd,nd->nr", _unit(_unit(refs) - my), _unit(_unit(y) - my)).max(1)
    ca, cb = a.clip(0), b.clip(0)
    harmonic = np.divide(2 * ca * cb, ca + cb, out=np.zeros_like(ca), where=ca + cb > 0)
    np.testing.assert_allclose(functional.ref_i0t_score(x, y, refs, mx, my), harmonic, atol=1e-6)
    np.testing.assert_allclose(functional.ref_i0t_score(x, y, refs, mx, my, rule="mean"), (a + b) / 2, atol=1e-6)


@pytest.mark.parametrize(("references", "expected"), [([0.8], 0.8), ([0.8, 0.2], 0.5), ([0.1, 0.8, 0.6, 0.4], 0.6)])
def test_mean3_weighs_the_three_nearest_references_and_the_image_equally(
    references: list[float], expected: float
) -> None:
    caption = np.array([[1.0, 0.0]])
    vectors = np.array([[value, np.sqrt(1 - value**2)] for value in references])
    for kind in (np.asarray, torch.from_numpy):
        nearest = functional.reference_similarity(kind(caption), [kind(vectors)], "mean3")
        assert nearest == pytest.approx(expected)
        assert functional.combine_references(kind(np.array([0.2])), nearest, "mean3") == pytest.approx(
            0.05 + 0.75 * expected
        )


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_breakdown_adds_up_and_scores_do_not_depend_on_scale(seed: int, scale: float) -> None:
    x, y = (a.astype(np.float64) for a in _pairs(seed, n=12, d=8))
    mx, my = normalize(x).mean(0), normalize(y).mean(0)
    parts = functional.breakdown(x * scale, y, mx, my)
    total = parts.offset + parts.image_bias + parts.caption_bias + parts.semantic
    np.testing.assert_allclose(total, parts.cosine, atol=1e-9)
    score = parts.semantic / (parts.image_residual_norm * parts.caption_residual_norm)
    np.testing.assert_allclose(score, functional.i0t_score(x, y, mx, my), atol=1e-9)
    assert (np.abs(score) <= 1 + 1e-9).all()


def test_a_caption_equal_to_the_mean_has_no_score() -> None:
    x, y = _pairs(5)
    same = np.repeat(y[:1], len(y), axis=0)
    score = functional.i0t_score(x, same, normalize(x).mean(0), normalize(same).mean(0, dtype=np.float64))
    assert np.isnan(score).all()


def test_scores_are_differentiable_in_torch() -> None:
    x, y = (torch.tensor(a, requires_grad=True) for a in _pairs(6))
    mean = torch.full((x.shape[1],), 0.1)
    functional.ref_i0t_score(x, y, y.detach()[:, None] + 0.1, mean, -mean).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0


@pytest.mark.data
def test_real_clip_pairs_lose_their_gap_and_need_the_right_means(data_dir) -> None:
    images, texts = np.load(data_dir / "clip_vitb16_pairs" / "image_text_500.npy")
    x, y = normalize(images), normalize(texts)
    means = Statistics("t", "clip", "", "", Moments.of(x), Moments.of(y))
    swapped = Statistics("t", "clip", "", "", Moments.of(y), Moments.of(x))
    assert centroid_distance(x, y) == pytest.approx(0.8514, abs=1e-4)
    assert centroid_distance(*means.standardize(POST, x, y)) <= 0.03
    assert centroid_distance(*swapped.standardize(POST, x, y)) > 0.5
    direct = functional.i0t_score(images, texts, x.mean(0), y.mean(0))
    assert direct.mean() == pytest.approx(0.316, abs=5e-3)
    assert functional.i0t_score(images, texts, y.mean(0), x.mean(0)).mean() != pytest.approx(direct.mean(), abs=0.05)


def test_only_two_arrays_or_two_tensors_are_accepted() -> None:
    x = np.eye(3)
    frame, rows = pd.DataFrame(x), x.tolist()
    for images, captions in ((frame, frame), (rows, rows), (x, torch.eye(3)), (torch.eye(3), x)):
        with pytest.raises(InputError, match="Expected images and captions as two numpy arrays or two torch tensors"):
            functional.clip_score(images, captions)
    trained = torch.nn.Parameter(torch.eye(3))
    assert functional.clip_score(trained, torch.eye(3)).tolist() == [2.5] * 3
