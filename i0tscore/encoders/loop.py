"""From images and captions to embeddings: each distinct one once, in batches, in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from i0tscore.encoders.images import ImageInput, Loaded, decode_loaded, describe, load
from i0tscore.encoders.long_captions import plan_captions
from i0tscore.encoders.options import LongCaptions
from i0tscore.encoders.pipeline import Vectors, ahead, batches, check_positive, progress_bar
from i0tscore.errors import ImageError

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder
    from i0tscore.encoders.cache import EmbeddingCache

Positions: TypeAlias = list[int]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings of a list of images or captions.

    Attributes:
        vectors: Float32 unit vectors (m, d), one for each distinct input that could be encoded.
        index: For each of the n inputs its row in ``vectors``, int64; -1 where it failed.
        failures: For each input that failed its position and the reason.
        token_counts: Captions only: for each row all its tokens, begin and end included, int64 (m,).
        tokens_cut: Captions only: for each row how many of them did not fit, int64 (m,).
    """

    vectors: npt.NDArray[np.float32]
    index: npt.NDArray[np.int64]
    failures: dict[int, str]
    token_counts: npt.NDArray[np.int64] | None = None
    tokens_cut: npt.NDArray[np.int64] | None = None


def embed_images(
    encoder: Encoder,
    images: Sequence[ImageInput],
    *,
    batch_size: int = 32,
    workers: int = 2,
    cache: EmbeddingCache | None = None,
    progress: bool = False,
) -> Embedded:
    """Encode images, each distinct content once, reading and decoding ahead while encoding.

    Apart from the embeddings only a few batches are in memory, however many images there are.

    Args:
        encoder: What encodes.
        images: Paths, bytes, PIL images, or uint8 arrays or tensors (H, W, 3) or (3, H, W).
        batch_size: How many images the tower takes at once.
        workers: Threads that read and decode.
        cache: Where embeddings are looked up and kept, also when the run is broken off.
        progress: Whether to show a bar on stderr.

    Returns:
        The embeddings; images that cannot be decoded are in ``failures``, each with its reason.

    Raises:
        UsageError: If ``batch_size`` or ``workers`` is below 1.
    """
    check_positive(batch_size=batch_size, workers=workers)
    same = _same_inputs(images)

    def read(positions: Positions) -> Loaded | ImageError:
        return _attempt_load(images[positions[0]])

    def to_pixels(content: Loaded) -> torch.Tensor | ImageError:
        try:
            return encoder.preprocess(decode_loaded(content))
        except ImageError as error:
            return error

    with progress_bar(len(same), "images", shown=progress) as bar, ThreadPoolExecutor(workers) as pool:
        vectors = Vectors("image", cache, bar)
        run = _ImageRun(vectors, [""] * len(images))
        new = run.new(ahead(pool, read, same.values(), 4 * workers))
        good = run.good(ahead(pool, to_pixels, new, batch_size + workers))
        try:
            for batch in batches(good, batch_size):
                pixels = torch.stack([one for _, one in batch])
                vectors.add([content.key for content, _ in batch], encoder.encode_pixels(pixels))
        finally:
            if cache:
                cache.flush()
    failures = {i: f"{describe(images[i])}: {run.reasons[key]}" for i, key in enumerate(run.keys) if key in run.reasons}
    return Embedded(*vectors.gather(run.keys, encoder.dimension), failures)


def embed_captions(
    encoder: Encoder,
    captions: Sequence[str],
    *,
    prefix: str = "",
    batch_size: int = 64,
    long_captions: LongCaptions = "truncate",
    cache: EmbeddingCache | None = None,
    progress: bool = False,
) -> Embedded:
    """Encode captions, each distinct one once, sorted by length so that batches need little padding.

    Args:
        encoder: What encodes.
        captions: The texts.
        prefix: Put before each caption, and before each piece of one that is split.
        batch_size: How many texts the tower takes at once.
        long_captions: For captions over the context length: ``truncate`` keeps the beginning (with one
            warning), ``split`` averages the embeddings of pieces made of whole sentences, ``error``
            refuses.
        cache: Where embeddings are looked up and kept, also when the run is broken off.
        progress: Whether to show a bar on stderr.

    Returns:
        The embeddings with token counts; what is not a string is in ``failures``.

    Raises:
        UsageError: If ``batch_size`` is below 1 or the policy does not exist.
        CaptionTooLongError: Under ``error``, with the captions that do not fit.
    """
    check_positive(batch_size=batch_size)
    failures = {
        position: f"the caption is of type {type(caption).__name__}, not a string"
        for position, caption in enumerate(captions)
        if not isinstance(caption, str)
    }
    rows: dict[str, int] = {}
    places = [-1 if i in failures else rows.setdefault(text, len(rows)) for i, text in enumerate(captions)]
    index = np.array(places, dtype=np.int64)
    plan = plan_captions(encoder, list(rows), index, prefix=prefix, policy=long_captions)
    pieces = [piece for caption in plan.pieces for piece in caption]
    keys = [hashlib.sha256(np.array(piece.ids, dtype="<i8").tobytes()).hexdigest() for piece in pieces]
    with progress_bar(len(set(keys)), "captions", shown=progress) as bar:
        vectors = Vectors("text", cache, bar)
        new = [(piece, key) for piece, key in zip(pieces, keys, strict=True) if vectors.wants(key)]
        new.sort(key=lambda pair: len(pair[0].ids), reverse=True)
        try:
            for batch in batches(new, batch_size):
                vectors.add([key for _, key in batch], encoder.encode_tokens([piece for piece, _ in batch]))
        finally:
            if cache:
                cache.flush()
    each, row_of_piece = vectors.gather(keys, encoder.dimension)
    joined = _average(each[row_of_piece], [len(caption) for caption in plan.pieces])
    return Embedded(joined, index, failures, plan.token_counts, plan.tokens_cut)


@dataclass
class _ImageRun:
    """What is known of the images so far: for each position the key of its content."""

    vectors: Vectors
    keys: list[str]
    reasons: dict[str, str] = field(default_factory=dict)

    def new(self, loaded: Iterable[tuple[Positions, Loaded | ImageError]]) -> Iterator[Loaded]:
        """Note what was read; pass on the contents that are neither known nor cached."""
        for positions, content in loaded:
            key = f"unreadable {positions[0]}" if isinstance(content, ImageError) else content.key
            for position in positions:
                self.keys[position] = key
            if isinstance(content, ImageError):
                self.reasons[key] = str(content)
                self.vectors.skip()
            elif self.vectors.wants(key):
                yield content

    def good(
        self, decoded: Iterable[tuple[Loaded, torch.Tensor | ImageError]]
    ) -> Iterator[tuple[Loaded, torch.Tensor]]:
        """Note what could not be decoded; pass on the rest."""
        for content, pixels in decoded:
            if isinstance(pixels, ImageError):
                self.reasons[content.key] = str(pixels)
                self.vectors.skip()
            else:
                yield content, pixels


def _same_inputs(images: Sequence[ImageInput]) -> dict[object, Positions]:
    """Positions of the same path or object, which is read once; the same content is found by its hash later.

    A lazy sequence (a column of a data set) makes new objects each time, so its positions stay apart.
    """
    if not isinstance(images, list | tuple):
        return {position: [position] for position in range(len(images))}
    same: dict[object, Positions] = {}
    for position, image in enumerate(images):
        path_like = isinstance(image, str | os.PathLike)
        same.setdefault(os.fspath(image) if path_like else id(image), []).append(position)
    return same


def _attempt_load(image: ImageInput) -> Loaded | ImageError:
    try:
        return load(image)
    except ImageError as error:
        return error


def _average(vectors: npt.NDArray[np.float32], counts: Sequence[int]) -> npt.NDArray[np.float32]:
    """Average runs of ``counts`` unit vectors and scale to unit length; runs of one stay as they are."""
    if all(count == 1 for count in counts):
        return vectors
    sums = np.add.reduceat(vectors, np.cumsum([0, *counts[:-1]]), axis=0)
    means: npt.NDArray[np.float32] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return means
