"""What both trainings share: recipe, batches, learning rate, and a training loop that resumes from checkpoints.

Everything random follows from the seed and the step number alone, so an interrupted run resumes exactly.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from i0tscore.errors import InputError, UsageError
from i0tscore.files import replace_file

SCHEMA = "i0tscore.checkpoint/1"

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of a training run; the defaults are those of An et al. 2025.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Pairs per step (and process), at least 2.
        learning_rate: Peak learning rate: linear warmup, then half a cosine down to 0.
        weight_decay: Weight decay of AdamW.
        warmup: Warmup steps; a shorter run ends during warmup.
        cyclic_weight: Weight of each of the two cyclic losses; 0 for the contrastive loss alone.
        mcsie: Whether to encode each batch twice under dropout and average the loss over the four pairs
            of passes.
        dropout: Share of the attention weights that MCSIE drops.
        as_released: Whether to follow the authors' code where it differs from the paper: MCSIE applies dropout to the
            output of every MLP too.

    Raises:
        UsageError: A value is out of range.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-6
    weight_decay: float = 1e-2
    warmup: int = 200
    cyclic_weight: float = 0.25
    mcsie: bool = True
    dropout: float = 0.1
    as_released: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        minimums = {"epochs": 1, "batch_size": 2, "learning_rate": 0, "weight_decay": 0, "warmup": 0}
        for name, minimum in {**minimums, "cyclic_weight": 0}.items():
            value = getattr(self, name)
            if not minimum <= value < math.inf:
                raise UsageError(f"Expected {name} to be finite and at least {minimum}, got {value}.")


class Trainer:
    """A training run that resumes from its checkpoint. Subclasses define ``loss``.

    Args:
        module: The module to train, with the parameters that require gradients.
        recipe: Hyperparameters.
        image_index: Index of each pair's image (n,); batches repeat an image as little as possible.
        batch_size: Pairs per step of all processes, at most n.
        seed: Seed of the order of the pairs and of dropout.
        identity: What the run depends on besides recipe and seed, as JSON data; a checkpoint only resumes an
            identical run.

    Attributes:
        step: Number of finished steps.
        total: Number of steps of the whole run.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        image_index: IntArray,
        *,
        batch_size: int,
        seed: int,
        identity: dict[str, Any],
    ) -> None:
        self._module, self._seed, self._image_index, self._batch_size = module, seed, image_index, batch_size
        self._peak, self._warmup = recipe.learning_rate, recipe.warmup
        self._identity = {"schema": SCHEMA, **identity, "seed": seed, **asdict(recipe)}
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, weight_decay=recipe.weight_decay)
        self._epoch_steps = len(image_index) // batch_size
        self.step, self.total = 0, recipe.epochs * self._epoch_steps

    def loss(self, batch: Any, rate: float) -> torch.Tensor:
        """Compute the loss of a batch from ``load``, which a step with this learning rate will reduce."""
        raise NotImplementedError

    def load(self, batches: list[IntArray]) -> Iterable[Any]:
        """Load batches of rows of pairs; by default, a batch is its rows."""
        return batches

    def train(self, checkpoint: Path | None, *, end: int, every: int, progress: bool) -> None:
        """Train until step ``end``.

        Args:
            checkpoint: File to write checkpoints to; None for none.
            end: Number of finished steps to stop at.
            every: Steps between two checkpoints; another one is written at the end.
            progress: Whether to show a progress bar on stderr.

        Raises:
            InputError: The checkpoint cannot be written.
        """
        options: dict[str, Any] = {"desc": "training", "unit": " steps", "file": sys.stderr, "disable": not progress}
        with tqdm(total=self.total, initial=self.step, **options) as bar:
            while self.step < end:
                epoch, done = divmod(self.step, self._epoch_steps)
                batches = epoch_batches(self._image_index, self._batch_size, self._seed, epoch)
                for batch in self.load(batches[done : done + end - self.step]):
                    rate = learning_rate(self._peak, self._warmup, self.step, self.total)
                    loss = self.loss(batch, rate)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    self.optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    self.optimizer.step()
                    self.step += 1
                    bar.update()
                    if checkpoint is not None and (self.step % every == 0 or self.step == end):
                        self._write_checkpoint(checkpoint)
                logging.getLogger("i0tscore").info("epoch %d, step %d: loss %.4f", epoch + 1, self.step, loss.item())

    def _write_checkpoint(self, path: Path) -> None:
        tensors = {f"module/{name}": tensor for name, tensor in self._module.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in state.items()}
        header = {"step": self.step, **self._identity}
        write_tensors(path, tensors, {"i0tscore": json.dumps(header, sort_keys=True)})

    def resume(self, path: Path) -> None:
        """Restore parameters, optimizer and number of finished steps from a checkpoint.

        Raises:
            InputError: The file is damaged, or belongs to a run with another identity; the message names the
                fields that differ.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                header = json.loads((file.metadata() or {})["i0tscore"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            step = int(header.pop("step"))
            expected = json.loads(json.dumps(self._identity))
            different = sorted(key for key in header.keys() | expected.keys() if header.get(key) != expected.get(key))
            if not different:
                states: dict[int, dict[str, torch.Tensor]] = {}
                for key in [key for key in tensors if key.startswith("optimizer/")]:
                    _, number, name = key.split("/", 2)
                    states.setdefault(int(number), {})[name] = tensors.pop(key)
                self._module.load_state_dict({key.removeprefix("module/"): value for key, value in tensors.items()})
                groups = self.optimizer.state_dict()["param_groups"]
                self.optimizer.load_state_dict({"state": states, "param_groups": groups})
                self.step = step
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{path} is not a valid checkpoint: {error}. Delete it to start over.") from error
        if different:
            raise InputError(
                f"{path} belongs to a run with different {', '.join(different)}. "
                "Choose another checkpoint folder, or delete the file to start over."
            )


def epoch_batches(image_index: IntArray, size: int, seed: int, epoch: int) -> list[IntArray]:
    """Return the batches of one epoch: rows of pairs, shuffled, without an incomplete last batch.

    Captions of the same image are spread out: every image appears once before any appears twice. Within a
    batch, the contrastive loss would treat the other captions of an image as mismatched.

    Args:
        image_index: Index of each pair's image (n,), with n ≥ ``size``.
        size: Pairs per batch.
        seed: Seed of the run.
        epoch: Epoch, starting at 0.

    Examples:
        >>> image_index = np.array([7, 7, 8, 8])
        >>> [sorted(image_index[rows].tolist()) for rows in epoch_batches(image_index, 2, seed=0, epoch=0)]
        [[7, 8], [7, 8]]
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(image_index))
    shuffled = image_index[order]
    by_image = np.argsort(shuffled, kind="stable")
    _, first, counts = np.unique(shuffled[by_image], return_index=True, return_counts=True)
    occurrence = np.empty(len(order), dtype=np.int64)
    occurrence[by_image] = np.arange(len(order)) - np.repeat(first, counts)
    order = order[np.argsort(occurrence, kind="stable")]
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def learning_rate(peak: float, warmup: int, step: int, total: int) -> float:
    """Return the learning rate of a step (from 0) out of ``total``: linear warmup, then half a cosine.

    Examples:
        >>> [round(learning_rate(1.0, 2, step, 6), 2) for step in range(6)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / (total - warmup)
    return peak * (1 + math.cos(math.pi * progress)) / 2


def step_seed(*parts: int) -> int:
    """Return a 32-bit seed derived from integers such as seed, step and rank."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors from any device to a safetensors file, atomically; create missing parent directories.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save({name: tensor.detach().cpu() for name, tensor in tensors.items()}, metadata))
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error}. Choose another folder.") from error
