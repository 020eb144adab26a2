"""Scores as new columns of a Ray dataset, whatever it was read from and wherever it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from i0tscore.errors import I0TScoreError
from i0tscore.integrations.datasets import score_batch
from i0tscore.integrations.ray import needs_of, room_for

if TYPE_CHECKING:
    from ray.data import Dataset


def score_dataset(
    dataset: Dataset,
    *,
    actors: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    batch_size: int = 64,
    **options: Any,
) -> Dataset:
    """Add a column a metric, lazily, as datasets of Ray are.

    Unlike ``i0tscore.integrations.ray.score`` it divides large files, resumes nothing and sums up nothing.

    Args:
        dataset: With the columns ``image`` and ``caption``, or those that the options name.
        actors: Processes that hold the model; if left out, up to as many as leave room for reading.
        cpus: Processors of an actor.
        gpus: Graphics cards of an actor; one where the cluster has any, unless ``device`` is ``cpu``.
        batch_size: Rows scored at once.
        options: Those of ``i0tscore.integrations.datasets.score_batch``; statistics must be fixed.

    Example:
        >>> import ray  # doctest: +SKIP
        >>> rows = ray.data.read_parquet("big.parquet")  # doctest: +SKIP
        >>> score_dataset(rows, model="lite").write_parquet("scored/")  # doctest: +SKIP
    """
    import ray

    needs = needs_of(cpus, gpus, options.get("device", "auto"))
    # Actors on all processors would leave none to the tasks that read, and wait for them for ever.
    most = max(1, room_for(needs) - 1)
    sizes = {"size": actors} if actors else {"min_size": 1, "max_size": most}
    return dataset.map_batches(
        _Rows,
        fn_constructor_kwargs=options,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(**sizes),
        **needs,
    )


class _Rows:
    """Scores rows in an actor, whose process loads the model once."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(self, table: Any) -> Any:
        named = {self._options.get(name, name) for name in ("image", "caption", "references")}
        batch = {name: table[name].to_pylist() for name in table.column_names if name in named}
        try:
            scores = score_batch(batch, **self._options)
        except I0TScoreError as error:
            raise I0TScoreError(str(error)) from None  # of a class that survives the way to the driver
        for name, column in scores.items():
            table = table.append_column(name, [column])
        return table
