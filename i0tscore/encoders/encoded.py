"""An encoded run: each distinct image and caption once, and which of them each sample has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.samples import Skipped

Vectors = NDArray[np.float32]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedReferences:
    """Embeddings of the distinct references and which of them each sample has.

    Attributes:
        vectors: Shape (mr, d).
        index: For each sample the rows of ``vectors``, n arrays of at least one.
    """

    vectors: Vectors
    index: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRun:
    """Embeddings of a run and the samples that point into them.

    Attributes:
        ids: Sample ids (n).
        captions: Captions as given (n), or empty when embeddings were given.
        images: Unit embeddings of the distinct images (mi, d).
        image_index: Row of ``images`` for each sample (n,).
        image_keys: Identity of each distinct image (mi), e.g. its path.
        texts: Unit embeddings of the distinct captions (mc, d).
        text_index: Row of ``texts`` for each sample (n,).
        text_keys: Identity of each distinct caption (mc).
        references: Of every sample, or None.
        tokens: Token counts (n,), or None.
        tokens_cut: Tokens that did not fit (n,), or None.
        skipped: Samples left out.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    images: Vectors
    image_index: Index
    image_keys: tuple[Any, ...]
    texts: Vectors
    text_index: Index
    text_keys: tuple[Any, ...]
    references: EncodedReferences | None = None
    tokens: Index | None = None
    tokens_cut: Index | None = None
    skipped: tuple[Skipped, ...] = ()

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.ids)

    @property
    def pairs(self) -> tuple[Vectors, Vectors]:
        """Embeddings of the samples' images and captions, float32 (n, d) each."""
        return self.images[self.image_index], self.texts[self.text_index]

    @classmethod
    def concat(cls, runs: Sequence[EncodedRun]) -> EncodedRun:
        """One run out of several, with images and captions that occur in more than one kept once."""
        if len(runs) == 1:
            return runs[0]
        images, image_index, image_keys = _join([(r.images, r.image_index, r.image_keys) for r in runs])
        texts, text_index, text_keys = _join([(r.texts, r.text_index, r.text_keys) for r in runs])
        return cls(
            ids=tuple(i for r in runs for i in r.ids),
            captions=tuple(c for r in runs for c in r.captions),
            images=images,
            image_index=image_index,
            image_keys=image_keys,
            texts=texts,
            text_index=text_index,
            text_keys=text_keys,
            references=_join_references([r.references for r in runs]),
            tokens=_join_columns([r.tokens for r in runs]),
            tokens_cut=_join_columns([r.tokens_cut for r in runs]),
            skipped=tuple(s for r in runs for s in r.skipped),
        )


def _join(parts: Sequence[tuple[Vectors, Index, tuple[Any, ...]]]) -> tuple[Vectors, Index, tuple[Any, ...]]:
    """Concatenate distinct vectors, keeping the first of each key, and re-point the samples."""
    rows: dict[Any, int] = {}
    kept, indices = [], []
    for vectors, index, keys in parts:
        new = [i for i, key in enumerate(keys) if key not in rows]
        for i in new:
            rows[keys[i]] = len(rows)
        kept.append(vectors[new])
        target = np.array([rows[key] for key in keys], dtype=np.int64)
        indices.append(target[index] if len(target) else index)
    return np.concatenate(kept), np.concatenate(indices), tuple(rows)


def _join_references(parts: Sequence[EncodedReferences | None]) -> EncodedReferences | None:
    vectors: list[Vectors] = []
    index: list[Index] = []
    offset = 0
    for part in parts:
        if part is None:
            return None
        vectors.append(part.vectors)
        index.extend(rows + offset for rows in part.index)
        offset += len(part.vectors)
    return EncodedReferences(np.concatenate(vectors), tuple(index))


def _join_columns(columns: Sequence[Index | None]) -> Index | None:
    present = [c for c in columns if c is not None]
    return np.concatenate(present) if len(present) == len(columns) else None
