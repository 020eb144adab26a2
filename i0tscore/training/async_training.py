"""Training of I0T_async (An et al. 2025): a BatchNorm1d behind each frozen encoder.

Only the two normalizations train: 4 · d numbers, besides the running means and variances that follow the
batches. The latter do most of the work (``docs/i0t-async.md`` has the ablation).
"""

from __future__ import annotations

import logging
import math
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from i0tscore.errors import InputError, UsageError
from i0tscore.gap import Normalization
from i0tscore.training.async_pairs import Pairs, Passes
from i0tscore.training.checkpoint import read_checkpoint, write_checkpoint
from i0tscore.training.losses import (
    contrastive_loss,
    cross_modal_cyclic_loss,
    in_modal_cyclic_loss,
    mcsie_loss,
)
from i0tscore.training.schedule import Rows, draw_batches, learning_rate

_ARRAYS = ("running_mean", "running_var", "weight", "bias")
_UNSETTLED = 0.01


@dataclass(frozen=True, slots=True)
class AsyncRecipe:
    """How I0T_async is trained; the defaults are those of An et al. 2025.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Pairs a step, at least 2; fewer if there are not so many pairs.
        learning_rate: Highest of the schedule: a linear warm-up, then a half cosine to 0.
        weight_decay: Of AdamW.
        warmup: Steps of the warm-up; a shorter run ends within it.
        cyclic_weight: Weight of the in-modal and of the cross-modal cyclic loss beside the contrastive.
        mcsie: Whether pairs are encoded anew, twice a side under dropout, and the loss averaged over the
            four pairs of passes.
        dropout: Share of the attention weights dropped for MCSIE.
        logit_scale: Fixed, on the cosines.
        momentum: Weight of a batch in the running statistics; None gives every batch the same weight.
        eps: Added to the variance.

    Raises:
        UsageError: A number is out of its range.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-6
    weight_decay: float = 1e-2
    warmup: int = 200
    cyclic_weight: float = 0.25
    mcsie: bool = True
    dropout: float = 0.1
    logit_scale: float = 100.0
    momentum: float | None = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse numbers that no training can use."""
        lowest = {"epochs": 1, "batch_size": 2, "learning_rate": 0, "weight_decay": 0, "warmup": 0}
        for name, bound in {**lowest, "cyclic_weight": 0}.items():
            value = getattr(self, name)
            if not bound <= value < math.inf:
                raise UsageError(f"{name.replace('_', ' ')} must be at least {bound}, got {value}")


class AsyncTrainer:
    """One training run, which can be broken off and taken up again.

    Every choice follows from the seed and the number of the step alone, so that a resumed run gives the
    same bytes as one that was not interrupted (on one machine with the same number of threads).

    Args:
        pairs: What to train on.
        recipe: How.
        seed: Of the order of the pairs and of dropout.

    Raises:
        InputError: There are fewer than two pairs.

    Attributes:
        norms: The normalization of images and that of captions.
        step: Steps done.
        total: Steps of the whole run.
    """

    def __init__(self, pairs: Pairs, recipe: AsyncRecipe, seed: int) -> None:
        count = len(pairs.groups)
        if count < 2:
            raise InputError(f"{count} pairs: batch statistics need at least two")
        self._pairs, self._recipe, self._seed = pairs, recipe, seed
        self._size = min(recipe.batch_size, count)
        self._a_epoch = count // self._size
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(pairs.dimension, eps=recipe.eps, momentum=recipe.momentum) for _ in range(2)
        )
        self.optimizer = torch.optim.AdamW(self.norms.parameters(), weight_decay=recipe.weight_decay)
        self._batches: list[Rows] = []
        self.step = 0
        self.total = recipe.epochs * self._a_epoch

    def run(
        self, checkpoint: Path | None = None, *, every: int = 100, progress: bool = False
    ) -> tuple[Normalization, Normalization]:
        """Train to the end, from a checkpoint if there is one; return the normalizations.

        Args:
            checkpoint: File to go on from and to write to, atomically, at the end and on the way.
            every: Steps between two writings.
            progress: Whether to show a bar on stderr.

        Raises:
            InputError: The checkpoint is damaged, or of other data, another recipe or another seed.
        """
        identity = {"pairs": self._pairs.identity, "seed": self._seed, **asdict(self._recipe)}
        if checkpoint is not None and checkpoint.exists():
            self.step = read_checkpoint(checkpoint, identity, self.norms, self.optimizer)
        log = logging.getLogger("i0tscore")
        with tqdm(
            total=self.total,
            initial=self.step,
            desc="training",
            unit=" steps",
            file=sys.stderr,
            disable=not progress,
        ) as bar:
            while self.step < self.total:
                loss = self._advance()
                bar.update()
                if checkpoint is not None and (self.step % every == 0 or self.step == self.total):
                    write_checkpoint(checkpoint, identity, self.norms, self.optimizer, self.step)
                if self.step % self._a_epoch == 0:
                    log.info("epoch %d: loss %.4f", self.step // self._a_epoch, loss)
        self._warn_if_unsettled()
        return self.normalizations()

    def normalizations(self) -> tuple[Normalization, Normalization]:
        """The normalization of images and that of captions as they are now."""
        image, caption = (self._normalization(norm) for norm in self.norms)
        return image, caption

    def _normalization(self, norm: nn.Module) -> Normalization:
        state = norm.state_dict()
        mean, variance, weight, bias = (state[name].double().numpy() for name in _ARRAYS)
        return Normalization(mean, variance, weight, bias, eps=self._recipe.eps)

    def _advance(self) -> float:
        epoch, place = divmod(self.step, self._a_epoch)
        if place == 0 or not self._batches:
            self._batches = draw_batches(self._pairs.groups, self._size, self._seed, epoch)
        seed = int(np.random.SeedSequence([self._seed, self.step]).generate_state(1)[0])
        loss = self._loss(self._pairs.passes(self._batches[place], seed))
        highest, warmup = self._recipe.learning_rate, self._recipe.warmup
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(highest, warmup, self.step, self.total)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _loss(self, passes: Passes) -> torch.Tensor:
        recipe = self._recipe
        images, captions = (
            [functional.normalize(norm(vectors), dim=-1) for vectors in side]
            for norm, side in zip(self.norms, passes, strict=True)
        )

        def of_pair(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            cyclic = in_modal_cyclic_loss(x, y) + cross_modal_cyclic_loss(x, y)
            return contrastive_loss(x, y, recipe.logit_scale) + recipe.cyclic_weight * cyclic

        return mcsie_loss(images, captions, of_pair)

    def _warn_if_unsettled(self) -> None:
        if self._recipe.momentum is None:
            return
        left = (1 - self._recipe.momentum) ** self.total
        if left > _UNSETTLED:
            warnings.warn(
                f"after {self.total} steps the running statistics are still {100 * left:.0f} % what they "
                "began as: train on more pairs, in smaller batches, or for more epochs",
                UserWarning,
                stacklevel=3,
            )
