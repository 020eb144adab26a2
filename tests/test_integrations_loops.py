"""The training loops of the example, the callbacks, and the reward."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from examples_on_disk import EXAMPLES, write_examples
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset

import i0tscore
from i0tscore.errors import InputError, MissingExtraError, StatisticsError, UsageError
from i0tscore.gap import Moments, Statistics
from i0tscore.integrations import lightning as our_lightning
from i0tscore.integrations import transformers as our_transformers
from i0tscore.integrations.reward import I0TReward
from i0tscore.integrations.validation import Validation, evaluating

pytestmark = [
    pytest.mark.filterwarnings("ignore:The statistics were computed from only"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*`isinstance.treespec, LeafSpec"),
]

CAPTIONS = json.loads((EXAMPLES / "captions.json").read_text())
REFERENCES = json.loads((EXAMPLES / "references.json").read_text())
GOOD = list(CAPTIONS.values())
SAME = ["a man in a shirt"] * len(GOOD)
EMPTY = [" "] * len(GOOD)


class Counting:
    """Wraps an encoder and counts what it encodes."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.images = self.texts = 0

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_pixels(self, pixels):
        self.images += len(pixels)
        return self._encoder.encode_pixels(pixels)

    def encode_tokens(self, tokens):
        self.texts += len(tokens)
        return self._encoder.encode_tokens(tokens)


@pytest.fixture(scope="module")
def lite():
    return i0tscore.load_encoder("lite")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    tiny_models.register(tmp_path_factory.mktemp("configs"))
    return tiny_models.encoder("tiny")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = write_examples(tmp_path_factory.mktemp("loops")) / "images"
    return [next(folder.glob(f"{name}.*")) for name in CAPTIONS]


@pytest.fixture(scope="module")
def embeddings(lite, images):
    return I0TReward(lite).embed(images)


@pytest.fixture(scope="module")
def example():
    """Import the modules of examples/captioner, which is not a package."""
    names = ("captioner", "corpus", "loops", "self_critical", "train")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES / "captioner")
        yield {name: importlib.import_module(name) for name in names}
        for name in names:
            del sys.modules[name]


@pytest.fixture
def corpus(example, embeddings):
    captions = [[CAPTIONS[name], *REFERENCES[name]] for name in CAPTIONS]
    return example["corpus"].Corpus.of((embeddings, captions), (embeddings, captions), least=1)


def schedule(*epochs):
    """Return a ``generate`` that returns one list of captions per call."""
    pending = iter(epochs)
    return lambda model, images: next(pending)


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch, _):
        return (self.weight - 1).square().sum()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def run_lightning(validation, epochs, folder, *callbacks, prefix="val/", loggers=()):
    """Run a few trivial epochs with the callback, and return the trainer."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[our_lightning.I0TScoreCallback(validation, prefix=prefix), *callbacks],
        logger=[CSVLogger(folder), *loggers],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
    )
    data = DataLoader(TensorDataset(torch.zeros(2)))
    trainer.fit(Module(), data, data)
    return trainer


def logged_by(trainer, name):
    """Return the values that the logger got for a name, by epoch."""
    rows = (Path(trainer.logger.log_dir) / "metrics.csv").read_text().splitlines()
    table = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    return [float(row[name]) for row in table if row.get(name)]


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, labels):
        return {"loss": (self.weight - 1).square().sum()}


def trainer_of_transformers(validation, epochs, folder, callbacks=(), **settings):
    from transformers import Trainer as HuggingFaceTrainer
    from transformers import TrainingArguments

    arguments = {
        "num_train_epochs": epochs,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "prediction_loss_only": True,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    rows = [{"x": torch.zeros(1), "labels": torch.zeros(1)}] * 2
    return HuggingFaceTrainer(
        Regression(),
        TrainingArguments(str(folder), **{**arguments, **settings}),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[our_transformers.I0TScoreCallback(validation), *callbacks],
    )


def history(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.filterwarnings("ignore:.* captions are the same")
def test_all_loops_learn_and_log_the_same_scores(example, corpus, lite):
    logs = {name: loop(corpus, lite, epochs=6)[1] for name, loop in example["loops"].LOOPS.items()}
    losses = [epoch["loss"] for epoch in logs["plain"]]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.5
    for name in ("loss", "I0TScore", "I0TScore_low", "I0TScore_high"):
        figures = [[epoch[name] for epoch in log] for log in logs.values()]
        np.testing.assert_allclose(figures[1], figures[0], atol=1e-5)
        np.testing.assert_allclose(figures[2], figures[0], atol=1e-5)


def test_self_critical_training_raises_the_reward(example, corpus, lite):
    model, _ = example["loops"].plain(corpus, lite, epochs=8)
    before = [p.detach().clone() for p in model.parameters()]
    rewards = example["self_critical"].train(model, corpus, lite, steps=15, batch=24, rate=2e-3)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.02


@pytest.mark.filterwarnings("ignore:.* captions are the same")
@pytest.mark.data
@pytest.mark.parametrize("loop", ["plain", "lightning", "transformers"])
def test_the_example_runs_on_flickr8k(example, lite, data_dir, loop, capsys, monkeypatch, tmp_path_factory):
    cache = tmp_path_factory.getbasetemp() / "captioner-cache"
    options = ["--images", "16", "--validation", "6", "--steps", "4", "--cache-dir", str(cache)]
    monkeypatch.setattr("sys.argv", ["train.py", "--loop", loop, "--data", str(data_dir), "--reward", "1", *options])
    monkeypatch.setattr(example["train"], "load_encoder", lambda name: lite)
    example["train"].main()
    lines = capsys.readouterr().out.splitlines()
    epochs = [line for line in lines if line.startswith("|")][2:]
    assert len(epochs) == 3  # 80 pairs in batches of 64: 4 steps are closest to 3 epochs
    assert any("stats:flickr8k-train" in line and "|n:6|" in line for line in lines)


def test_logged_scores_equal_i0t_score_and_images_are_encoded_once(lite, images, tmp_path):
    expected = i0tscore.i0t_score(images, GOOD, model=lite, statistics="builtin")["I0TScore"]
    shuffled = GOOD[1:] + GOOD[:1]
    encoder = Counting(lite)
    trainer = run_lightning(Validation(images, schedule(shuffled, GOOD), model=encoder), 2, tmp_path)
    assert encoder.images == len(images)
    scores = logged_by(trainer, "val/I0TScore")
    assert len(scores) == 2
    assert scores[0] < 0.2 < scores[1]
    assert scores[1] == pytest.approx(expected.mean, abs=1e-5)
    assert logged_by(trainer, "val/I0TScore_low")[1] == pytest.approx(expected.interval[0], abs=1e-4)
    assert logged_by(trainer, "val/I0TScore_n") == [7, 7]

    encoder = Counting(lite)
    validation = Validation(images, schedule(shuffled, GOOD, GOOD), model=encoder)
    trainer = trainer_of_transformers(validation, 2, tmp_path)
    trainer.train()
    assert history(trainer, "eval_I0TScore") == pytest.approx(scores, abs=1e-5)
    assert trainer.evaluate()["eval_I0TScore_high"] == pytest.approx(expected.interval[1], abs=1e-4)
    assert encoder.images == len(images)
    assert str(validation.result["I0TScore"].signature) == str(expected.signature)


@pytest.mark.filterwarnings("ignore:.* captions are the same")
def test_identical_captions_have_scores_only_under_fixed_statistics(lite, embeddings):
    with pytest.warns(UserWarning, match="7 of 7 captions are the same: 'a man in a shirt'"):
        fixed = Validation(embeddings, schedule(SAME), model=lite)(nn.Identity())
    expected = i0tscore.i0t_score(embeddings, SAME, model=lite, statistics="builtin")["I0TScore"].mean
    assert fixed["I0TScore"] == pytest.approx(expected)
    assert fixed["I0TScore_n"] == 7
    batch = Validation(embeddings, schedule(SAME), model=lite, statistics="batch")
    with pytest.warns(UserWarning, match="7 undefined. First: 0: no score: an embedding equals its reference"):
        scores = batch(nn.Identity())
    assert scores == {"I0TScore": None, "I0TScore_low": None, "I0TScore_high": None, "I0TScore_n": 0}
    assert batch.result["I0TScore"].mean is None


def test_empty_captions_are_skipped_with_a_warning(lite, embeddings):
    validation = Validation(embeddings, schedule([*GOOD[:6], ""], EMPTY), model=lite)
    with pytest.warns(UserWarning, match="1 skipped. First: 6: the caption is empty"):
        scores = validation(nn.Identity())
    assert scores["I0TScore_n"] == 6
    with pytest.warns(UserWarning, match="Every caption is empty"):
        scores = validation(nn.Identity())
    assert scores["I0TScore"] is None
    assert validation.result is None


@pytest.mark.filterwarnings("ignore:.* captions are the same")
def test_lightning_never_selects_undefined_epochs(lite, embeddings, tmp_path):
    validation = Validation(embeddings, schedule(EMPTY, GOOD, SAME, EMPTY), model=lite)
    best = ModelCheckpoint(tmp_path / "best", monitor="I0TScore", mode="max", filename="{epoch}")
    stop = EarlyStopping("I0TScore", mode="max", patience=2)
    with pytest.warns(UserWarning, match="Every caption is empty"):
        trainer = run_lightning(validation, 4, tmp_path, best, stop, prefix="")
    scores = logged_by(trainer, "I0TScore")
    assert len(scores) == 2
    assert float(best.best_model_score) == pytest.approx(scores[0])
    assert best.best_model_path.endswith("epoch=1.ckpt")
    assert stop.stopped_epoch == 3
    assert float(trainer.callback_metrics["I0TScore"]) == -1


@pytest.mark.filterwarnings("ignore:.* captions are the same")
def test_transformers_never_selects_undefined_epochs(lite, embeddings, tmp_path):
    validation = Validation(embeddings, schedule(EMPTY, GOOD, SAME, EMPTY), model=lite)
    trainer = trainer_of_transformers(
        validation,
        3,
        tmp_path,
        save_strategy="best",
        metric_for_best_model="I0TScore",
        greater_is_better=True,
    )
    with pytest.warns(UserWarning, match="Every caption is empty"):
        trainer.train()
    scores = history(trainer, "eval_I0TScore")
    assert len(scores) == 2
    assert trainer.state.best_metric == pytest.approx(scores[0])
    assert trainer.state.best_global_step == trainer.state.max_steps * 2 // 3
    trainer.args.metric_for_best_model = None
    with pytest.warns(UserWarning, match="Every caption is empty"):
        assert "eval_I0TScore" not in trainer.evaluate()


def test_reporters_of_transformers_get_scores_through_log(lite, embeddings, tmp_path):
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        seen = ()

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.seen = (*self.seen, *logs)

    reporter = Reporter()
    trainer = trainer_of_transformers(Validation(embeddings, schedule(GOOD, GOOD), model=lite), 2, tmp_path, [reporter])
    callback = next(c for c in trainer.callback_handler.callbacks if isinstance(c, our_transformers.I0TScoreCallback))
    callback.log = trainer.log
    trainer.train()
    assert reporter.seen.count("eval_I0TScore") == 2
    assert len(history(trainer, "eval_I0TScore")) == 2


def test_a_page_is_written_for_each_validation(lite, images, embeddings, tmp_path):
    folder = tmp_path / "reports" / "run"
    validation = Validation(images, schedule(GOOD, [*GOOD[:6], ""], EMPTY), model=lite, report_dir=folder)
    validation(nn.Identity())
    with pytest.warns(UserWarning, match="1 skipped"):
        validation(nn.Identity())
    with pytest.warns(UserWarning, match="Every caption is empty"):
        validation(nn.Identity())
    again = Validation(embeddings, schedule(GOOD), model=lite, report_dir=folder, ids=list(CAPTIONS))
    again(nn.Identity())
    pages = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(pages) == [f"validation-000{number}.html" for number in (1, 2, 3)]
    thumbnails = [page.count('src="data:image/jpeg') for _, page in sorted(pages.items())]
    assert thumbnails == [7, 6, 0], "the third page is of embeddings"
    with pytest.raises(InputError, match="Expected unique ids, got 'x' more than once"):
        Validation(embeddings, schedule(GOOD), model=lite, ids=["x"] * 7)


def test_loggers_get_the_images_with_the_lowest_scores(lite, images, tmp_path):
    class Recorder(WandbLogger):
        """Records images; the real one logs in to a server."""

        name = version = experiment = save_dir = None
        log_metrics = log_hyperparams = after_save_checkpoint = finalize = log_graph = lambda self, *_, **__: None

        def __init__(self):
            self.logged = []

        def log_image(self, key, images, step=None, **kwargs):
            self.logged.append((key, [image.size for image in images], step, kwargs["caption"]))

    wrong = [*GOOD[:4], GOOD[5], GOOD[4], ""]
    recorder = Recorder()
    with pytest.warns(UserWarning, match="1 skipped"):
        run_lightning(Validation(images, schedule(wrong), model=lite), 1, tmp_path, loggers=[recorder])
    ((key, sizes, step, captions),) = recorder.logged
    assert (key, step) == ("val/lowest", 2)
    assert {caption.partition(": ")[2] for caption in captions[:2]} == {GOOD[4], GOOD[5]}
    scores = [float(caption.partition(": ")[0]) for caption in captions]
    assert scores == sorted(scores)
    assert len(sizes) == 4
    assert max(map(max, sizes)) <= 320


def test_tensorboard_shows_the_images_with_the_lowest_scores(lite, images, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    logger = TensorBoardLogger(tmp_path, name="board")
    swapped = [GOOD[1], GOOD[0], *GOOD[2:]]
    run_lightning(Validation(images, schedule(swapped), model=lite), 1, tmp_path, loggers=[logger])
    trainer = trainer_of_transformers(Validation(images, schedule(swapped), model=lite), 1, tmp_path)
    callback = next(c for c in trainer.callback_handler.callbacks if isinstance(c, our_transformers.I0TScoreCallback))
    with SummaryWriter(tmp_path / "writer") as callback.writer:
        trainer.train()
    tags = EventAccumulator(str(tmp_path / "writer")).Reload().Tags()
    assert tags["images"] == [f"eval_lowest/{number}" for number in (1, 2, 3, 4)]
    assert tags["tensors"] == ["eval_lowest/text_summary"]
    board = EventAccumulator(logger.log_dir).Reload()
    assert board.Tags()["images"] == [f"val/lowest/{number}" for number in (1, 2, 3, 4)]
    (event,) = board.Images("val/lowest/1")
    assert event.step == 2
    assert max(event.width, event.height) <= 320
    (table,) = board.Tensors("val/lowest/text_summary")
    rows = table.tensor_proto.string_val[0].decode().splitlines()[2:]
    assert len(rows) == 4
    assert sum(any(caption in row for caption in swapped[:2]) for row in rows[:2]) == 2


def test_images_that_vanish_during_training_are_left_out(lite, images, tmp_path):
    copies = [tmp_path / image.name for image in images]
    for source, copy in zip(images, copies, strict=True):
        copy.write_bytes(source.read_bytes())
    validation = Validation(copies, schedule(GOOD), model=lite)
    assert validation.lowest(2) == []
    validation(nn.Identity())
    first, second = validation.lowest(2)
    assert first.score < second.score
    assert first.id == str(GOOD.index(first.caption))
    copies[GOOD.index(first.caption)].unlink()
    with pytest.warns(UserWarning, match="there is no such file"):
        assert [sample.caption for sample in validation.lowest(2)] == [second.caption]


def test_the_lowest_scores_have_the_ids_of_their_images(lite, images):
    validation = Validation(images, schedule(GOOD), ids=[image.name for image in images], model=lite)
    validation(nn.Identity())
    lowest = validation.lowest(7)
    assert {sample.id: sample.caption for sample in lowest} == dict(zip([i.name for i in images], GOOD, strict=True))


def test_a_caption_of_most_images_causes_a_warning(lite, embeddings):
    mostly = [GOOD[0]] * 4 + GOOD[4:]
    with pytest.warns(UserWarning, match=f"4 of 7 captions are the same: '{GOOD[0]}'"):
        Validation(embeddings, schedule(mostly), model=lite)(nn.Identity())


def test_validation_rejects_wrong_captions_images_and_statistics(lite, tiny, embeddings, images):
    with pytest.raises(InputError, match="got 6 for 7 images"):
        Validation(embeddings, schedule(GOOD[:6]), model=lite)(nn.Identity())
    with pytest.raises(InputError, match="Expected a list of captions from generate, got one string"):
        Validation(embeddings, schedule("7 words"), model=lite)(nn.Identity())
    with pytest.raises(InputError, match="Expected generate to return strings, got NoneType"):
        Validation(embeddings, schedule([*GOOD[:6], None]), model=lite)(nn.Identity())
    with pytest.raises(InputError, match=r"missing\.png"):
        Validation([*images, "missing.png"], schedule(GOOD), model=lite).prepare()
    with pytest.raises(StatisticsError, match="No statistics are shipped"):
        Validation(embeddings, schedule(GOOD), model=tiny).prepare()


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("lightning", "lightning.pytorch"),
        ("transformers", "transformers"),
        ("transformers", "accelerate.utils"),
    ],
)
def test_without_its_extra_a_callback_names_the_extra(monkeypatch, module, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, f"i0tscore.integrations.{module}")
    with pytest.raises(MissingExtraError, match=rf'pip install "i0tscore\[{module}\]"'):
        importlib.import_module(f"i0tscore.integrations.{module}")


def test_evaluating_restores_the_mode_of_each_module():
    model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    model.train()
    model[0].eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
        assert not model[1](torch.ones(1, 2)).requires_grad
    assert [part.training for part in model.modules()] == [True, False, True]


def test_rewards_equal_i0t_score_and_encode_distinct_captions_once(lite, embeddings):
    encoder = Counting(lite)
    reward = I0TReward(encoder, batch_size=2)
    captions = [[GOOD[i], GOOD[i], SAME[0]] for i in range(7)]
    rewards = reward(embeddings, captions)
    assert encoder.texts == 8
    assert rewards.shape == (7, 3)
    result = i0tscore.i0t_score(embeddings, GOOD, model=lite, statistics="builtin")["I0TScore"]
    np.testing.assert_allclose(rewards[:, 0], result.values, atol=1e-5)
    assert torch.equal(rewards[:, 0], rewards[:, 1])
    y = lite.encode_tokens(lite.tokenize(["A photo depicts " + SAME[0]] * 7))
    means = reward.statistics.image.mean, reward.statistics.caption.mean
    expected = i0tscore.functional.i0t_score(embeddings, y, *means)
    torch.testing.assert_close(rewards[:, 2], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(reward(embeddings, GOOD), rewards[:, 0], atol=1e-5, rtol=0)


class OnTheDevice(TorchFunctionMode):
    """Fails on every function that copies a tensor from its device."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function.__name__ not in {"cpu", "numpy", "tolist", "item", "__array__"}, function.__name__
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rewards_stay_on_the_device_without_gradient(lite, embeddings, dtype):
    reward = I0TReward(lite)
    images = embeddings.clone().to(dtype).requires_grad_()
    with OnTheDevice():
        rewards = reward(images, GOOD)
    assert (rewards.dtype, rewards.device, rewards.requires_grad) == (dtype, images.device, False)
    weight = torch.ones(7, dtype=dtype, requires_grad=True)
    (rewards * weight).sum().backward()
    assert torch.equal(weight.grad, rewards)
    assert reward(images[:0], []).shape == (0,)


def test_undefined_rewards_have_the_given_value(lite, embeddings):
    empty = [*GOOD[:6], " "]
    assert float(I0TReward(lite)(embeddings, empty)[6]) == -1
    rewards = I0TReward(lite, undefined=0.25)(embeddings, empty)
    assert float(rewards[6]) == 0.25
    assert bool((rewards[:6] != 0.25).all())
    alone, texts = embeddings[:1].numpy(), lite.encode_tokens(lite.tokenize(GOOD)).numpy()
    means = Moments.of(np.repeat(alone, 2, axis=0)), Moments.of(texts)
    at_mean = Statistics("one", "lite", lite.fingerprint.space, "A photo depicts ", *means)
    assert I0TReward(lite, at_mean)(embeddings, GOOD).eq(-1).tolist() == [True] + [False] * 6


def test_the_reward_rejects_batch_statistics_and_mismatched_captions(lite, tiny, embeddings):
    with pytest.raises(StatisticsError, match="Expected fixed statistics, got 'batch'"):
        I0TReward(lite, "batch")
    with pytest.raises(StatisticsError, match="belong to lite"):
        I0TReward(tiny, I0TReward(lite).statistics)
    for captions in (GOOD[:6], [GOOD[:2]] * 6 + [GOOD[:1]]):
        with pytest.raises(InputError, match="Expected 7 captions, or 7 lists"):
            I0TReward(lite)(embeddings, captions)
    with pytest.raises(InputError, match="Expected a list of captions, got one string"):
        I0TReward(lite)(embeddings, "a dog")


def test_the_reward_takes_captions_by_position(lite, embeddings):
    expected = I0TReward(lite)(embeddings, GOOD)
    for captions in (pd.Series(GOOD, index=range(7)[::-1]), iter(GOOD), np.array(GOOD)):
        torch.testing.assert_close(I0TReward(lite)(embeddings, captions), expected)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (["a dog", None], "Expected captions to be strings, got NoneType"),
        ([["a dog"], [3]], "Expected captions to be strings, got int"),
    ],
)
def test_the_reward_accepts_only_tensors_and_strings(lite, embeddings, captions, message):
    reward = I0TReward(lite)
    with pytest.raises(InputError, match=message):
        reward(embeddings[:2], captions)
    with pytest.raises(InputError, match=r"got ndarray\. Use embed"):
        reward(embeddings[:2].numpy(), ["a dog", "a cat"])


def test_validation_keeps_generators_for_every_epoch_and_takes_columns_by_position(lite, images):
    def generate(model, given):
        assert list(given) == list(images)
        return pd.Series(GOOD, index=range(7)[::-1])

    references = [[caption, "a thing"] for caption in GOOD]
    options = {"model": lite, "metrics": "RefI0TScore", "resamples": 0}
    expected = Validation(images, generate, references=references, **options)(nn.Identity())
    column = pd.Series(images, index=range(7)[::-1])
    for one in (
        Validation(iter(images), generate, references=iter(references), ids=iter("abcdefg"), **options),
        Validation(column, generate, references=pd.Series(references, index=range(7)[::-1]), **options),
    ):
        assert one(nn.Identity()) == one(nn.Identity()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (lambda images: set(images), {}, "Expected images in a list, got a set"),
        (lambda images: str(images[0]), {}, "Expected a list of images, got one string"),
        (lambda images: images, {"references": [["a dog"]]}, "as many references as images, got 1 references and 7"),
        (lambda images: images, {"ids": ["a"]}, "as many ids as images, got 1 ids and 7 images"),
    ],
)
def test_validation_checks_its_columns_before_training(images, given, options, message):
    with pytest.raises(InputError, match=message):
        Validation(given(images), lambda model, images: GOOD, model="lite", **options)


def test_validation_rejects_auto_statistics(embeddings):
    with pytest.raises(UsageError, match="epochs are not comparable"):
        Validation(embeddings, print, model="lite", statistics="auto")
    Validation(embeddings, print, model="lite", statistics="auto", metrics="CLIPScore")
