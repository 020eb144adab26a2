from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch.nn import functional

from i0tscore.encoders.lite import ImageHeadInput, LiteHead
from i0tscore.errors import InputError
from i0tscore.gap import Moments
from i0tscore.training.losses import contrastive_loss
from studies import lite_training as training
from studies.flickr8k import read_split
from studies.lite_report import BEGIN, END, calibration_error, write_card
from studies.lite_training import (
    STORAGE_VIEWS,
    VIEWS,
    FeatureExtractor,
    HeadRecipe,
    PairFeatures,
    class_captions,
    dev_figures,
    embed_pairs,
    make_view,
    soft_targets,
    train_heads,
)
from studies.recall import recall


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Write Flickr8k's layout with eight training and four dev images of colored noise."""
    folder = tmp_path / "data" / "flickr8k"
    (folder / "images_224").mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines = []
    for split, count in (("train", 8), ("dev", 4)):
        names = [f"{split}{i}.jpg" for i in range(count)]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            pixels = generator.integers(0, 256, (30, 40, 3)) * np.array([i % 2, 1, (i // 2) % 2])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images_224" / name)
            lines += [f"{name}#{k}\tThing number {i} seen for the time {k} ." for k in range(5)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def pairs(count: int = 40, *, noise: float = 0.3) -> PairFeatures:
    """Return image and caption features that are linear views of a shared vector, each with an offset."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(count, 1, 8, generator=generator)
    to_image, to_caption = (torch.randn(8, size, generator=generator) for size in (24, 16))
    images = hidden @ to_image + 2 + noise * torch.randn(count, 2, 24, generator=generator)
    captions = hidden @ to_caption - 1 + noise * torch.randn(count, 5, 16, generator=generator)
    return PairFeatures(images, captions, captions)


RECIPE = HeadRecipe(epochs=30, batch_size=20, hidden=32)


def test_soft_targets_are_probabilities_that_favor_own_and_similar_captions() -> None:
    captions = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 5.0]])
    targets = soft_targets(captions, hard_weight=0.5, temperature=0.1)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(3))
    assert targets[0, 0] > targets[0, 1] > 0.1 > targets[0, 2]
    assert torch.equal(soft_targets(captions, hard_weight=1.0, temperature=0.1), torch.eye(3))


def test_one_hot_targets_equal_the_default() -> None:
    x, y = (functional.normalize(torch.randn(6, 4), dim=-1) for _ in range(2))
    usual = contrastive_loss(x, y, 20.0)
    assert contrastive_loss(x, y, 20.0, torch.eye(6)).item() == pytest.approx(usual.item(), rel=1e-5)
    log_p = (20.0 * x @ y.T).log_softmax(dim=1).diagonal() + (20.0 * y @ x.T).log_softmax(dim=1).diagonal()
    assert usual.item() == pytest.approx(-log_p.mean().item() / 2, rel=1e-5)


def test_same_seed_gives_same_heads() -> None:
    features = pairs()
    first, second, other = (train_heads(features, RECIPE, seed) for seed in (3, 3, 4))
    for name, tensor in first[0].state_dict().items():
        assert torch.equal(tensor, second[0].state_dict()[name])
        assert not torch.equal(tensor, other[0].state_dict()[name])


def test_heads_learn_pairs_and_keep_a_gap_that_means_close() -> None:
    features = pairs()
    heads = train_heads(features, RECIPE, seed=0)
    x, y = embed_pairs(heads, features)
    figures = dev_figures(x, y, Moments.of(x), Moments.of(y))
    assert figures["image_to_text"] > 80
    assert figures["text_to_image"] > 60
    assert figures["gap"] > 0.3 > figures["gap_post"]
    assert figures["criterion"] == pytest.approx(np.mean([value for key, value in figures.items() if "_to_" in key]))
    assert not any(parameter.requires_grad for head in heads for parameter in head.parameters())


def test_class_pairs_are_added_to_batches() -> None:
    features, others = pairs(), pairs(10, noise=0.1)
    recipe = HeadRecipe(epochs=30, batch_size=20, hidden=32, class_pairs=5)
    without, within = train_heads(features, recipe, 0), train_heads(features, recipe, 0, others)
    turned = PairFeatures(others.images, others.captions.flip(0), others.meanings.flip(0))
    against = train_heads(features, recipe, 0, turned)

    def hits(heads: tuple[LiteHead, LiteHead]) -> float:
        return recall(*embed_pairs(heads, others))[0][0]

    assert hits(within) > 80 > hits(against)
    assert not torch.equal(without[0].out.weight, within[0].out.weight)


def test_too_little_data_is_rejected() -> None:
    with pytest.raises(InputError, match="Expected at least 1000 images, one batch, got 40"):
        train_heads(pairs(), HeadRecipe(), seed=0)


def test_heads_ignore_the_norm_of_their_input() -> None:
    head = LiteHead(6).eval()
    features = torch.randn(3, 6)
    torch.testing.assert_close(head(features), head(10 * features))


def test_views_are_reproducible_and_distinct() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    for view in (*VIEWS, *STORAGE_VIEWS):
        assert make_view(image, view, 5).tobytes() == make_view(image, view, 5).tobytes()
    assert make_view(image, "crop1", 5).tobytes() != make_view(image, "crop1", 6).tobytes()
    assert make_view(image, "crop1", 5).tobytes() != make_view(image, "crop2", 5).tobytes()
    assert np.array_equal(np.asarray(make_view(image, "flip", 0)), np.asarray(image)[:, ::-1])


def test_storage_views_are_close_to_the_image() -> None:
    noise = np.random.default_rng(0).integers(80, 160, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC)
    for view in STORAGE_VIEWS:
        difference = np.asarray(make_view(image, view, 1)).astype(float) - np.asarray(image)
        assert 0.2 < np.abs(difference).mean() < 8


def test_storage_directions_are_removed() -> None:
    torch.manual_seed(0)
    plain, moved = torch.randn(50, 6), torch.randn(2, 6)
    stored = [plain + shift for shift in moved]
    weight, bias, names = torch.randn(4, 6), torch.zeros(4), functional.normalize(torch.randn(4, 3), dim=-1)
    whole = ImageHeadInput(weight, bias, names, torch.zeros(0, 9))
    removed = training.storage_directions(whole, plain, stored)
    assert removed.shape == (2, 9)
    torch.testing.assert_close(removed @ removed.T, torch.eye(2), atol=2e-3, rtol=0)
    without = ImageHeadInput(weight, bias, names, removed)
    for features in stored:
        before, after = ((part(features) - part(plain)).mean(dim=0).norm() for part in (whole, without))
        assert before > 0.1
        assert after < 5e-3


def test_class_names_follow_the_classifier() -> None:
    names = class_captions()
    assert len(names) == 1000
    assert names[967][0] == "an espresso"
    assert all(second == f"{first}, {third}" for first, second, third in names)


def test_calibration_error_of_known_probabilities() -> None:
    probability = np.repeat([0.05, 0.95], 100)
    assert calibration_error(probability, (np.arange(200) % 20 >= np.repeat([19, 1], 100)).astype(float)) < 1e-9
    assert calibration_error(np.full(10, 1.0), np.zeros(10)) == 1.0


def test_a_split_is_read_in_order(small_data: Path) -> None:
    split = read_split(small_data, "dev")
    assert [path.name for path in split.images] == [f"dev{i}.jpg" for i in range(4)]
    assert split.captions[5] == "Thing number 1 seen for the time 0 ."


def test_missing_files_and_captions_are_reported(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Flickr_8k\.testImages\.txt: no such file"):
        read_split(small_data, "test")
    tokens = small_data / "flickr8k" / "Flickr8k.token.txt"
    tokens.write_text(tokens.read_text().replace("dev3.jpg#4", "other.jpg#4"))
    with pytest.raises(InputError, match=r"expected 5 captions of dev3\.jpg, got 4"):
        read_split(small_data, "dev")


class Towers:
    """A model with two numbers per text, to check what the extractor caches."""

    scale = 1.0

    def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
        return self.scale * torch.stack([ids.sum(dim=1), (ids != 0).sum(dim=1)], dim=1).float()


def letters(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[ord(c) for c in text.ljust(9, "\0")] for text in texts])


def test_features_are_cached_checked_and_in_order(tmp_path: Path) -> None:
    texts = ["a", "abc", "ab"]
    towers = Towers()
    extractor = FeatureExtractor(towers, letters, None, tmp_path / "kept")
    first = extractor.texts("some", texts)
    assert first[:, 1].tolist() == [1, 3, 2]
    assert (tmp_path / "kept" / "text-some.npy").is_file()
    assert np.array_equal(extractor.texts("some", texts), first)
    with pytest.raises(InputError, match=r"text-some\.npy: expected the towers' features"):
        extractor.texts("some", [*texts, "d"])
    towers.scale = 2.0
    with pytest.raises(InputError, match="Delete the file"):
        extractor.texts("some", texts)


def test_training_end_to_end_gives_the_same_embeddings_as_the_encoder(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Short texts, since six thousand of them are encoded.
    monkeypatch.setattr(training, "class_captions", lambda: [("dog", "cat", "fish")] * 1000)
    recipe = HeadRecipe(epochs=2, batch_size=4)
    output = tmp_path / "heads"
    figures = training.train_lite(small_data, output, tmp_path / "features", seeds=2, recipe=recipe)
    report = json.loads((output / training.FIGURES_FILE).read_text())
    assert report["encoder_difference"] < 1e-4
    best = max(figures, key=lambda one: one["criterion"])
    assert report["seeds"][report["chosen_seed"]] == best
    assert sorted(path.name for path in output.iterdir()) == sorted(
        [training.HEADS_FILE, training.STATISTICS_FILE, training.FIGURES_FILE]
    )
    again = tmp_path / "again"
    training.train_lite(small_data, again, tmp_path / "features", seeds=2, recipe=recipe)
    assert (again / training.HEADS_FILE).read_bytes() == (output / training.HEADS_FILE).read_bytes()


def test_command_reports_missing_data(tmp_path: Path) -> None:
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "heads")]
    result = CliRunner().invoke(training.main, arguments)
    assert result.exit_code == 1
    assert "Try --data with the folder that holds flickr8k/." in result.output


def test_figures_replace_the_text_between_the_markers(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_card(card, "new")
    write_card(card, "newer")
    assert card.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"
