"""Train the same captioner with a plain loop, Lightning, and the transformers Trainer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from captioner import Captioner
from corpus import Corpus

from i0tscore import I0TScorer
from i0tscore.encoders.base import Encoder
from i0tscore.integrations.validation import Validation, evaluating

RATE = 2e-3
BATCH = 64
Epochs = list[dict[str, float | None]]
"""Per epoch ``loss``, the validation loss; ``I0TScore``; and the ends of its interval."""


def new_captioner(corpus: Corpus, seed: int) -> Captioner:
    """Return the captioner with the same initial weights for every loop."""
    torch.manual_seed(seed)
    return Captioner(corpus.vocabulary, corpus.train.features.shape[1])


def greedy(model: Captioner, images: torch.Tensor) -> list[str]:
    """Return captions for ``Validation``, whose images are embeddings here."""
    return model.greedy(images)


def plain(corpus: Corpus, encoder: Encoder, *, epochs: int, seed: int = 0) -> tuple[Captioner, Epochs]:
    """Train with a plain torch loop and the scorer's ``update``, ``compute``, and ``reset``."""
    model = new_captioner(corpus, seed)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0)
    train, validation = corpus.loaders(BATCH, seed)
    scorer = I0TScorer(encoder, statistics="builtin", metrics="I0TScore", on_error="skip")
    log: Epochs = []
    for _ in range(epochs):
        for batch in train:
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()
        with evaluating(model):
            losses = [float(model(**batch)["loss"]) for batch in validation]
            for features in corpus.validation.features.split(BATCH):
                scorer.update(features, greedy(model, features))
        score = scorer.compute()["I0TScore"]
        scorer.reset()
        low, high = score.interval or (None, None)
        log.append(
            {
                "loss": sum(losses) / len(losses),
                "I0TScore": score.mean,
                "I0TScore_low": low,
                "I0TScore_high": high,
            }
        )
    return model, log


def lightning(corpus: Corpus, encoder: Encoder, *, epochs: int, seed: int = 0) -> tuple[Captioner, Epochs]:
    """Train with Lightning and the callback, and save the checkpoint of the epoch with the best I0TScore."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint

    from i0tscore.integrations.lightning import I0TScoreCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.captioner = new_captioner(corpus, seed)

        def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
            return self.captioner(**batch)["loss"]

        def validation_step(self, batch: dict[str, torch.Tensor], _: int) -> None:
            self.log("val/loss", self.captioner(**batch)["loss"], batch_size=1)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), RATE, weight_decay=0)

    log: Epochs = []

    class Log(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            log.append({name.removeprefix("val/"): float(v) for name, v in trainer.callback_metrics.items()})

    scores = Validation(
        corpus.validation.features, lambda module, images: greedy(module.captioner, images), model=encoder
    )
    module = Module()
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(folder, monitor="val/I0TScore", mode="max")
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            callbacks=[I0TScoreCallback(scores), best, Log()],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, *corpus.loaders(BATCH, seed))
    return module.captioner, log


def transformers(corpus: Corpus, encoder: Encoder, *, epochs: int, seed: int = 0) -> tuple[Captioner, Epochs]:
    """Train with the transformers Trainer and the callback, and save the checkpoint with the best I0TScore."""
    from transformers import Trainer, TrainingArguments

    from i0tscore.integrations.transformers import I0TScoreCallback

    loader = corpus.loaders(BATCH, seed)[0]

    class SameOrderTrainer(Trainer):
        """Uses the training batches in the order of the other loops."""

        def get_train_dataloader(self) -> Any:
            return loader

    scores = Validation(corpus.validation.features, greedy, model=encoder)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_eval_batch_size=BATCH,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=0,
            eval_strategy="epoch",
            save_strategy="best",
            metric_for_best_model="I0TScore",
            greater_is_better=True,
            prediction_loss_only=True,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        model = new_captioner(corpus, seed)
        trainer = SameOrderTrainer(
            model,
            arguments,
            train_dataset=corpus.train,
            eval_dataset=corpus.validation,
            callbacks=[I0TScoreCallback(scores)],
        )
        trainer.train()
    log = [
        {name.removeprefix("eval_"): v for name, v in entry.items()}
        for entry in trainer.state.log_history
        if "eval_loss" in entry
    ]
    return model, log


LOOPS: dict[str, Callable[..., tuple[Captioner, Epochs]]] = {
    "plain": plain,
    "lightning": lightning,
    "transformers": transformers,
}
