"""Options of ``fit --method async``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from i0tscore.cli.options import OptionGroup, add_options
from i0tscore.errors import UsageError


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
        given = [
            f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            for name, value in _given(asdict(self)).items()
        ]
        if given:
            raise UsageError(f"{', '.join(given)}: only with --method async")

    def arguments(self, *, embedded: bool) -> dict[str, Any]:
        """Arguments of ``fit_async``; embeddings are trained on without MCSIE unless it is asked for."""
        from i0tscore.training.i0t_async import AsyncRecipe

        recipe = {
            "epochs": self.epochs,
            "learning_rate": self.learning_rate,
            "batch_size": self.train_batch,
            "cyclic_weight": self.cyclic_weight,
            "mcsie": not embedded if self.mcsie is None else self.mcsie,
        }
        run = {"seed": self.seed, "checkpoints": self.checkpoints}
        return {"recipe": AsyncRecipe(**_given(recipe)), **_given(run)}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


async_options = add_options(
    click.option("--epochs", type=click.IntRange(min=1), help="async: passes over the pairs.  [default: 3]"),
    click.option("--learning-rate", type=click.FloatRange(min=0), help="async: of AdamW.  [default: 1e-6]"),
    click.option("--train-batch", type=click.IntRange(min=2), help="async: pairs a step.  [default: 64]"),
    click.option("--cyclic-weight", type=click.FloatRange(min=0), help="async: of both losses.  [default: 0.25]"),
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
