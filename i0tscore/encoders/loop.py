"""Embed lists of images or captions: each distinct one once, in batches, in bounded memory."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from i0tscore.encoders.images import ImageInput, Loaded, decode_loaded, describe, load
from i0tscore.encoders.options import DEFAULT_OPTIONS, EncodeOptions
from i0tscore.encoders.text import tokenize_captions
from i0tscore.errors import ImageError, UsageError
from i0tscore.samples.diagnostics import preview

if TYPE_CHECKING:
    import torch

    from i0tscore.encoders.base import Encoder
    from i0tscore.encoders.cache import EmbeddingCache

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


# On CPUs, tensors of larger batches go back to the system after each use, and the page faults of allocating them again
# can take as long as the encoding.
_CPU_BATCH, _BATCH = 8, 32


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of n images or captions.

    Attributes:
        vectors: Unit vectors, float32 (m, d), one for each distinct input that could be encoded.
        index: Row of ``vectors`` for each input, int64 (n,); -1 for inputs that failed.
        failures: Reason for each input that failed, by position.
        token_counts: Captions only: number of tokens of each row, begin and end tokens included, int64 (m,).
        tokens_cut: Captions only: number of tokens of each row that did not fit, int64 (m,).
        unknown: Captions only: whether more than a third of the tokens of each row are unknown to the model, (m,).
        notes: What a reader should know about the inputs, such as images of which only the first frame is scored.
    """

    vectors: NDArray[np.float32]
    index: NDArray[np.int64]
    failures: dict[int, str]
    token_counts: NDArray[np.int64] | None = None
    tokens_cut: NDArray[np.int64] | None = None
    unknown: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


def embed_images(
    encoder: Encoder,
    images: Sequence[ImageInput],
    options: EncodeOptions = DEFAULT_OPTIONS,
    *,
    cache: EmbeddingCache | None = None,
) -> Embedded:
    """Embed images, each distinct content once. Threads read and decode ahead of the encoder.

    Besides the embeddings, only a few batches are in memory at any time.

    Args:
        encoder: The encoder.
        images: Images of any kind that ``decode`` accepts.
        options: Batch size, number of threads, and progress bar.
        cache: Cache of embeddings; every batch is stored when it is encoded.

    Returns:
        The embeddings; images that cannot be decoded are in ``failures``.
    """
    keys, reasons, noted = [""] * len(images), dict[str, str](), dict[str, tuple[str, ...]]()
    positions = _group_inputs(images)

    def read(same: list[int]) -> tuple[str, Loaded | None]:
        try:
            content: Loaded | None = load(images[same[0]])
        except ImageError as error:
            content, reasons[f"unreadable {same[0]}"] = None, str(error)
        key = content.key if content else f"unreadable {same[0]}"
        noted[key] = content.notes if content else ()
        for position in same:
            keys[position] = key
        return key, content

    def preprocess(item: tuple[str, Loaded]) -> torch.Tensor | None:
        try:
            return encoder.preprocess(decode_loaded(item[1]))
        except ImageError as error:
            reasons[item[0]] = str(error)
            return None

    with ThreadPoolExecutor(options.workers) as pool:
        loaded = (result for _, result in prefetch(pool, read, positions, 4 * options.workers))
        vectors, index = _embed_distinct(
            encoder,
            "image",
            keys,
            ((key, content) for key, content in loaded if content),
            prepare=lambda new: (
                (key, pixels)
                for (key, _), pixels in prefetch(
                    pool, preprocess, new, (options.batch_size or _BATCH) + options.workers
                )
                if pixels is not None
            ),
            encode=lambda batch: encoder.encode_pixels(_stacked(batch)),
            total=len(positions),
            options=options,
            cache=cache,
        )
    failures = {i: f"{describe(images[i])}: {reasons[key]}" for i, key in enumerate(keys) if key in reasons}
    return Embedded(vectors, index, failures, notes=_describe_notes(images, index, [noted[key] for key in keys]))


def _describe_notes(
    images: Sequence[ImageInput], index: NDArray[np.int64], noted: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Return each kind of note once, with the number of distinct images that have it, and the first names."""
    first: dict[str, dict[int, int]] = {}
    for position, (row, notes) in enumerate(zip(index.tolist(), noted, strict=True)):
        for note in notes if row >= 0 else ():
            first.setdefault(note, {}).setdefault(row, position)
    return tuple(
        f"{note}: {len(rows)} ({preview(PurePath(describe(images[i])).name for i in islice(rows.values(), 4))})."
        for note, rows in sorted(first.items())
    )


def embed_captions(
    encoder: Encoder,
    captions: Sequence[str],
    options: EncodeOptions = DEFAULT_OPTIONS,
    *,
    prefix: str = "",
    noun: str = "caption",
    cache: EmbeddingCache | None = None,
) -> Embedded:
    """Embed captions, each distinct one once, sorted by length so that batches need little padding.

    Args:
        encoder: The encoder.
        captions: The captions.
        options: Batch size, policy for long captions, and progress bar.
        prefix: Text before each caption, and before each piece of a caption that is split.
        noun: What the captions are, for messages.
        cache: Cache of embeddings; every batch is stored when it is encoded.

    Returns:
        The embeddings with token counts; captions that are not strings are in ``failures``.

    Raises:
        CaptionTooLongError: With ``long_captions="error"``, naming the captions that do not fit.
    """
    failures = {
        position: f"the caption is of type {type(caption).__name__}, not a string"
        for position, caption in enumerate(captions)
        if not isinstance(caption, str)
    }
    rows: dict[str, int] = {}
    index = np.array(
        [-1 if i in failures else rows.setdefault(text, len(rows)) for i, text in enumerate(captions)], dtype=np.int64
    )
    pieces, token_counts, tokens_cut, unknown = tokenize_captions(
        encoder, list(rows), index, prefix=prefix, policy=options.long_captions, noun=noun
    )
    flat = [piece for own in pieces for piece in own]
    keys = [hashlib.sha256(np.array(piece.ids, dtype="<i8").tobytes()).hexdigest() for piece in flat]
    distinct, piece_index = _embed_distinct(
        encoder,
        "text",
        keys,
        zip(keys, flat, strict=True),
        prepare=lambda new: iter(sorted(new, key=lambda item: len(item[1].ids), reverse=True)),
        encode=encoder.encode_tokens,
        total=len(set(keys)),
        options=options,
        cache=cache,
    )
    vectors = distinct[piece_index]
    if len(flat) > len(pieces):
        starts = np.cumsum([0, *(len(own) for own in pieces[:-1])])
        sums = np.add.reduceat(vectors, starts, axis=0)
        vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return Embedded(vectors, index, failures, token_counts, tokens_cut, unknown)


def _group_inputs(images: Sequence[ImageInput]) -> list[list[int]]:
    """Return the positions of each distinct path or object, which is read once; contents are compared later.

    A lazy sequence (a column of a dataset) returns new objects each time, so its positions stay separate.
    """
    if not isinstance(images, list | tuple):
        return [[position] for position in range(len(images))]
    groups: dict[object, list[int]] = {}
    for position, image in enumerate(images):
        path_like = isinstance(image, str | os.PathLike)
        groups.setdefault(os.fspath(image) if path_like else id(image), []).append(position)
    return list(groups.values())


def _embed_distinct(
    encoder: Encoder,
    kind: str,
    keys: Sequence[str],
    items: Iterable[tuple[str, Item]],
    *,
    prepare: Callable[[Iterator[tuple[str, Item]]], Iterator[tuple[str, Outcome]]],
    encode: Callable[[list[Outcome]], torch.Tensor],
    total: int,
    options: EncodeOptions,
    cache: EmbeddingCache | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embed items with distinct keys that are not cached, in batches.

    Args:
        encoder: The encoder, for its dimension.
        kind: Kind of the items in the cache.
        keys: Key of each of the n inputs, complete when ``items`` is exhausted.
        items: Keys and contents; keys may repeat.
        prepare: Maps new items to encoder inputs, in encoding order; may leave some out.
        encode: Maps a batch of encoder inputs to embeddings.
        total: Number of items, for the progress bar.
        options: Batch size and progress bar.
        cache: Cache of embeddings.

    Returns:
        Embeddings (m, d) in order of first occurrence in ``keys``, and the row of each input, -1 for none.
    """
    vectors: dict[str, NDArray[np.float32] | None] = {}

    def new() -> Iterator[tuple[str, Item]]:
        for key, item in items:
            if key in vectors:
                continue
            vectors[key] = cache.get(kind, key) if cache else None
            if vectors[key] is None:
                yield key, item
            else:
                bar.update()

    with progress_bar(total, "images" if kind == "image" else "captions", shown=options.progress) as bar:
        prepared, size = iter(prepare(new())), options.batch_size or _CPU_BATCH
        while batch := list(islice(prepared, size)):
            encoded = encode([item for _, item in batch])
            size = options.batch_size or (_CPU_BATCH if encoded.device.type == "cpu" else _BATCH)
            added = dict(zip([key for key, _ in batch], encoded.float().cpu().numpy(), strict=True))
            vectors.update(added)
            if cache:
                cache.put(kind, added)
            bar.update(len(batch))
        bar.update(total - bar.n)  # failures and repeated contents
    rows: dict[str, int] = {}
    for key in keys:
        if vectors.get(key) is not None:
            rows.setdefault(key, len(rows))
    stacked = np.empty((len(rows), encoder.dimension), dtype=np.float32)
    for key, row in rows.items():
        stacked[row] = vectors[key]
    return stacked, np.array([rows.get(key, -1) for key in keys], dtype=np.int64)


def _stacked(pixels: list[torch.Tensor]) -> torch.Tensor:
    import torch  # slow to import, and cached embeddings need no model

    return torch.stack(pixels)


def prefetch(
    pool: Executor, work: Callable[[Item], Outcome], items: Iterable[Item], depth: int
) -> Iterator[tuple[Item, Outcome]]:
    """Yield items with their outcomes in order, with ``work`` at most ``depth`` items ahead in a pool."""
    pending: deque[tuple[Item, Future[Outcome]]] = deque()
    for item in items:
        pending.append((item, pool.submit(work, item)))
        if len(pending) > depth:
            first, future = pending.popleft()
            yield first, future.result()
    while pending:
        first, future = pending.popleft()
        yield first, future.result()


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of ``size`` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def progress_bar(total: int | None, unit: str, *, shown: bool) -> tqdm[Any]:
    """Return a progress bar on stderr, which disappears at its end if it is below another one, or a silent one."""
    return tqdm(total=total, desc=f"encoding {unit}", unit=f" {unit}", file=sys.stderr, disable=not shown, leave=None)


def check_positive(**numbers: int) -> None:
    """Check that named numbers are at least 1.

    Raises:
        UsageError: A number is smaller; the error names it.
    """
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"Expected {name} to be at least 1, got {number}.")
