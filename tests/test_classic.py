"""The classic metrics through pycocoevalcap."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from i0tscore.errors import InputError, MissingExtraError, UsageError
from i0tscore.metrics import classic
from i0tscore.metrics.classic import CLASSIC_METRICS, classic_scores
from i0tscore.results.correlation import correlation
from i0tscore.samples.flickr8k import read_flickr8k_expert

JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
WITHOUT_JAVA_PROGRAMS = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr")


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("pycocoevalcap", reason="needs the extra classic")


@JAVA
def test_the_right_caption_wins_under_every_metric():
    references = [["A dog runs on the green grass .", "The dog is running ."]] * 3 + [["Two cats sleep ."]]
    captions = ["A dog runs on the grass .", "A man reads a newspaper .", "...", "Two cats sleep ."]
    found = classic_scores(captions, references)
    assert list(found.values) == [name for name in CLASSIC_METRICS if name in found.values]
    assert set(found.values) >= {*WITHOUT_JAVA_PROGRAMS, "METEOR"}
    for name, values in found.values.items():
        assert values.dtype == np.float64
        assert values[0] > values[1] + 0.05 > values[2] == 0, name
        assert np.isfinite(values).all()
    assert found.values["BLEU-1"][3] == pytest.approx(1)
    assert found.values["ROUGE-L"][3] == pytest.approx(1)
    if "SPICE" not in found.values:
        assert "CoreNLP" in found.unavailable["SPICE"]


@JAVA
def test_odd_captions_do_not_shift_those_behind_them():
    references = [["one red bus"], ["two"], ["three"], ["four"], ["five blue cars drive"]]
    odd = ["one red bus", "...", "line\nbreak\u2028and\x85more\r\n", "|||", "five blue cars drive"]
    found = classic_scores(odd, references, WITHOUT_JAVA_PROGRAMS).values
    for name in ("BLEU-1", "ROUGE-L"):
        assert found[name][[0, 4]] == pytest.approx([1, 1])
        assert found[name][1:4] == pytest.approx([0, 0, 0])
    assert found["CIDEr"][4] > found["CIDEr"][1:4].max() == 0


@JAVA
def test_only_what_is_asked_for_is_computed(capfd):
    found = classic_scores(["A dog."], [["A dog.", "Dog."]], ["ROUGE-L", "BLEU-4"])
    assert list(found.values) == ["ROUGE-L", "BLEU-4"]
    assert capfd.readouterr() == ("", "")
    assert classic_scores([], [], ["CIDEr"]).values["CIDEr"].shape == (0,)


def test_without_java_every_metric_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = classic_scores(["A dog."], [["A dog."]])
    assert not found.values
    assert set(found.unavailable) == set(CLASSIC_METRICS)
    assert all("Java" in reason for reason in found.unavailable.values())


def test_what_cannot_be_computed_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="Unknown classic metric 'BLEU'"):
        classic_scores(["A dog."], [["A dog."]], ["BLEU"])
    with pytest.raises(InputError, match="at least one reference"):
        classic_scores(["A dog.", "A cat."], [["A dog."], []])
    with pytest.raises(InputError, match="at least one reference"):
        classic_scores(["A dog.", "A cat."], [["A dog."]])
    monkeypatch.setattr(classic, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"i0tscore\[classic\]"):
        classic_scores(["A dog."], [["A dog."]])


@JAVA
@pytest.mark.data
def test_expert_figures_are_the_published_ones(data_dir):
    """As re-run by others to three decimals; METEOR, 41.538 / 41.822, takes too long for a test."""
    ratings = read_flickr8k_expert(data_dir, look_up=False)
    captions = [sample.caption for sample in ratings.samples]
    references = [sample.references for sample in ratings.samples]
    found = classic_scores(captions, references, WITHOUT_JAVA_PROGRAMS).values
    published = {
        "BLEU-1": (32.175, 32.324),
        "BLEU-4": (30.599, 30.776),
        "ROUGE-L": (32.139, 32.314),
        "CIDEr": (43.602, 43.891),
    }
    for name, (tau_b, tau_c) in published.items():
        scores = found[name][ratings.item]
        assert 100 * correlation("tau_b", scores, ratings.rating) == pytest.approx(tau_b, abs=6e-4), name
        assert 100 * correlation("tau_c", scores, ratings.rating) == pytest.approx(tau_c, abs=6e-4), name
