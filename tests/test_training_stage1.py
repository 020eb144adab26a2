"""Stage 1 of I0T: stretched positions, learning, resuming and distributed training."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from i0tscore.encoders import load_encoder
from i0tscore.encoders.images import decode
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.errors import I0TScoreError, InputError, UsageError
from i0tscore.samples import read_samples
from i0tscore.training import stage1, trainer
from i0tscore.training.positions import WEIGHTS_FILE, stretch_positions, write_stretched
from i0tscore.training.stage1 import PairTowers, Stage1Recipe, fine_tune, long_captions, stage1_loss
from studies import stage1_recall

COLORS = {
    "red": (200, 30, 30),
    "green": (30, 160, 40),
    "blue": (40, 60, 200),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
    "yellow": (240, 220, 20),
}
QUICK = Stage1Recipe(epochs=25, batch_size=6, learning_rate=3e-3, warmup=2, context_length=120, mcsie=False)


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    tiny_models.register(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def squares(tmp_path_factory) -> Path:
    """Write colored squares and a file with two captions for each."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    captions = {}
    for number in range(12):
        name = list(COLORS)[number % 6]
        pixels = np.clip(rng.normal(COLORS[name], 12, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}{number}.png")
        captions[f"{name}{number}"] = [f"A {name} square", f"Everything is {name}."]
    (folder / "captions.json").write_text(json.dumps(captions))
    return folder


def samples_of(folder: Path):
    return read_samples(folder / "captions.json", images=folder).samples


def train(squares: Path, output: Path, recipe: Stage1Recipe = QUICK, **options) -> str:
    return fine_tune("tiny", samples_of(squares), output, recipe, from_scratch=True, **options)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / stage1.LOG).read_text().splitlines()]


def test_stretching_keeps_first_positions_and_interpolates_the_others() -> None:
    old = torch.randn(77, 8, generator=torch.Generator().manual_seed(0))
    new = stretch_positions(old)
    assert new.shape == (248, 8)
    assert torch.equal(new[:20], old[:20])
    torch.testing.assert_close(new[20::4], old[20:])
    for step in (1, 2, 3):
        expected = (1 - step / 4) * old[20:76].double() + step / 4 * old[21:77].double()
        torch.testing.assert_close(new[20 + step : -4 : 4].double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(new[-1], old[-1] + 0.75 * (old[-1] - old[-2]))


@pytest.mark.parametrize(("length", "keep"), [(76, 20), (248, 76), (248, -1)])
def test_invalid_stretching_is_rejected(length: int, keep: int) -> None:
    with pytest.raises(UsageError, match="Cannot stretch 77 positions"):
        stretch_positions(torch.zeros(77, 4), length, keep)


def test_stretched_model_keeps_short_captions_and_reads_long_ones(tmp_path: Path) -> None:
    encoder = tiny_models.encoder("tiny")
    torch.save(encoder.model.state_dict(), tmp_path / "tiny.pt")
    with pytest.warns(UserWarning, match="which activation"):
        start = load_encoder("tiny", weights=tmp_path / "tiny.pt")
    name = write_stretched(start, "tiny", tmp_path / "long", length=248, keep=20)
    long = load_encoder(name)
    assert long.context_length == 248
    short = long.tokenize(["A dog runs over the grass."])
    torch.testing.assert_close(long.encode_tokens(short), start.encode_tokens(short), atol=1e-6, rtol=0)
    words = "one two three four five six seven eight nine ten " * 12
    first, second = long.tokenize([words + "dog", words + "cat"])
    assert first.cut == 0
    assert float(long.encode_tokens([first]) @ long.encode_tokens([second]).T) < 1 - 1e-6
    assert start.tokenize([words + "dog"])[0].ids == start.tokenize([words + "cat"])[0].ids


@pytest.mark.parametrize("name", ["tiny-two-way", "tiny-coca"])
def test_towers_without_causal_attention_are_rejected(name: str, tmp_path: Path) -> None:
    with pytest.raises(I0TScoreError):
        write_stretched(tiny_models.encoder(name), name, tmp_path, length=248, keep=20)


def test_captions_of_an_image_are_joined(squares: Path) -> None:
    images, captions, groups = long_captions(samples_of(squares), join=True)
    assert len(images) == len(captions) == 12
    assert captions[0] == "A red square. Everything is red."
    assert groups.tolist() == list(range(12))
    apart = long_captions(samples_of(squares), join=False)
    assert len(apart[1]) == 24
    assert apart[2].tolist() == np.repeat(np.arange(12), 2).tolist()
    with pytest.raises(InputError, match="two images"):
        long_captions(samples_of(squares)[:1], join=False)


def test_training_learns_to_match_pairs(squares: Path, tmp_path: Path) -> None:
    name = train(squares, tmp_path / "model")
    found = losses(tmp_path / "model")
    assert np.mean(found[-4:]) < 0.7 * np.mean(found[:4])
    encoder = load_encoder(name)
    images, captions, _ = long_captions(samples_of(squares)[:12], join=True)
    pixels = torch.stack([encoder.preprocess(Image.open(squares / f"{i.name}").convert("RGB")) for i in images])
    right = encoder.encode_pixels(pixels) @ encoder.encode_tokens(encoder.tokenize(captions)).T
    assert (right.argmax(dim=1) == torch.arange(6)).float().mean() > 0.5, "chance is 1 in 6"


def test_recall_is_reported_next_to_chance(squares: Path, tmp_path: Path) -> None:
    name = train(squares, tmp_path / "model")
    arguments = [str(squares / "captions.json"), str(squares), "--model", name]
    done = CliRunner().invoke(stage1_recall.main, arguments, catch_exceptions=False)
    lines = done.output.splitlines()
    assert lines[0].startswith("12 images, 24 captions")
    # Two of 24 captions match: 1 − 22/24 · 21/23 · … for five ranks.
    chance = 100 * (1 - math.comb(22, 5) / math.comb(24, 5))
    assert lines[-2].split()[-2:] == [f"{chance:.1f}", f"{500 / 12:.1f}"]
    encoder = load_encoder(name)
    images, captions, _ = long_captions(samples_of(squares), join=False)
    pixels = [encoder.preprocess(Image.open(squares / i.name).convert("RGB")) for i in images[::2]]
    similarity = encoder.encode_tokens(encoder.tokenize(captions)) @ encoder.encode_pixels(torch.stack(pixels)).T
    better = (similarity > similarity[torch.arange(24), torch.arange(24) // 2][:, None]).sum(dim=1)
    assert f"{100 * (better < 5).float().mean():.1f} (" in lines[-2]
    joined = CliRunner().invoke(stage1_recall.main, [*arguments, "--join"]).output
    assert joined.startswith("12 images, 12 captions")


def test_recall_needs_the_same_number_of_captions_per_image(squares: Path) -> None:
    with pytest.raises(InputError, match="same number of captions for every image"):
        stage1_recall.cross_modal_recall("tiny", samples_of(squares)[1:], join=False)


def reference_loss(x: NDArray[Any], y: NDArray[Any], scale: float, cyclic_weight: float) -> float:
    """Compute the contrastive and both cyclic losses of one pair of passes."""
    logits = scale * x @ y.T
    log_sums = (np.log(np.exp(logits).sum(axis=axis)) for axis in (0, 1))
    contrastive = np.mean([log_sum - logits.diagonal() for log_sum in log_sums])
    cyclic = np.square(x @ x.T - y @ y.T).sum() + np.square(x @ y.T - y @ x.T).sum()
    return float(contrastive + cyclic_weight * cyclic / len(x))


@pytest.mark.parametrize(
    "recipe",
    [
        Stage1Recipe(cyclic_weight=0, mcsie=False),
        Stage1Recipe(mcsie=False),
        Stage1Recipe(),
        Stage1Recipe(layer_norm=True),
    ],
    ids=["LCO", "LCCO", "LCCOM", "LCCOM + LN"],
)
def test_loss_of_each_row_of_the_paper_equals_its_formula(recipe: Stage1Recipe, squares: Path) -> None:
    torch.manual_seed(0)
    towers = PairTowers(tiny_models.encoder("tiny"), recipe)
    pixels = torch.stack([towers.encoder.preprocess(decode(s.image)) for s in samples_of(squares)[::2]])
    ids = towers.encoder.pad([towers.encoder.tokenize([f"a {i}"])[0] for i in range(12)])
    torch.manual_seed(1)
    images, captions, scale = towers(pixels, ids)
    passes = 2 if recipe.mcsie else 1
    assert len(images) == 12 * passes
    sides = [side.detach().double().numpy().reshape(passes, 12, -1) for side in (images, captions)]
    wanted = np.mean([reference_loss(x, y, scale.item(), recipe.cyclic_weight) for x in sides[0] for y in sides[1]])
    loss = stage1_loss(images, captions, scale, recipe)
    assert loss.item() == pytest.approx(wanted, abs=1e-5)
    loss.backward()
    assert towers.model.visual.conv1.weight.grad.abs().sum() > 0
    if recipe.mcsie:
        assert all(np.abs(side[0] - side[1]).max() > 1e-4 for side in sides), "dropout differs"
    assert len(list(towers.norms)) == (2 if recipe.layer_norm else 0)


@pytest.mark.parametrize(
    ("cyclic_weight", "smoothing", "joint"), [(0.0, 0.1, True), (0.25, 0.0, False)], ids=["LCO", "LCCO"]
)
def test_loss_as_released(cyclic_weight: float, smoothing: float, joint: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Stage1Recipe(cyclic_weight=cyclic_weight, mcsie=False, as_released=True)
    x, y = (torch.nn.functional.normalize(torch.randn(6, 8, dtype=torch.float64), dim=-1) for _ in range(2))
    logits = 20 * x @ y.T
    smoothed = np.mean([(torch.logsumexp(rows, 1) - rows.mean(1)).mean() for rows in (logits, logits.T)])
    wanted = (1 - smoothing) * reference_loss(x.numpy(), y.numpy(), 20, 0) + smoothing * smoothed
    wanted += reference_loss(x.numpy(), y.numpy(), 20, cyclic_weight) - reference_loss(x.numpy(), y.numpy(), 20, 0)
    assert stage1_loss(x, y, torch.tensor(20.0), recipe).item() == pytest.approx(wanted)
    monkeypatch.setattr(stage1, "gather", lambda rows: torch.cat([rows, rows.flip(0)]))
    assert (stage1_loss(x, y, torch.tensor(20.0), recipe).item() != pytest.approx(wanted)) == joint


def test_logit_scale_as_released_starts_at_100_without_a_limit() -> None:
    pixels, ids = torch.randn(2, 3, 32, 32), torch.zeros(2, 77, dtype=torch.long)
    for released, start, end in ((False, 1 / 0.07, 100), (True, 100, 150)):
        towers = PairTowers(tiny_models.encoder("tiny"), Stage1Recipe(mcsie=False, as_released=released))
        assert towers(pixels, ids)[2].item() == pytest.approx(start, rel=1e-4)
        towers.model.logit_scale.data.fill_(math.log(150))
        assert towers(pixels, ids)[2].item() == pytest.approx(end, rel=1e-4)


@pytest.mark.parametrize("released", [False, True])
def test_first_positions_are_frozen_as_released(released: bool, squares: Path, tmp_path: Path) -> None:
    recipe = Stage1Recipe(
        epochs=1, batch_size=6, learning_rate=1e-2, context_length=120, mcsie=False, as_released=released
    )
    _begin(tmp_path, recipe)
    encoder = load_encoder(f"local-dir:{tmp_path}")
    before = encoder.model.positional_embedding.detach().clone()
    images, captions, groups = long_captions(samples_of(squares), join=False)
    stage1.Stage1Trainer(encoder, images, captions, groups, recipe, seed=7, folder=tmp_path).run()
    after = load_encoder(f"local-dir:{tmp_path}").model.positional_embedding.detach()
    assert torch.equal(after[:20], before[:20]) == released
    assert not torch.equal(after[20:], before[20:])


def test_interrupted_run_resumes_to_the_same_weights(squares: Path, tmp_path: Path) -> None:
    recipe = Stage1Recipe(epochs=2, batch_size=6, learning_rate=1e-3, warmup=2, context_length=77)
    train(squares, tmp_path / "whole", recipe)
    for steps in (3, None):
        images, captions, groups = long_captions(samples_of(squares), join=False)
        if not (tmp_path / "parts").exists():
            _begin(tmp_path / "parts", recipe)
        encoder = load_encoder(f"local-dir:{tmp_path / 'parts'}")
        run = stage1.Stage1Trainer(encoder, images, captions, groups, recipe, seed=7, folder=tmp_path / "parts")
        run.run(every=2, stop_after=steps)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    whole, parts = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("whole", "parts"))
    assert whole == parts


def _begin(folder: Path, recipe: Stage1Recipe) -> None:
    from i0tscore.training.stage1 import _random_model

    write_stretched(_random_model("tiny", 7), "tiny", folder, length=recipe.context_length, keep=20)


def test_killed_run_repeats_the_steps_after_its_checkpoint(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Stage1Recipe(epochs=2, batch_size=6, learning_rate=1e-3, warmup=2, context_length=77)
    train(squares, tmp_path / "whole", recipe)
    rate = trainer.learning_rate

    def killed_at(last: int, highest: float, warmup: int, step: int, total: int) -> float:
        if step == last:
            raise KeyboardInterrupt
        return rate(highest, warmup, step, total)

    for last in (1, 4):  # before the first checkpoint, and between two
        monkeypatch.setattr(trainer, "learning_rate", partial(killed_at, last))
        with pytest.raises(KeyboardInterrupt):
            train(squares, tmp_path / "killed", recipe, every=3)
        with (tmp_path / "killed" / stage1.LOG).open("a") as log:
            log.write('{"step":')
    monkeypatch.setattr(trainer, "learning_rate", rate)
    train(squares, tmp_path / "killed", recipe, every=3)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    whole, killed = ((tmp_path / name / WEIGHTS_FILE).read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_run_without_checkpoint_starts_from_the_initial_weights(squares: Path, tmp_path: Path) -> None:
    recipe = Stage1Recipe(epochs=1, batch_size=6, learning_rate=1e-2, context_length=77)
    train(squares, tmp_path, recipe)
    once = losses(tmp_path)
    (tmp_path / stage1.CHECKPOINT).unlink()
    train(squares, tmp_path, recipe)
    assert losses(tmp_path) == once


def test_other_models_are_not_overwritten(squares: Path, tmp_path: Path) -> None:
    recipe = Stage1Recipe(epochs=1, batch_size=6, context_length=77)
    train(squares, tmp_path / "run", recipe)
    with pytest.raises(InputError, match="different model"):
        fine_tune("tiny-quickgelu", samples_of(squares), tmp_path / "run", recipe, from_scratch=True)
    _begin(tmp_path / "mine", recipe)
    with pytest.raises(UsageError, match="contains a model that is not from this command"):
        train(squares, tmp_path / "mine", recipe)


@pytest.mark.parametrize("model", ["tiny/openai", "local-dir:nowhere"])
def test_unknown_architectures_are_rejected(model: str, squares: Path, tmp_path: Path) -> None:
    recipe = Stage1Recipe(epochs=1, batch_size=6)
    with pytest.raises(UsageError, match="without a tag, or local-dir: with a folder"):
        fine_tune(model, samples_of(squares), tmp_path, recipe, from_scratch=True)


def test_checkpoint_of_another_recipe_is_rejected(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path, Stage1Recipe(epochs=1, batch_size=6, context_length=77))
    with pytest.raises(InputError, match="learning_rate"):
        train(squares, tmp_path, Stage1Recipe(epochs=1, batch_size=6, context_length=77, learning_rate=1.0))


def test_workers_do_not_use_the_device(squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process cannot use CUDA, so tokens are moved to the device by the process that trains."""
    recipe = Stage1Recipe(epochs=1, batch_size=6, context_length=77)
    train(squares, tmp_path / "none", recipe)
    pad = OpenClipEncoder.pad

    def pad_in_main_process(self: OpenClipEncoder, tokens: Any) -> torch.Tensor:
        assert torch.utils.data.get_worker_info() is None
        return pad(self, tokens)

    monkeypatch.setattr(OpenClipEncoder, "pad", pad_in_main_process)
    train(squares, tmp_path / "one", recipe, workers=1)
    assert losses(tmp_path / "one") == losses(tmp_path / "none")


def test_training_in_bf16(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path, Stage1Recipe(epochs=1, batch_size=6, context_length=77), autocast=True)
    assert np.isfinite(losses(tmp_path)).all()


def test_two_processes_train_like_one_with_their_joint_batch(squares: Path, tmp_path: Path) -> None:
    """Under torchrun and without dropout, which differs between processes."""
    common = [
        str(squares / "captions.json"), str(squares), "--model", "tiny", "--from-scratch",
        "--no-mcsie", "--epochs", "2", "--learning-rate", "1e-3", "--warmup", "2", "--context-length", "77",
    ]  # fmt: skip
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, pathlib\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import tempfile, tiny_models\n"
        "tiny_models.register(pathlib.Path(tempfile.mkdtemp()))\n"
        "from i0tscore.training.stage1 import main\n"
        "main()\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    one = [sys.executable, str(script), *common, "--batch-size", "8", "--output", str(tmp_path / "one")]
    two = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script),
        *common, "--batch-size", "4", "--output", str(tmp_path / "two"),
    ]  # fmt: skip
    for command in (one, two):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "local-dir:" in done.stdout
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), atol=1e-4)
    assert len(losses(tmp_path / "one")) == 6
