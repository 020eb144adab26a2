"""Options of ``fit --method async``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i0tscore.cli.options import OptionGroup, add_options
from i0tscore.errors import UsageError

if TYPE_CHECKING:
    from i0tscore.training.async_training import AsyncRecipe

_RECIPE = {"epochs": "epochs", "learning_rate": "learning_rate", "train_batch": "batch_size"}
_RECIPE |= {"cyclic_weight": "cyclic_weight", "mcsie": "mcsie"}


@dataclass(frozen=True)
class AsyncOptions(OptionGroup):
    """How I0T_async is trained; None for the paper's value."""

    epochs: int | None
    learning_rate: float | None
    train_batch: int | None
    cyclic_weight: float | None
    mcsie: bool | None
    seed: int | None
    checkpoints: Path | None

    def refuse_all(self) -> None:
        """Refuse every option that was given.

        Raises:
            UsageError: Naming them.
        """
        given = [f"--{name.replace('_', '-')}" for name, value in asdict(self).items() if value is not None]
        if given:
            raise UsageError(f"{', '.join(given)}: only with --method async")

    def arguments(self, *, embedded: bool) -> dict[str, Any]:
        """Arguments of ``fit_async``; embeddings are trained on without MCSIE unless it is asked for."""
        mcsie = not embedded if self.mcsie is None else self.mcsie
        arguments: dict[str, Any] = {"recipe": self._recipe(mcsie), "checkpoints": self.checkpoints}
        return arguments if self.seed is None else {**arguments, "seed": self.seed}

    def _recipe(self, mcsie: bool) -> AsyncRecipe:
        from i0tscore.training.async_training import AsyncRecipe

        given = {_RECIPE[key]: value for key, value in asdict(self).items() if key in _RECIPE}
        return AsyncRecipe(**{k: v for k, v in given.items() if v is not None} | {"mcsie": mcsie})


async_options = add_options(
    click.option("--epochs", type=click.IntRange(min=1), help="async: passes over the pairs.  [default: 3]"),
    click.option("--learning-rate", type=click.FloatRange(min=0), help="async: of AdamW.  [default: 1e-6]"),
    click.option("--train-batch", type=click.IntRange(min=2), help="async: pairs a step.  [default: 64]"),
    click.option(
        "--cyclic-weight", type=click.FloatRange(min=0), help="async: of both losses.  [default: 0.25]"
    ),
    click.option(
        "--mcsie/--no-mcsie",
        default=None,
        help="async: encode anew under dropout, twice in each epoch.  [default: yes, but for embeddings]",
    ),
    click.option("--seed", type=int, help="async: of order and dropout.  [default: 12345]"),
    click.option(
        "--checkpoints",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="async: a run that was broken off goes on from here.",
    ),
)
"""The options of ``AsyncOptions``."""
