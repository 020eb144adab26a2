"""Scores a corpus in shards on a Ray cluster: a pool of actors, each with the model loaded once.

What is done with one shard, and with the whole, is ``i0tscore.integrations.shards``; here it is only
handed to Ray Data. All machines must see the shards and the output folder under the same paths.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from i0tscore import errors
from i0tscore.errors import I0TScoreError, MissingExtraError, UsageError
from i0tscore.integrations import shards
from i0tscore.integrations.shard_corpus import CorpusSummary
from i0tscore.integrations.shard_settings import Job, Prepared, ShardSettings
from i0tscore.integrations.shard_worker import ShardWorker
from i0tscore.integrations.shards import Step

_MOST_BLOCKS = 10_000
"""More shards than this are handed to Ray several at a time."""


def score(
    paths: str | Path | Iterable[str | Path],
    *,
    output: str | Path,
    images: str | Path | None = None,
    actors: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    progress: bool = False,
    **settings: Any,
) -> CorpusSummary:
    """Score shards on a Ray cluster; see ``i0tscore.integrations.shards.score``.

    The cluster is the one that Ray is connected to, else that of ``RAY_ADDRESS``, else one that is started
    here and shut down at the end. Actors that die are started again, and their shard is scored anew.

    Args:
        paths: Parquet files and tar archives, or folders of them.
        output: The folder of the scores.
        images: The folder of images that parquet files name.
        actors: How many; as many as the cluster has room for if left out.
        cpus: Processors of an actor, and threads of its arithmetic.
        gpus: Graphics cards of an actor; one where the cluster has any, unless ``device`` is ``cpu``.
        progress: Show progress on stderr.
        settings: Those of ``ShardSettings``: ``model``, ``statistics``, ``metrics``, ….

    Raises:
        MissingExtraError: Ray is not installed.
        I0TScoreError: What ``i0tscore.integrations.shards.score`` raises.

    Example:
        >>> from i0tscore.integrations.ray import score
        >>> score("shards/", output="scores/", model="lite").metrics["I0TScore"].mean  # doctest: +SKIP
        0.437
    """
    try:
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "scoring on several machines") from error
    if (actors is not None and actors < 1) or cpus <= 0 or (gpus or 0) < 0:
        raise UsageError("actors must be at least 1, cpus above 0 and gpus not below 0")
    if isinstance(paths, ray.data.Dataset):
        raise UsageError(
            "shards are given as paths: give a Ray dataset to i0tscore.integrations.ray_dataset.score_dataset"
        )
    with _cluster():
        engine = RayEngine(actors, cpus, gpus)
        return shards.score(paths, output=output, images=images, engine=engine, progress=progress, **settings)


class RayEngine:
    """Works on shards in actors; see ``score`` for the arguments."""

    def __init__(self, actors: int | None, cpus: float, gpus: float | None) -> None:
        self._actors = actors
        self._cpus = cpus
        self._gpus = gpus

    def prepare(self, settings: ShardSettings) -> Prepared:
        """Load the model on some machine, so that what is wrong with it is known before any pass."""
        import ray

        needs = needs_of(self._cpus, self._gpus, settings.device)
        prepare = ray.remote(**needs)(_prepare)
        prepared: Prepared = _received(ray.get(prepare.remote(settings)))
        return prepared

    def run(self, step: Step, job: Job, shards: Sequence[Path]) -> Iterator[Any]:
        """Hand shards to a pool of actors; only a few results are held at a time."""
        import ray

        needs = needs_of(self._cpus, self._gpus, job.settings.device)
        actors = _busy(self._actors or room_for(needs), len(shards))
        with ray.data.DataContext.current(_quiet_context()):
            items = ray.data.from_items(
                [{"shard": str(shard)} for shard in shards],
                override_num_blocks=min(len(shards), _MOST_BLOCKS),
            )
            replies = items.map_batches(
                _Actor,
                fn_constructor_args=(step, job),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=actors),
                **needs,
            )
            for row in replies.iter_rows():
                yield _received(row["reply"])


@dataclass(frozen=True)
class _Failure:
    """An error on its way to the driver: exceptions with arguments of their own do not survive it."""

    kind: str
    message: str


class _Actor:
    """Holds the model between shards."""

    def __init__(self, step: Step, job: Job) -> None:
        self._work = getattr(ShardWorker(job.settings), step)
        self._job = job

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"reply": [_attempted(self._work, self._job, Path(shard)) for shard in batch["shard"]]}


def _prepare(settings: ShardSettings) -> Any:
    return _attempted(ShardWorker(settings).prepare)


def _attempted(work: Any, *arguments: Any) -> Any:
    try:
        return work(*arguments)
    except I0TScoreError as error:
        return _Failure(type(error).__name__, str(error))


def _received(reply: Any) -> Any:
    """The reply, or the error it tells of, raised here."""
    if not isinstance(reply, _Failure):
        return reply
    kind = getattr(errors, reply.kind, I0TScoreError)
    raise kind.__new__(kind, reply.message)  # the message is composed already


def needs_of(cpus: float, gpus: float | None, device: str) -> dict[str, float]:
    """What an actor takes of the cluster."""
    import ray

    if gpus is None:
        gpus = 0 if device == "cpu" else min(1, ray.cluster_resources().get("GPU", 0))
    return {"num_cpus": cpus, "num_gpus": gpus}


def _busy(actors: int, shards: int) -> int:
    """How many actors have something to do, with a warning if that is not all of them."""
    if actors > shards:
        warnings.warn(
            f"there are more workers ({actors}) than shards ({shards}), and a shard goes to one worker: "
            "divide large files to keep all busy",
            UserWarning,
            stacklevel=3,
        )
    return min(actors, shards)


def room_for(needs: dict[str, float]) -> int:
    """How many actors the cluster has room for, at least one."""
    import ray

    there = ray.cluster_resources()
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return max(1, int(min(there.get(names[key], 0) // need for key, need in needs.items() if need)))


@contextmanager
def _cluster() -> Iterator[None]:
    """Connect to a cluster or start one, unless that is done already."""
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"no Ray cluster ({error}): check RAY_ADDRESS") from error
    try:
        yield
    finally:
        ray.shutdown()


def _quiet_context() -> Any:
    """Ray Data's settings with results in order, and without bars and logs of its own."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    return context
