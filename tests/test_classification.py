"""Zero-shot classification, and the classes that are read off Flickr8k's captions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from i0tscore.gap import POST, GapStatistics, Moments, normalize
from i0tscore.results import Resampling
from studies import flickr8k
from studies.classification import class_vectors, classify


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_accuracies_are_torchmetrics() -> None:
    classes = class_vectors(normal(5, 3, 8))
    own = np.random.default_rng(1).choice(5, 200, p=[0.6, 0.2, 0.1, 0.06, 0.04])
    images = normalize(classes[own] + 0.4 * normal(200, 8, seed=2))
    found = classify(images, classes, own)
    scores, truth = torch.from_numpy(images @ classes.T), torch.from_numpy(own)
    plain = multiclass_accuracy(scores, truth, 5, average="micro").item()
    balanced = multiclass_accuracy(scores, truth, 5, average="macro").item()
    assert plain != pytest.approx(balanced, abs=0.01)
    assert found.accuracy(Resampling(resamples=0)).value == pytest.approx(plain, abs=1e-6)
    estimate = found.balanced_accuracy(Resampling(resamples=200))
    assert estimate.value == pytest.approx(balanced, abs=1e-6)
    assert estimate.interval[0] < estimate.value < estimate.interval[1]
    assert found.accuracy().interval[0] < plain < found.accuracy().interval[1]


def test_the_rules_of_templates_differ_where_lengths_do_and_only_there() -> None:
    features = normal(4, 6, 8) * np.arange(1, 7)[:, None]
    by_features, by_directions = class_vectors(features, "features"), class_vectors(features)
    assert np.abs(by_features - by_directions).max() > 0.1
    np.testing.assert_allclose(by_features, normalize(features.sum(axis=1)))
    units = normalize(features)
    np.testing.assert_allclose(class_vectors(units, "features"), class_vectors(units, "directions"))


def test_class_vectors_are_of_unit_length_and_are_centred_as_captions_are() -> None:
    classes = class_vectors(normal(4, 6, 8) + 1)
    np.testing.assert_allclose(np.linalg.norm(classes, axis=1), 1)
    mean = Moments.of(classes).mean
    np.testing.assert_allclose(
        POST.apply(classes, GapStatistics(np.zeros(8), mean), "caption"), normalize(classes - mean)
    )
    with pytest.raises(ValueError, match=r"shape \(classes, templates, d\)"):
        class_vectors(normal(4, 8))


def test_a_tie_and_an_undefined_image_are_not_right() -> None:
    classes = np.eye(3)
    images = np.array([[0.6, 0.6, 0.1], [np.nan] * 3, [0.2, 0.1, 0.9]])
    assert classify(images, classes, [0, 1, 2]).right.tolist() == [False, False, True]


@pytest.mark.parametrize("own", [[0], [0, 3], [-1, 0]])
def test_labels_must_be_of_the_classes(own: list[int]) -> None:
    with pytest.raises(ValueError, match=r"2 labels for 2 images, at least one, each in \[0, 3\)"):
        classify(np.eye(3)[:2], np.eye(3), own)


@pytest.mark.parametrize(
    ("captions", "label"),
    [
        (["A dog.", "Dogs!", "Two puppies.", "An animal.", "An animal."], "a dog"),
        (["A hotdog.", "A hotdog.", "A hotdog.", "Food.", "Food."], None),
        (["A dog.", "A dog.", "An animal.", "An animal.", "An animal."], None),
        (["A dog on a beach.", "A dog.", "A dog.", "A beach.", "An animal."], None),
        (["A dog on a beach.", "A dog.", "A dog.", "An animal.", "An animal."], "a dog"),
        (["A dirt bike.", "A dirt biker.", "A motorbike.", "A motorcyclist.", "A man."], "a motorcycle"),
        (["A boy in a car seat."] * 5, None),
        (["Bikers on BMX."] * 5, "a bicycle"),
    ],
)
def test_a_class_needs_three_captions_and_no_rival(captions: list[str], label: str | None) -> None:
    assert flickr8k.label_of(captions) == label


@pytest.mark.data
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_documented_counts_are_those_found(data_dir, split) -> None:
    images, captions = flickr8k.read_split(data_dir, split)
    found = flickr8k.labels_of(captions)
    assert len(found) == len(images)
    counts = Counter(found)
    column = ("train", "dev", "test").index(split)
    for name in [*flickr8k.CLASSES, None]:
        line = next(row for row in flickr8k.__doc__.splitlines() if row.startswith(f"{name or 'none'}  "))
        assert int(line.split()[-3:][column]) == counts[name]
