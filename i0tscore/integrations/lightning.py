"""A callback for Lightning's Trainer: I0TScore on validation images after each validation epoch.

Needs the extra ``lightning``.
"""

from __future__ import annotations

from typing import Any

import torch

from i0tscore.errors import MissingExtraError
from i0tscore.integrations.validation import Validation

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise MissingExtraError("lightning", "lightning", "the Lightning callback") from error


class I0TScoreCallback(Callback):  # type: ignore[misc]
    """Logs what ``Validation`` gives as ``val/I0TScore``, ``val/I0TScore_low``, …, once a validation epoch.

    The values reach the logger and ``trainer.callback_metrics``, so that
    ``ModelCheckpoint(monitor="val/I0TScore", mode="max")`` and ``EarlyStopping`` see them. An undefined
    score is not logged; those two are told the worst score there is instead, since they stop with an
    error, or go by the epoch before, where there is no number. On several processes the first one
    scores and all get its values; a model that is sharded over processes cannot be scored so.

    Args:
        validation: What is scored; ``generate`` gets the ``LightningModule``.
        prefix: Put before the names.

    Example:
        >>> def generate(module, images):
        ...     return ["a dog on grass"] * len(images)
        >>> callback = I0TScoreCallback(Validation(["one.jpg", "two.jpg"], generate, model="lite"))
        >>> callback.prefix
        'val/'
    """

    def __init__(self, validation: Validation, *, prefix: str = "val/") -> None:
        super().__init__()
        self.validation = validation
        self.prefix = prefix

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Encode the images, so that problems show before training."""
        if trainer.is_global_zero:
            self.validation.prepare()

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Score and log."""
        if trainer.sanity_checking:
            return
        values = self.validation(pl_module) if trainer.is_global_zero else None
        values = trainer.strategy.broadcast(values)
        for name, value in values.items():
            if value is not None:
                pl_module.log(self.prefix + name, value, on_epoch=True, batch_size=1)
            elif name in self.validation.worst:
                # Not by `log`, which must not reach the logger in one epoch and not in another.
                trainer.callback_metrics[self.prefix + name] = torch.tensor(self.validation.worst[name])
