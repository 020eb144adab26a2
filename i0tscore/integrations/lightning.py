"""A Lightning callback: I0TScore on validation images after each validation epoch.

Needs the extra ``lightning``.
"""

from __future__ import annotations

from typing import Any

import torch

from i0tscore.errors import MissingExtraError
from i0tscore.integrations.validation import Validation, write_lowest
from i0tscore.render.document import format_number

try:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
except ImportError as error:
    raise MissingExtraError("lightning", "lightning", "the Lightning callback") from error


class I0TScoreCallback(Callback):  # type: ignore[misc]
    """Logs the values of ``Validation`` as ``val/I0TScore``, ``val/I0TScore_low``, …, once per validation epoch.

    The values reach the logger and ``trainer.callback_metrics``, where ``ModelCheckpoint(monitor="val/I0TScore",
    mode="max")`` and ``EarlyStopping`` read them. An undefined score is not logged; these two get the metric's lowest
    value instead, since without a number they fail or use the previous epoch's. With several processes, the first one
    scores and sends the values to the others. A model sharded over processes cannot be scored.

    The trainer's TensorBoard and W&B loggers also receive the images with the lowest scores and their captions, as
    ``val/lowest``.

    Args:
        validation: Its ``generate`` is called with the ``LightningModule``.
        prefix: Prefix of the logged names.
        lowest: Number of images to log; 0 for none.

    Examples:
        >>> def generate(module, images):
        ...     return ["a dog on grass"] * len(images)
        >>> callback = I0TScoreCallback(Validation(["one.jpg", "two.jpg"], generate, model="lite"))
        >>> callback.prefix
        'val/'
    """

    def __init__(self, validation: Validation, *, prefix: str = "val/", lowest: int = 4) -> None:
        super().__init__()
        self.validation = validation
        self.prefix = prefix
        self.lowest = lowest

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
                # Not with `log`: the lowest value must not reach the logger.
                trainer.callback_metrics[self.prefix + name] = torch.tensor(self.validation.worst[name])
        if trainer.is_global_zero:
            self._log_lowest(trainer)

    def _log_lowest(self, trainer: Any) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]
        samples = self.validation.lowest(self.lowest) if loggers else []
        name, step = f"{self.prefix}lowest", trainer.global_step
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                write_lowest(logger.experiment, name, samples, step)
            elif samples:
                captions = [f"{format_number(sample.score)}: {sample.caption}" for sample in samples]
                logger.log_image(name, [sample.image for sample in samples], step=step, caption=captions)
