"""The moving parts of the encoding loop: work done ahead, batches, and vectors by content."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from i0tscore.errors import UsageError

if TYPE_CHECKING:
    import torch

    from i0tscore.encoders.cache import EmbeddingCache

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Vectors:
    """Embeddings by the hash of their content: from the cache, or added as they are encoded.

    Args:
        kind: ``image`` or ``text``: what the cache files them under.
        cache: Where they are looked up and kept.
        bar: Moved on by one for each content that is done.
    """

    def __init__(self, kind: str, cache: EmbeddingCache | None, bar: tqdm[Any]) -> None:
        self._kind = kind
        self._cache = cache
        self._bar = bar
        self._known: dict[str, npt.NDArray[np.float32] | None] = {}

    def wants(self, key: str) -> bool:
        """Whether a content must be encoded: asked for the first time and not in the cache."""
        if key in self._known:
            return False
        cached = self._cache.get(self._kind, key) if self._cache else None
        self._known[key] = cached
        if cached is not None:
            self._bar.update()
        return cached is None

    def add(self, keys: Sequence[str], vectors: torch.Tensor) -> None:
        """Take the unit vectors (n, d) of n contents."""
        new = dict(zip(keys, vectors.float().cpu().numpy(), strict=True))
        self._known.update(new)
        if self._cache:
            self._cache.put(self._kind, new)
        self._bar.update(len(new))

    def skip(self) -> None:
        """Count a content as done that there will be no vector of."""
        self._bar.update()

    def gather(self, keys: Sequence[str], dimension: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Stack the vectors of contents, each once in the order of ``keys``.

        Returns:
            The vectors (m, d) and for each of the n keys its row, -1 where there is no vector.
        """
        rows: dict[str, int] = {}
        for key in keys:
            if self._known.get(key) is not None:
                rows.setdefault(key, len(rows))
        vectors = np.empty((len(rows), dimension), dtype=np.float32)
        for key, row in rows.items():
            vectors[row] = self._known[key]
        return vectors, np.array([rows.get(key, -1) for key in keys], dtype=np.int64)


def ahead(
    pool: Executor, work: Callable[[Item], Outcome], items: Iterable[Item], depth: int
) -> Iterator[tuple[Item, Outcome]]:
    """Work on items in a pool, at most ``depth`` ahead of what has been taken, in their order."""
    waiting: deque[tuple[Item, Future[Outcome]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(work, item)))
        if len(waiting) > depth:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items into lists of ``size``, the last one shorter."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def progress_bar(total: int, unit: str, *, shown: bool) -> tqdm[Any]:
    """A progress bar on stderr, or a silent one."""
    return tqdm(total=total, desc=f"encoding {unit}", unit=f" {unit}", file=sys.stderr, disable=not shown)


def check_positive(**numbers: int) -> None:
    """Refuse numbers below 1, by their name.

    Raises:
        UsageError: Naming the first of them.
    """
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"{name} must be at least 1, got {number}")
