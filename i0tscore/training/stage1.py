"""Stage 1 of I0T: fine-tune a CLIP on long captions, in one process or under torchrun.

The result is a folder that ``--model local-dir:FOLDER`` scores with, like any other open_clip model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from i0tscore.encoders.base import Tokens
from i0tscore.encoders.images import ImageInput, decode
from i0tscore.encoders.openclip import OpenClipEncoder
from i0tscore.errors import InputError
from i0tscore.training.checkpoint import read_checkpoint, write_checkpoint
from i0tscore.training.positions import write_weights
from i0tscore.training.schedule import Rows, draw_batches, learning_rate
from i0tscore.training.stage1_model import PairTowers, Stage1Recipe, stage1_loss

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
NORMS = "output-norms.safetensors"


class PairDataset(Dataset[tuple[torch.Tensor, Tokens]]):
    """Pictures and tokens of the pairs, prepared when they are asked for.

    Args:
        encoder: Whose way of preparing.
        images: One a pair.
        captions: One a pair, prefix included.
    """

    def __init__(self, encoder: OpenClipEncoder, images: Sequence[ImageInput], captions: Sequence[str]) -> None:
        self._preprocess, self._images = encoder.preprocess, images
        self._tokens = encoder.tokenize(captions)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, Tokens]:
        return self._preprocess(decode(self._images[row])), self._tokens[row]


class Stage1Trainer:
    """One training run, which can be broken off and taken up again.

    Args:
        encoder: A model in fp32 whose positions are already stretched; its parameters are trained.
        images: One a pair: what ``I0TScorer.score`` takes.
        captions: One a pair, prefix included.
        groups: Which image each pair has (n,): a batch holds an image once as far as possible.
        recipe: How.
        seed: Of order and dropout.
        folder: Where log, checkpoint and weights go; the model's own folder.
        model: What the run began from, in words: a checkpoint of a run from something else is refused.
        workers: Processes that prepare images; 0 for none.
        autocast: Whether the towers compute in bf16 where that is safe; weights stay fp32.

    Raises:
        InputError: There are fewer pairs than one step of all processes takes.
    """

    def __init__(
        self,
        encoder: OpenClipEncoder,
        images: Sequence[ImageInput],
        captions: Sequence[str],
        groups: Rows,
        recipe: Stage1Recipe,
        *,
        seed: int,
        folder: Path,
        model: str = "",
        workers: int = 0,
        autocast: bool = False,
    ) -> None:
        self._encoder, self._recipe, self._seed, self._folder = encoder, recipe, seed, folder
        self._model = model
        self._data, self._groups, self._workers = PairDataset(encoder, images, captions), groups, workers
        self._autocast = autocast
        told = "\n".join(captions).encode() + np.ascontiguousarray(groups).tobytes()
        self._pairs = hashlib.sha256(told).hexdigest()[:16]
        self._rank, self._world = rank(), world()
        self._size = recipe.batch_size * self._world
        if len(images) < self._size:
            raise InputError(f"{len(images)} pairs do not fill a step of {self._size}: smaller batches, or more pairs")
        torch.manual_seed(seed)
        self.towers = PairTowers(encoder, recipe)
        self._wrapped: nn.Module = DistributedDataParallel(self.towers) if distributed.is_initialized() else self.towers
        self._optimizer = torch.optim.AdamW(
            [p for p in self.towers.parameters() if p.requires_grad], weight_decay=recipe.weight_decay
        )
        self._a_epoch = len(images) // self._size
        self.step, self.total = 0, recipe.epochs * self._a_epoch

    def run(self, *, every: int = 500, progress: bool = False, stop_after: int | None = None) -> None:
        """Train to the end, from the folder's checkpoint if there is one, and write the weights.

        Args:
            every: Steps between two checkpoints.
            progress: Whether to show a bar on stderr.
            stop_after: Steps after which to break off with a checkpoint, for runs in parts.

        Raises:
            InputError: The checkpoint is damaged or of another run; the loss is not finite.
        """
        file = self._folder / CHECKPOINT
        identity = {
            "model": self._model,
            "pairs": self._pairs,
            "seed": self._seed,
            "world": self._world,
            **asdict(self._recipe),
        }
        if file.exists():
            self.step = read_checkpoint(file, identity, self.towers, self._optimizer)
        end = self.total if stop_after is None else min(self.total, self.step + stop_after)
        bar = tqdm(total=self.total, initial=self.step, unit=" steps", file=sys.stderr, disable=not progress)
        with bar, self._open_log() as log:
            for pixels, ids in self._batches(end):
                line = {"step": self.step + 1, **self._advance(pixels, ids)}
                bar.update()
                log.write(json.dumps(line) + "\n")
                if self._rank == 0 and (self.step % every == 0 or self.step == end):
                    write_checkpoint(file, identity, self.towers, self._optimizer, self.step)
        if self._rank == 0 and self.step == self.total:
            self._write()

    def _open_log(self) -> TextIO:
        """The log without the lines of steps that are made again; none but the first process has one."""
        file = self._folder / LOG if self._rank == 0 else Path(os.devnull)
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        file.write_text("".join(lines[: self.step]), encoding="utf-8")
        return file.open("a", buffering=1, encoding="utf-8")

    def _advance(self, pixels: torch.Tensor, ids: torch.Tensor) -> dict[str, float]:
        rate = learning_rate(self._recipe.learning_rate, self._recipe.warmup, self.step, self.total)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        # Dropout follows from seed, step and process alone, so that a resumed run goes on as it would have.
        torch.manual_seed(int(np.random.SeedSequence([self._seed, self.step, self._rank]).generate_state(1)[0]))
        device = self._encoder.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._autocast):
            encoded = self._wrapped(pixels.to(device), ids)
        loss = stage1_loss(encoded, self._recipe)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.step += 1
        if not torch.isfinite(loss):
            raise InputError(f"the loss is not finite at step {self.step}: a lower learning rate, or fp32")
        return {"loss": loss.item(), "rate": rate, "scale": encoded.scale.item()}

    def _batches(self, end: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's part of every batch from the present step to ``end``."""
        while self.step < end:
            epoch, place = divmod(self.step, self._a_epoch)
            drawn = draw_batches(self._groups, self._size, self._seed, epoch)[place : place + end - self.step]
            own = [rows[self._rank :: self._world].tolist() for rows in drawn]
            logging.getLogger("i0tscore").info("epoch %d, from step %d", epoch + 1, self.step + 1)
            yield from DataLoader(self._data, batch_sampler=own, num_workers=self._workers, collate_fn=self._collate)

    def _collate(self, pairs: list[tuple[torch.Tensor, Tokens]]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([pixels for pixels, _ in pairs]), self._encoder.pad([tokens for _, tokens in pairs])

    def _write(self) -> None:
        from safetensors.torch import save_file

        write_weights(self.towers.model.state_dict(), self._folder)
        if len(self.towers.norms):
            save_file({k: v.cpu() for k, v in self.towers.norms.state_dict().items()}, self._folder / NORMS)


def rank() -> int:
    """This process's number."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started; nothing where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
