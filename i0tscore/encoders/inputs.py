"""What callers may give as images and captions, checked before anything is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePath
from typing import Any

import numpy as np

from i0tscore.encoders.encoded import Index, Vectors
from i0tscore.errors import InputError
from i0tscore.gap import normalize

STREAM = 512
"""Images of a generator held at once."""

LISTED = 20

SKIP_HINT = "on_error='skip' (--on-error skip) scores the rest"


def as_embeddings(items: Any) -> Vectors | None:
    """A float array or tensor (n, d) as unit float32 rows, None for anything else."""
    if hasattr(items, "detach"):
        items = items.detach().cpu().float().numpy()
    if not isinstance(items, np.ndarray) or items.ndim != 2 or not np.issubdtype(items.dtype, np.floating):
        return None
    if not np.isfinite(items).all():
        raise InputError("embeddings contain NaN or infinity")
    vectors: Vectors = normalize(np.asarray(items, dtype=np.float32))
    if np.isnan(vectors).any():
        row = int(np.flatnonzero(np.isnan(vectors).any(axis=1))[0])
        raise InputError(f"embedding {row} is zero and has no direction")
    return vectors


def strings(texts: Iterable[Any], what: str) -> list[Any]:
    """A list of what was given, refusing a lone string, which would be taken apart."""
    if isinstance(texts, str):
        raise InputError(f"{what} must be a list of strings, not one string; put it in a list")
    return list(texts)


def caption_problems(captions: Sequence[Any]) -> dict[int, str]:
    """What is wrong with captions, by position."""
    problems = {}
    for i, caption in enumerate(captions):
        if not isinstance(caption, str):
            problems[i] = f"the caption is {type(caption).__name__}, not a string"
        elif not caption.strip():
            problems[i] = "the caption is empty"
    return problems


def reference_problems(references: Sequence[Any]) -> dict[int, str]:
    """What is wrong with references, by position of their caption; embeddings pass for texts."""
    problems = {}
    for i, own in enumerate(references):
        texts = [own] if isinstance(own, str) else own
        if own is None or not len(own):
            problems[i] = "no references; give at least one"
        elif wrong := [text for text in texts if not isinstance(text, str | np.ndarray)]:
            problems[i] = f"a reference is {type(wrong[0]).__name__}, not a string"
        elif any(isinstance(text, str) and not text.strip() for text in texts):
            problems[i] = "a reference is empty"
    return problems


def parts(images: Iterable[Any]) -> Iterator[Sequence[Any]]:
    """A sequence whole; anything else in lists of ``STREAM``, so that they need not all be held."""
    if isinstance(images, str | PurePath):
        raise InputError("images must be a list, not one path; put it in a list")
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        yield images  # type: ignore[misc]
        return
    iterator = iter(images)
    while part := list(islice(iterator, STREAM)):
        yield part
        del part  # before the next is read


def same_length(*, captions: Any, **others: Any) -> None:
    """Refuse columns of another length than the captions."""
    for name, values in others.items():
        if values is not None and len(values) != len(captions):
            raise InputError(f"{len(captions)} captions but {len(values)} {name}; give one for each caption")


def default_ids(images: Any, start: int) -> list[str]:
    """Stems of paths, positions of anything else; only lists are looked into, others may decode lazily."""
    if not isinstance(images, list | tuple):
        return [str(start + i) for i in range(len(images))]
    return [_stem(image) or str(start + i) for i, image in enumerate(images)]


def _stem(image: Any) -> str:
    return PurePath(image).stem if isinstance(image, str | PurePath) else ""


def keys(items: Any, rows: Sequence[int], index: Index, count: int) -> tuple[Any, ...]:
    """An identity for each of ``count`` distinct vectors: the text or path it comes from, else its own.

    ``items[rows[i]]`` has vector ``index[i]``; only lists are looked into, others may decode lazily.
    """
    found: list[Any] = [object() for _ in range(count)]
    for row, vector in zip(rows, index, strict=True) if isinstance(items, list | tuple) else ():
        if isinstance(items[row], str | PurePath):
            found[vector] = str(items[row])
    return tuple(found)


def listing(lines: Sequence[str]) -> str:
    """Up to 20 lines, then a count."""
    more = [f"… and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join([*lines[:LISTED], *more])
