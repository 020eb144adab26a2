"""A callback for the Trainer of transformers: I0TScore on validation images at each evaluation.

Needs the extra ``transformers``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from i0tscore.errors import MissingExtraError
from i0tscore.integrations.validation import Validation

try:
    from accelerate.utils import broadcast_object_list
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError("transformers and accelerate", "transformers", "the callback of transformers") from error


class I0TScoreCallback(TrainerCallback):  # type: ignore[misc]
    """Adds what ``Validation`` gives to each evaluation: ``eval_I0TScore``, ``eval_I0TScore_low``, ….

    The values are in what ``trainer.evaluate()`` returns, so that ``metric_for_best_model="I0TScore"``
    with ``greater_is_better=True`` works, and in ``trainer.state.log_history``. An undefined score is in
    neither; only where the best model goes by it is the worst score there is put in its place, since the
    trainer stops with an error where there is no number. On several processes the first one scores and
    all get its values; a model that is sharded over processes cannot be scored so.

    Args:
        validation: What is scored; ``generate`` gets the model.

    Attributes:
        log: The trainer calls back only after it has written an evaluation's figures to TensorBoard and
            the like. Set this to ``trainer.log`` to have the values written there, too.

    Example:
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Encode the images, so that problems show before training."""
        if state.is_world_process_zero:
            self.validation.prepare()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score, and add the values to the evaluation's."""
        values = self.validation(kwargs["model"]) if state.is_world_process_zero else None
        values = broadcast_object_list([values])[0]
        defined = {self.prefix + name: value for name, value in values.items() if value is not None}
        if self.log is not None:
            self.log(defined)
        elif state.log_history:
            state.log_history[-1].update(defined)
        chosen = f"{args.metric_for_best_model}".removeprefix(self.prefix)
        worst = self.validation.worst
        fallback = {self.prefix + chosen: worst[chosen]} if chosen in worst else {}
        kwargs["metrics"].update({**fallback, **defined})
