from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from click.testing import CliRunner
from examples_on_disk import write_examples
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from i0tscore.cli.main import main
from i0tscore.encoders.lite import load_lite
from i0tscore.errors import InputError, UsageError
from i0tscore.gap import Statistics, centroid_distance
from i0tscore.training.i0t_async import (
    CHECKPOINT,
    AsyncRecipe,
    AsyncTrainer,
    CachedPairs,
    DropoutPairs,
    Pairs,
    Passes,
    fit_async,
)
from i0tscore.training.trainer import IntArray, epoch_batches, learning_rate
from studies import async_ablation
from studies.async_ablation import clip_rows
from studies.flickr8k import ExpertRatings, Flickr8kSplit

PAPER = AsyncRecipe(mcsie=False)


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def gapped_pairs(count: int = 1500, dimension: int = 16) -> CachedPairs:
    """Return matched images and captions in two cones, with three captions per image."""
    generator = np.random.default_rng(0)
    shown = np.repeat(generator.normal(size=(count // 3, dimension)), 3, axis=0)
    seen, read = (0.3 * generator.normal(size=shown.shape) for _ in range(2))
    cone = 2 * np.eye(dimension)[0]
    return CachedPairs(unit(shown + seen + cone), unit(shown + read - cone), np.repeat(np.arange(count // 3), 3))


@pytest.fixture(scope="module")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("image_files")
    generator = np.random.default_rng(3)
    paths = [folder / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return paths


CAPTIONS = [f"a thing of kind {word}" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]


def digest(model: nn.Module) -> str:
    tensors = model.state_dict()
    return hashlib.sha256(b"".join(tensors[key].numpy().tobytes() for key in sorted(tensors))).hexdigest()


def test_every_image_appears_once_before_any_appears_twice() -> None:
    groups = np.repeat(np.arange(20), 5)
    found = epoch_batches(groups, 10, seed=1, epoch=0)
    assert sorted(np.concatenate(found)) == list(range(100))
    assert all(len(set(groups[rows])) == 10 for rows in found)
    assert not np.array_equal(found[0], epoch_batches(groups, 10, seed=1, epoch=1)[0])
    assert len(epoch_batches(groups, 30, seed=1, epoch=0)) == 3


def test_learning_rate_warms_up_and_decays_to_zero() -> None:
    rates = [learning_rate(PAPER.learning_rate, PAPER.warmup, step, 1404) for step in range(1404)]
    assert rates[0] == pytest.approx(1e-6 / 200)
    assert max(rates) == rates[200] == pytest.approx(1e-6)
    assert rates[802] == pytest.approx(0.5e-6)
    assert rates[-1] < 1e-11
    assert learning_rate(PAPER.learning_rate, PAPER.warmup, 99, 100) == pytest.approx(0.5e-6)


def test_running_statistics_equal_momentum_averages_in_float64() -> None:
    pairs = gapped_pairs()
    normalizations = AsyncTrainer(pairs, PAPER, seed=5).run()
    mean, variance = np.zeros((2, 16)), np.ones((2, 16))
    for epoch in range(3):
        for rows in epoch_batches(pairs.image_index, 64, 5, epoch):
            for side, vectors in enumerate((pairs.images[rows], pairs.captions[rows])):
                mean[side] = 0.9 * mean[side] + 0.1 * vectors.mean(axis=0, dtype=np.float64)
                variance[side] = 0.9 * variance[side] + 0.1 * vectors.var(axis=0, ddof=1, dtype=np.float64)
    for side, normalization in enumerate(normalizations):
        np.testing.assert_allclose(normalization.mean, mean[side], atol=1e-6)
        np.testing.assert_allclose(normalization.variance, variance[side], atol=1e-6)


def test_gap_closes_on_held_out_pairs() -> None:
    pairs = gapped_pairs(3000)
    train, rest = np.arange(1500), np.arange(1500, 3000)
    some = CachedPairs(pairs.images[train], pairs.captions[train], pairs.image_index[train])
    image, caption = AsyncTrainer(some, PAPER, seed=0).run()
    x, y = pairs.images[rest], pairs.captions[rest]
    assert centroid_distance(x, y) > 0.8
    assert centroid_distance(image(x), caption(y)) < 0.2


def test_parameters_barely_move_at_the_learning_rate_of_the_paper() -> None:
    def moved(rate: float) -> tuple[float, float]:
        found = AsyncTrainer(gapped_pairs(), AsyncRecipe(mcsie=False, learning_rate=rate), seed=0).run()
        return (
            max(float(np.linalg.norm(n.weight - 1)) for n in found),
            max(float(np.linalg.norm(n.bias)) for n in found),
        )

    assert moved(0.0) == (0.0, 0.0)
    little, much = moved(1e-6), moved(1e-2)
    assert all(0 < small < 1e-3 for small in little)
    assert all(large > 1000 * small for small, large in zip(little, much, strict=True))


def test_first_step_follows_the_gradient_of_the_whole_loss() -> None:
    """AdamW's first step is the learning rate times the sign of the gradient, here computed independently."""
    pairs = gapped_pairs(66)
    recipe = AsyncRecipe(1, 66, learning_rate=1e-3, weight_decay=0.0, warmup=0, mcsie=False, momentum=None)
    found = AsyncTrainer(pairs, recipe, seed=0).run()
    rows = epoch_batches(pairs.image_index, 66, 0, 0)[0]
    sides = [torch.from_numpy(v[rows]).double() for v in (pairs.images, pairs.captions)]
    affine = [(torch.ones(16).double(), torch.zeros(16).double()) for _ in sides]
    for parameter in (p for pair in affine for p in pair):
        parameter.requires_grad_()
    x, y = (
        nn.functional.normalize((v - v.mean(0)) / (v.var(0, unbiased=False) + 1e-5).sqrt() * w + b, dim=1)
        for v, (w, b) in zip(sides, affine, strict=True)
    )
    logits = 100 * x @ y.T
    own = logits.diagonal()
    loss = ((logits.logsumexp(1) - own).mean() + (logits.logsumexp(0) - own).mean()) / 2
    loss = loss + 0.25 * (x @ x.T - y @ y.T).square().sum() / 66
    loss = loss + 0.25 * (x @ y.T - y @ x.T).square().sum() / 66
    loss.backward()
    for (weight, bias), normalization in zip(affine, found, strict=True):
        np.testing.assert_allclose(normalization.weight, 1 - 1e-3 * weight.grad.sign().numpy(), atol=1e-5)
        np.testing.assert_allclose(normalization.bias, -1e-3 * bias.grad.sign().numpy(), atol=1e-5)


def test_same_seed_gives_same_result() -> None:
    pairs = gapped_pairs()
    first, second, other = (AsyncTrainer(pairs, PAPER, seed).run()[0] for seed in (3, 3, 4))
    assert np.array_equal(first.mean, second.mean)
    assert np.array_equal(first.weight, second.weight)
    assert not np.array_equal(first.mean, other.mean)


class Killed:
    """Pairs that interrupt a run after some steps."""

    def __init__(self, pairs: Pairs, steps: int) -> None:
        self._pairs, self._left = pairs, steps
        self.image_index, self.dimension, self.identity = pairs.image_index, pairs.dimension, pairs.identity

    def passes(self, rows: IntArray, seed: int) -> Passes:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        return self._pairs.passes(rows, seed)


def check_resuming(folder: Path, pairs: Pairs, recipe: AsyncRecipe, steps: int) -> None:
    whole = AsyncTrainer(pairs, recipe, seed=1).run(folder / "whole", every=10)
    with pytest.raises(KeyboardInterrupt):
        AsyncTrainer(Killed(pairs, steps), recipe, seed=1).run(folder / "part", every=10)
    assert (folder / "part").read_bytes() != (folder / "whole").read_bytes()
    found = AsyncTrainer(pairs, recipe, seed=1).run(folder / "part", every=10)
    for one, other in zip(whole, found, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.arrays(), other.arrays(), strict=True))
    assert (folder / "part").read_bytes() == (folder / "whole").read_bytes()


@pytest.mark.parametrize("steps", [20, 25, 47])
def test_a_resumed_run_gives_the_same_bytes(tmp_path: Path, steps: int) -> None:
    check_resuming(tmp_path, gapped_pairs(), AsyncRecipe(mcsie=False, learning_rate=1e-3), steps)


def test_a_resumed_run_repeats_dropout(image_files: list[Path], tmp_path: Path) -> None:
    encoder = tiny_models.encoder("tiny")
    rows = np.zeros((8, 16), np.float32)
    pairs = DropoutPairs(encoder, image_files, CAPTIONS, CachedPairs(rows, rows, np.arange(8)))
    check_resuming(tmp_path, pairs, AsyncRecipe(epochs=7, batch_size=4, momentum=None), steps=11)


def test_finished_runs_are_not_repeated_and_other_runs_are_rejected(tmp_path: Path) -> None:
    pairs, file = gapped_pairs(), tmp_path / "folder" / "state"
    first = AsyncTrainer(pairs, PAPER, seed=1).run(file)
    again = AsyncTrainer(Killed(pairs, steps=0), PAPER, seed=1).run(file)
    assert np.array_equal(first[1].mean, again[1].mean)
    with pytest.raises(InputError, match="different epochs, seed"):
        AsyncTrainer(pairs, AsyncRecipe(mcsie=False, epochs=4), seed=2).run(file)
    with pytest.raises(InputError, match="different pairs"):
        AsyncTrainer(gapped_pairs(1200), PAPER, seed=1).run(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match="is not a valid checkpoint"):
        AsyncTrainer(pairs, PAPER, seed=1).run(file)


def test_unsettled_running_statistics_give_a_warning() -> None:
    pairs = gapped_pairs(200 * 3)
    with pytest.warns(UserWarning, match="After 27 steps, the running statistics still contain 6%"):
        AsyncTrainer(pairs, PAPER, seed=0).run()
    AsyncTrainer(pairs, AsyncRecipe(mcsie=False, epochs=1, momentum=None), seed=0).run()


def test_values_out_of_range_are_rejected() -> None:
    for settings, message in (
        ({"epochs": 0}, "Expected epochs to be finite and at least 1, got 0"),
        ({"batch_size": 1}, "Expected batch_size to be finite and at least 2, got 1"),
        ({"learning_rate": float("inf")}, "Expected learning_rate to be finite and at least 0, got inf"),
    ):
        with pytest.raises(UsageError, match=message):
            AsyncRecipe(**settings)
    pairs = gapped_pairs(3)
    with pytest.raises(InputError, match="Expected at least 2 pairs for batch statistics, got 1"):
        AsyncTrainer(CachedPairs(pairs.images[:1], pairs.captions[:1], pairs.image_index[:1]), PAPER, seed=0)


def test_mcsie_encodes_twice_and_leaves_the_encoder_unchanged(image_files: list[Path]) -> None:
    encoder = tiny_models.encoder("tiny")
    tokens = encoder.tokenize(CAPTIONS)
    before, state = encoder.encode_tokens(tokens), digest(encoder.model)
    recipe = AsyncRecipe(epochs=5, batch_size=4, momentum=None)
    statistics = fit_async(image_files, CAPTIONS, model=encoder, recipe=recipe, preset="raw")
    assert digest(encoder.model) == state
    assert torch.equal(encoder.encode_tokens(tokens), before)
    assert statistics.encoder == "tiny"

    cached = CachedPairs(np.zeros((8, 16), np.float32), np.zeros((8, 16), np.float32), np.arange(8))
    pairs = DropoutPairs(encoder, image_files, CAPTIONS, cached)
    generator = torch.get_rng_state()
    (x1, x2), (y1, y2) = pairs.passes(np.array([5, 2]), seed=1)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not torch.equal(x1, x2)
    assert not torch.equal(y1, y2)
    again, other = (pairs.passes(np.array([5, 2]), seed=seed) for seed in (1, 2))
    assert torch.equal(again[0][1], x2)
    assert not torch.equal(other[1][0], y1)
    assert (before[[5, 2]] * y1).sum(dim=1).min() > 0.9
    released = DropoutPairs(encoder, image_files, CAPTIONS, cached, mlp=True).passes(np.array([5, 2]), seed=1)
    assert (released[0][0] * released[0][1]).sum() < (x1 * x2).sum()


def test_mcsie_as_released_is_named_in_the_source_and_needs_mcsie(
    image_files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = AsyncRecipe(epochs=1, batch_size=4, momentum=None, as_released=True)
    found = fit_async(image_files, CAPTIONS, model=tiny_models.encoder("tiny"), recipe=recipe)
    assert "MCSIE dropout 0.1, also behind MLPs, seed" in found.source
    with pytest.raises(UsageError, match="as_released changes the dropout of MCSIE, which is off"):
        replace(recipe, mcsie=False)
    arguments = ["fit", "captions.json", "images", "--output", "s.safetensors", "--as-released"]
    assert main(arguments) == 2
    assert "--as-released: Only with --method async" in capsys.readouterr().err


def test_lite_has_no_dropout_in_its_image_tower(image_files: list[Path]) -> None:
    encoder = load_lite()
    state = digest(encoder.model)  # type: ignore[attr-defined]
    recipe = AsyncRecipe(epochs=2, batch_size=4, momentum=None)
    found = [fit_async(image_files, CAPTIONS, model=encoder, recipe=recipe, source="noise") for _ in range(2)]
    assert digest(encoder.model) == state  # type: ignore[attr-defined]
    statistics = found[0]
    assert "normalization" in statistics.fitted
    assert "normalization" in found[1].fitted
    assert np.array_equal(
        statistics.fitted["normalization"].caption.mean, found[1].fitted["normalization"].caption.mean
    )
    assert statistics.source == (
        "noise; I0T_async: 4 steps in 2 epochs, rate 1e-06, cyclic 0.25, MCSIE dropout 0.1, seed 12345; "
        "measured in-sample"
    )
    assert "async" in statistics.reference
    plain = fit_async(image_files, CAPTIONS, model=encoder, recipe=replace(recipe, mcsie=False))
    assert "normalization" in plain.fitted
    assert not np.array_equal(
        plain.fitted["normalization"].caption.mean, statistics.fitted["normalization"].caption.mean
    )


def test_mcsie_rejects_embeddings_and_split_captions(image_files: list[Path]) -> None:
    x = np.random.default_rng(0).normal(size=(9, 4))
    with pytest.raises(UsageError, match="got embeddings"):
        fit_async(x, x, recipe=AsyncRecipe())
    with pytest.raises(UsageError, match="truncates long captions"):
        fit_async(image_files, CAPTIONS, model="lite", long_captions="split")


@pytest.mark.data
def test_batch_statistics_close_the_gap_of_clip_like_means_do(data_dir: Path) -> None:
    """500 pairs of CLIP ViT-B/16, with statistics from one half: on the other, the gap falls from .85 to .11."""
    images, captions = np.load(data_dir / "clip_vitb16_pairs" / "image_text_500.npy")
    order = np.random.default_rng(0).permutation(500)
    fitted, rest = order[:250], order[250:]
    recipe = AsyncRecipe(mcsie=False, epochs=1, batch_size=250, learning_rate=0.0, momentum=None)
    statistics = fit_async(images[fitted], captions[fitted], recipe=recipe)
    assert "normalization" in statistics.fitted
    pair = statistics.fitted["normalization"]
    x, y = pair.image(images[rest]), pair.caption(captions[rest])
    raw, post, untrained = clip_rows(data_dir)
    assert raw["CD"] == pytest.approx(0.85, abs=0.01)
    assert post["CD"] == pytest.approx(0.11, abs=0.01)
    assert untrained["CD"] == pytest.approx(0.11, abs=0.01)
    assert untrained["CD"] == pytest.approx(centroid_distance(x, y), abs=1e-4)
    assert (untrained["‖w − 1‖"], untrained["‖b‖"]) == (0.0, 0.0)
    assert untrained["buffers off by"] < 1e-6


def test_command_trains_and_resumes_and_the_metric_uses_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = write_examples(tmp_path)
    monkeypatch.chdir(examples)
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path / "cache"))
    inputs = ["captions.json", "images", "--model", "lite"]
    train = ["fit", *inputs, "--method", "async", "--epochs", "10", "--train-batch-size", "4", "--seed", "7"]
    train += ["--checkpoints", "state"]
    assert main([*train, "--output", "one.safetensors", "--name", "mine"]) == 0
    told = capsys.readouterr()
    assert "async" in told.out
    assert "After 10 steps, the running statistics still contain 35%" in told.err
    assert Path("state", CHECKPOINT).is_file()
    assert main([*train, "--output", "two.safetensors", "--name", "mine"]) == 0
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()
    assert "normalization" in Statistics.load("one.safetensors").fitted
    capsys.readouterr()
    score = [*inputs, "--statistics", "one.safetensors", "--metric", "AsyncI0TScore", "--format", "json"]
    assert main(score) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["AsyncI0TScore"]["mean"] > 0.2
    assert "std:async|stats:mine-" in found["scores"]["AsyncI0TScore"]["signature"]


def test_training_options_require_method_async(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "captions.json", "images", "--output", "s.safetensors", "--epochs", "2", "--no-mcsie"]
    assert main(arguments) == 2
    assert "--epochs, --no-mcsie: Only with --method async" in capsys.readouterr().err


def test_ablation_has_one_row_per_variant(
    image_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = tuple(f"{caption}, seen {k} times" for caption in CAPTIONS for k in range(5))
    ratings = ExpertRatings(np.arange(8), tuple(CAPTIONS), np.arange(8), np.arange(8.0) % 4)
    recipe = replace(async_ablation.TRAINED, epochs=1, batch_size=4, momentum=None)
    far = replace(recipe, epochs=9, learning_rate=1e-2)
    monkeypatch.setattr(async_ablation, "read_split", lambda *_: Flickr8kSplit(tuple(image_files), captions))
    monkeypatch.setattr(async_ablation, "expert_ratings", lambda *_: ratings)
    monkeypatch.setattr(async_ablation, "TRAINED", recipe)
    monkeypatch.setattr(async_ablation, "VARIANTS", {"near": recipe, "far": far})
    rows = async_ablation.lite_rows(tmp_path, cache=tmp_path / "cache", mcsie_pairs=8)
    by_name = {row["variant"]: row for row in rows}
    assert list(by_name) == ["none", "post", "near", "far", "with MCSIE", "the same pairs without MCSIE"]
    assert all(np.isfinite([row[key] for key in ("CD", "R@1 i→t", "R@1 t→i", "τ-c Expert")]).all() for row in rows)
    assert all(row["buffers off by"] < 1e-6 for row in rows[2:])
    assert by_name["far"]["‖w − 1‖"] > 100 * by_name["near"]["‖w − 1‖"] > 0
    assert by_name["with MCSIE"]["CD"] != by_name["the same pairs without MCSIE"]["CD"]
    assert [row["pairs"] for row in rows] == [40, 40, 40, 40, 8, 8]


def test_ablation_detects_wrong_running_statistics() -> None:
    pairs = gapped_pairs()
    witness = async_ablation.Witness(pairs, momentum=0.2)
    found = AsyncTrainer(witness, PAPER, seed=0).run()
    assert witness.error(found) > 1e-3


def test_ablation_prints_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_ablation, "clip_rows", lambda data: [{"variant": "post", "CD": 0.11143}])
    monkeypatch.setattr(async_ablation, "lite_rows", lambda data, **_: [{"variant": "none", "CD": 0.86}])
    result = CliRunner().invoke(async_ablation.main, ["--data", str(tmp_path)])
    assert result.exit_code == 0
    assert "| post      | 0.1114 |" in result.output
    result = CliRunner().invoke(async_ablation.main, ["--data", str(tmp_path / "none")])
    assert result.exit_code == 2
