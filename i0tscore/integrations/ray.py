"""Score shards or a Ray dataset on a Ray cluster, in a pool of actors that each load the model once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i0tscore.errors import I0TScoreError, MissingExtraError, UsageError
from i0tscore.gap import Statistics
from i0tscore.integrations import shards
from i0tscore.integrations.datasets import score_batch
from i0tscore.integrations.shard_io import Shard, read_parts
from i0tscore.integrations.shard_summary import CorpusSummary
from i0tscore.integrations.shards import Job, Prepared, ShardWorker, Step

if TYPE_CHECKING:
    from ray.data import Dataset

_MAX_BLOCKS = 10_000
"""With more shards than this, Ray gets several per block."""

_MERGED_PARTS = 64


def score(
    paths: str | Path | Iterable[str | Path],
    *,
    actors: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    **options: Any,
) -> CorpusSummary:
    """Score shards on a Ray cluster; see ``i0tscore.integrations.shards.score`` for the other arguments and the errors.

    Uses the cluster that Ray is connected to, else the one at ``RAY_ADDRESS``, else starts one and shuts it down at the
    end. Actors that die are restarted and score their part again.

    Args:
        paths: Parquet files and tar archives, or folders of them.
        actors: Number of actors; by default as many as fit on the cluster.
        cpus: CPUs per actor, and threads of its computation.
        gpus: GPUs per actor; by default one if the cluster has any and ``device`` is not ``cpu``.
        options: ``output``, ``images``, ``progress``, and options of ``I0TScorer``.

    Raises:
        MissingExtraError: Ray is not installed.

    Examples:
        >>> from i0tscore.integrations.ray import score
        >>> score("shards/", output="scores/", model="lite").metrics["I0TScore"].mean  # doctest: +SKIP
        0.437
    """
    try:
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "scoring on several machines") from error
    if (actors is not None and actors < 1) or cpus <= 0 or (gpus or 0) < 0:
        raise UsageError(f"Expected actors ≥ 1, cpus > 0, and gpus ≥ 0, got {actors}, {cpus}, and {gpus}.")
    if isinstance(paths, ray.data.Dataset):
        raise UsageError("Expected shards as paths, got a Ray dataset. Pass it to score_dataset.")
    with _cluster():
        return shards.score(paths, engine=functools.partial(RayWorker, actors, cpus, gpus), **options)


class RayWorker(ShardWorker):
    """Works in actors, on parts that other processes read; see ``score`` for the arguments."""

    def __init__(self, actors: int | None, cpus: float, gpus: float | None, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self._needs = _actor_resources(cpus, gpus, settings.get("device", "auto"))
        self._actors = actors or _max_actors(self._needs)

    def prepare(self) -> Prepared:
        """Load the model where actors will, so that problems with it appear before the first pass."""
        import ray

        prepare = ray.remote(**self._needs)(lambda settings: _catch(ShardWorker(settings).prepare))
        prepared: Prepared = _unwrap(ray.get(prepare.remote(self._settings)))
        return prepared

    def run(self, step: Step, job: Job, shards: Sequence[Shard]) -> Iterator[Any]:
        """Distribute the parts over a pool of actors; only a few are in memory at a time."""
        import ray

        blocks = min(len(shards), _MAX_BLOCKS)
        with ray.data.DataContext.current(_data_context()):
            rows = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=blocks)
            # Reading reserves no CPU: actors may hold all of them, and would wait for it forever.
            parts = rows.flat_map(_read, fn_args=(job.images,), num_cpus=0, concurrency=self._actors)
            replies = parts.map_batches(
                _PartActor,
                fn_constructor_args=(step, job, self._settings),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self._actors),
                **self._needs,
            )
            if step == "fit":  # statistics are large
                replies = replies.map_batches(_merge, batch_size=_MERGED_PARTS, num_cpus=0)
            for row in replies.iter_rows():
                yield _unwrap(row["reply"])


# Errors are passed on in place of results: Ray would wrap them, and drop the results of earlier parts.


def _read(row: dict[str, Any], images: Path | None) -> Iterator[dict[str, Any]]:
    try:
        for part in read_parts(row["shard"], images):
            yield {"part": part}
    except I0TScoreError as error:
        yield {"part": error}


class _PartActor:
    """Holds the model between parts."""

    def __init__(self, step: Step, job: Job, settings: dict[str, Any]) -> None:
        self._work = getattr(ShardWorker(settings), step)
        self._job = job

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"reply": [_catch(lambda part: self._work(self._job, _unwrap(part)), part) for part in batch["part"]]}


def _merge(batch: dict[str, Any]) -> dict[str, Any]:
    found = [reply for reply in batch["reply"] if reply is not None]
    return {"reply": [_catch(functools.reduce, Statistics.merge, map(_unwrap, found)) if found else None]}


def _catch(work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except I0TScoreError as error:
        return error


def _unwrap(reply: Any) -> Any:
    if isinstance(reply, I0TScoreError):
        raise reply
    return reply


def _actor_resources(cpus: float, gpus: float | None, device: str) -> dict[str, float]:
    """Return the resources of an actor as Ray's arguments."""
    import ray

    if gpus is None:
        gpus = 0 if device == "cpu" else min(1, ray.cluster_resources().get("GPU", 0))
    return {"num_cpus": cpus, "num_gpus": gpus}


def _max_actors(needs: dict[str, float]) -> int:
    """Return how many actors fit on the cluster, at least one."""
    import ray

    resources = ray.cluster_resources()
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return max(1, int(min(resources.get(names[key], 0) // need for key, need in needs.items() if need)))


@contextmanager
def _cluster() -> Iterator[None]:
    """Connect to a cluster or start one, unless Ray is connected already."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"Cannot connect to a Ray cluster ({error}). Check RAY_ADDRESS.") from error
    try:
        yield
    finally:
        ray.shutdown()


def _data_context() -> Any:
    """Return settings of Ray Data that keep the order of results, and show no progress bars or logs."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # each part is a block, which any actor can take
    context.execution_options.preserve_order = True
    return context


def score_dataset(
    dataset: Dataset,
    *,
    actors: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    batch_size: int = 64,
    **options: Any,
) -> Dataset:
    """Add a column per metric to a Ray dataset, lazily.

    Unlike ``score``, it cannot resume and computes no summary.

    Args:
        dataset: Dataset with the columns ``image`` and ``caption``, or those that the options name.
        actors: Number of actors; by default as many as fit while leaving CPUs for reading.
        cpus: CPUs per actor.
        gpus: GPUs per actor; by default one if the cluster has any and ``device`` is not ``cpu``.
        batch_size: Rows per call of ``score_batch``.
        options: Options of ``i0tscore.integrations.datasets.score_batch``. Statistics must be fixed.

    Examples:
        >>> import ray  # doctest: +SKIP
        >>> rows = ray.data.read_parquet("big.parquet")  # doctest: +SKIP
        >>> score_dataset(rows, model="lite").write_parquet("scored/")  # doctest: +SKIP
    """
    import ray

    needs = _actor_resources(cpus, gpus, options.get("device", "auto"))
    # Actors on all CPUs would leave none to the tasks that read, and wait for them forever.
    size = {"size": actors} if actors else {"min_size": 1, "max_size": max(1, _max_actors(needs) - 1)}
    return dataset.map_batches(
        _RowActor,
        fn_constructor_kwargs=options,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(**size),
        **needs,
    )


class _RowActor:
    """Scores rows in an actor, whose process loads the model once."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __call__(self, table: Any) -> Any:
        named = {self._options.get(name, name) for name in ("image", "caption", "references")}
        batch = {name: table[name].to_pylist() for name in table.column_names if name in named}
        for name, column in score_batch(batch, **self._options).items():
            table = table.append_column(name, [column])
        return table
