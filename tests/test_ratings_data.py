"""The real rating sets, where the data folder is there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from human_judgments.blv_kreiss2022 import read_authors_scores, read_kreiss, same_descriptions
from i0tscore.results.correlation import agreement, correlation, correlation_report, rater_ceiling
from i0tscore.results.intervals import Resampling
from i0tscore.results.preferences import preference_report
from i0tscore.samples.flickr8k import read_flickr8k_expert
from i0tscore.samples.rating_sets import KNOWN_SETS, PUBLISHED, read_known_set, read_thumb, verify

pytestmark = pytest.mark.data
NONE = Resampling(resamples=0)


@pytest.fixture(scope="module")
def expert(data_dir):
    return read_flickr8k_expert(data_dir)


def lengths(ratings):
    """A known score column: the number of characters of each caption."""
    return np.array([float(len(sample.caption)) for sample in ratings.samples])


def test_expert_has_the_counts_and_files_of_the_published_figures(expert, data_dir):
    known = KNOWN_SETS["flickr8k_expert"]
    assert expert.counts == {
        "pairs": 5822,
        "pairs dropped": 158,
        "items": 5664,
        "ratings": 16992,
        "images": 1000,
    }
    files = {name: data_dir / "flickr8k" / name for name in known.hashes}
    assert verify(expert.counts, known, data_dir, files) == ()
    assert all(sample.image.is_file() for sample in expert.samples[::100])
    assert {len(sample.references) for sample in expert.samples} == {5}
    assert not [s for s in expert.samples if s.caption in s.references]


def test_point_values_equal_scipys(expert):
    scores = lengths(expert)[expert.item]
    found = agreement(scores, expert.rating, expert.clusters, resampling=NONE).estimates
    assert found["tau_b"].value == stats.kendalltau(scores, expert.rating, variant="b").statistic
    assert found["tau_c"].value == stats.kendalltau(scores, expert.rating, variant="c").statistic
    assert found["spearman"].value == stats.spearmanr(scores, expert.rating).statistic
    assert found["pearson"].value == stats.pearsonr(scores, expert.rating).statistic


def test_averaging_the_three_ratings_raises_agreement(expert):
    """With the mean of two raters for a score, so that the column is a good one without any model."""
    others = rater_ceiling(expert.rating, expert.item)[0].reshape(-1, 3)[:, 0]
    third = expert.rating.reshape(-1, 3)[:, 1:].mean(axis=1)
    assert third == pytest.approx(others)
    means = expert.averaged()
    single = correlation("tau_b", others[expert.item], expert.rating)
    assert correlation("tau_b", others[means.item], means.rating) > single + 0.05


def test_both_forms_of_expert_give_the_same_figures(expert, tmp_path):
    content: dict[str, dict[str, object]] = {}
    for row, (item, image) in enumerate(zip(expert.item, expert.clusters, strict=True)):
        sample = expert.samples[item]
        entry = content.setdefault(
            image, {"image_path": image, "ground_truth": list(sample.references), "human_judgement": []}
        )
        entry["human_judgement"].append({"caption": sample.caption, "rating": expert.rating[row]})
    file = tmp_path / "flickr8k.json"
    file.write_text(json.dumps(content))
    found = read_flickr8k_expert(file, look_up=False)
    assert verify(found.counts, KNOWN_SETS["flickr8k_expert"], file, {}) == ()
    for name in ("tau_b", "tau_c"):
        assert correlation(name, lengths(found)[found.item], found.rating) == pytest.approx(
            correlation(name, lengths(expert)[expert.item], expert.rating), abs=1e-15
        )


def test_kreiss_has_its_counts_and_the_authors_figure(data_dir):
    known = KNOWN_SETS["blv_kreiss2022"]
    ratings = read_kreiss(data_dir)
    folder = data_dir / "blv_kreiss2022"
    assert verify(ratings.counts, known, folder, {name: folder / name for name in known.hashes}) == ()
    assert ratings.counts == {"items": 68, "ratings": 272, "images": 18}
    assert len(set(ratings.rater)) == 16
    assert all(sample.image.is_file() for sample in ratings.samples)
    sighted = read_kreiss(data_dir, raters="sighted")
    assert sighted.n == 986
    assert len(same_descriptions(sighted, ratings).samples) == 68
    scores = read_authors_scores(data_dir)
    means = ratings.averaged()
    result = stats.pearsonr([scores[ratings.samples[i].caption] for i in means.item], means.rating)
    assert result.statistic == pytest.approx(0.075, abs=5e-4)
    assert result.pvalue == pytest.approx(0.55, abs=0.01)


@pytest.mark.parametrize("name", ["pascal50s", "polaris_val", "thumb"])
def test_rating_files_have_the_counts_and_hashes_of_their_sets(name, data_dir):
    known = KNOWN_SETS[name]
    found, path, files = read_known_set(known, data_dir, look_up=False)
    assert set(files) == set(known.hashes)
    assert verify(found.counts, known, path, files) == ()
    assert name == "polaris_val" or all(sample.references for sample in found.samples)


def test_longer_captions_win_on_pascal_as_often_as_published(data_dir):
    pairs, *_ = read_known_set(KNOWN_SETS["pascal50s"], data_dir, look_up=False)
    words = np.array([float(len(sample.caption.split())) for sample in pairs.samples])
    parts = preference_report(pairs.with_scores({"length": words}, {}), resampling=NONE).metrics["length"].parts
    published = {row.figure: row.value / 100 for row in PUBLISHED["pascal50s"] if row.metric == "length"}
    assert {name: found.value for name, found in parts.items()} == pytest.approx(published, abs=0.015)


def test_thumb_ranks_people_above_systems_in_recall(data_dir):
    found = read_thumb(data_dir, look_up=False, rating="R")
    systems = np.array(found.parts["system"])
    means = {name: found.rating[systems == name].mean() for name in np.unique(systems)}
    assert max(means, key=means.__getitem__) == "Human"
    rated = found.with_scores({"mine": lengths(found)}, {})
    scores = correlation_report(rated, resampling=NONE).systems["mine"]
    own = {name: rated.scores["mine"][systems == name].mean() for name in means}
    expected = stats.pearsonr(list(own.values()), list(means.values())).statistic
    assert scores["pearson"].value == pytest.approx(expected)


def test_a_changed_byte_is_noticed(data_dir, tmp_path):
    name = "authors_clipscores.csv"
    data = (data_dir / "blv_kreiss2022" / name).read_bytes()
    (tmp_path / name).write_bytes(data.replace(b"0.8", b"0.9", 1))
    assert len(verify({}, KNOWN_SETS["blv_kreiss2022"], tmp_path, {name: tmp_path / name})) == 1
