"""What the study of standardizers tries."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from i0tscore.gap import Moments, Normalization, NormalizationPair, Statistics, normalize
from i0tscore.gap.standardizers import HubnessBank, all_standardizers
from studies import standardizers
from studies.standardizers import RatedVectors, all_conditions, residual_gap, score_variants


@pytest.fixture
def rated() -> RatedVectors:
    x, y, z = normalize(np.random.default_rng(0).normal(size=(3, 20, 6)).astype(np.float32))
    return RatedVectors(x, y, [np.array([i]) for i in range(20)], z, x, np.arange(20)[:, None])


def test_the_study_tries_whatever_is_in_the_table(rated, monkeypatch):
    shipped = Statistics("shipped", "toy", "", "", Moments.of(rated.x), Moments.of(rated.y))
    plain = Normalization(np.zeros(6), np.ones(6), np.ones(6), np.zeros(6))
    with_bank = shipped.with_fitted(
        normalization=NormalizationPair(plain, plain), bank=HubnessBank.sample(rated.x, rated.y, 9)
    )
    monkeypatch.setattr(standardizers, "_train_sample", lambda *_: shipped)
    encoder = SimpleNamespace(fingerprint=None)
    for statistics, left_out in ((shipped, {"async", "nnn"}), (with_bank, {"nnn"})):
        monkeypatch.setattr(standardizers, "builtin_statistics", lambda _, s=statistics: s)
        with pytest.warns(UserWarning, match="is left out") as said:
            conditions = list(all_conditions(encoder, rated, Path()))
        assert {str(w.message).split(" ")[0].split("(")[0] for w in said} == left_out
        expected = {s for s in all_standardizers() if s.name not in left_out}
        assert {c.standardizer for c in conditions} == expected
        assert len({c.name for c in conditions}) == len(conditions)
    for condition in conditions:
        assert np.isfinite(residual_gap(condition, rated))
        assert all(np.isfinite(v).all() for v in score_variants(condition, rated).values())
