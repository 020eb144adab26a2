"""A callback for the transformers Trainer: I0TScore on validation images at each evaluation.

Needs the extra ``transformers``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from i0tscore.errors import MissingExtraError
from i0tscore.integrations.validation import Validation, write_lowest

try:
    from accelerate.utils import broadcast_object_list
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError("transformers and accelerate", "transformers", "the transformers callback") from error


class I0TScoreCallback(TrainerCallback):  # type: ignore[misc]
    """Adds the values of ``Validation`` to each evaluation: ``eval_I0TScore``, ``eval_I0TScore_low``, ….

    ``trainer.evaluate()`` returns the values, so ``metric_for_best_model="I0TScore"`` with ``greater_is_better=True``
    works, and ``trainer.state.log_history`` contains them. Undefined scores are in neither, except for the metric that
    selects the best model: it gets its lowest value, since the trainer fails without a number. With several processes,
    the first one scores and sends the values to the others. A model sharded over processes cannot be scored.

    Args:
        validation: Its ``generate`` is called with the model.

    Attributes:
        log: Set this to ``trainer.log`` to send the values to TensorBoard and other reporters, which get the metrics
            of an evaluation before the trainer calls this callback.
        writer: Set this to a ``SummaryWriter``, such as the one passed to ``TensorBoardCallback``, to log the images
            with the lowest scores and their captions to TensorBoard as ``eval_lowest``.
        lowest: Number of images to log.

    Examples:
        >>> def generate(model, images):
        ...     return ["a dog on grass"] * len(images)
        >>> callback = I0TScoreCallback(Validation(["one.jpg", "two.jpg"], generate, model="lite"))
        >>> callback.log is None
        True
    """

    prefix = "eval_"

    def __init__(self, validation: Validation) -> None:
        super().__init__()
        self.validation = validation
        self.log: Callable[[dict[str, float]], None] | None = None
        self.writer: Any = None
        self.lowest = 4

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Encode the images, so that problems show before training."""
        if state.is_world_process_zero:
            self.validation.prepare()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score, and add the values to the metrics of the evaluation."""
        values = self.validation(kwargs["model"]) if state.is_world_process_zero else None
        values = broadcast_object_list([values])[0]
        defined = {self.prefix + name: value for name, value in values.items() if value is not None}
        if self.log is not None:
            self.log(defined)
        elif state.log_history:
            state.log_history[-1].update(defined)
        selecting = f"{args.metric_for_best_model}".removeprefix(self.prefix)
        worst = self.validation.worst
        fallback = {self.prefix + selecting: worst[selecting]} if selecting in worst else {}
        kwargs["metrics"].update({**fallback, **defined})
        if self.writer is not None and state.is_world_process_zero:
            write_lowest(self.writer, f"{self.prefix}lowest", self.validation.lowest(self.lowest), state.global_step)
