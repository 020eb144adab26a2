"""From images and captions, as callers have them, to encoded runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from i0tscore.encoders.encoded import EncodedReferences, EncodedRun, Vectors
from i0tscore.encoders.inputs import (
    SKIP_HINT,
    as_embeddings,
    caption_problems,
    default_ids,
    keys,
    listing,
    parts,
    reference_problems,
    same_length,
    strings,
)
from i0tscore.encoders.options import EncodeOptions
from i0tscore.errors import InputError
from i0tscore.samples import Skipped

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder, Fingerprint
    from i0tscore.encoders.cache import EmbeddingCache
    from i0tscore.encoders.loop import Embedded


class RunEncoder:
    """Loads the encoder at first use and turns images and captions into ``EncodedRun``.

    Args:
        options: How to encode.
        prefix: Text put before each caption.
    """

    def __init__(self, options: EncodeOptions, prefix: str) -> None:
        self.options = options
        self.prefix = prefix
        self._encoder: Encoder | None = None if isinstance(options.model, str) else options.model
        self._cache: EmbeddingCache | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded at first use."""
        if self._encoder is None:
            from i0tscore.encoders import load_encoder

            o = self.options
            self._encoder = load_encoder(
                str(o.model), weights=o.weights, precision=o.precision, device=o.device, offline=o.offline
            )
        return self._encoder

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the encoder, which is loaded if need be."""
        return self.encoder.fingerprint

    @property
    def used_fingerprint(self) -> Fingerprint | None:
        """The encoder's fingerprint; None as long as only embeddings were given."""
        return None if self._encoder is None else self._encoder.fingerprint

    @property
    def signature_fields(self) -> tuple[tuple[str, str], ...]:
        """What a signature says of the encoder."""
        f = self.used_fingerprint
        if f is None:
            return ()
        return (("m", f.name), ("act", f.activation), ("w", f.weights), ("prep", f.preprocess))

    @property
    def encoding_fields(self) -> tuple[tuple[str, str], ...]:
        """What a signature says of how texts were encoded."""
        f = self.used_fingerprint
        if f is None:
            return ()
        return (("prefix", self.prefix.strip()), ("prec", f.precision), ("long", self.options.long_captions))

    def vectors(self, items: Iterable[Any], kind: str) -> Vectors:
        """Unit embeddings (n, d) of images or captions, one row an item."""
        given = as_embeddings(items)
        if given is not None:
            return given
        embedded = self.side(list(items), kind)
        if embedded.failures:
            raise InputError(listing([f"item {i}: {why}" for i, why in embedded.failures.items()]))
        vectors: Vectors = embedded.vectors[embedded.index]
        return vectors

    def runs(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Any] | None,
        ids: Iterable[str] | None,
        *,
        start: int = 0,
    ) -> Iterator[EncodedRun]:
        """Encode samples; a generator of images is taken in parts so that they need not all be held.

        Args:
            images: See ``I0TScorer.score``.
            captions: The same.
            references: The same.
            ids: The same.
            start: Position of the first sample, for default ids.
        """
        image_vectors, text_vectors = as_embeddings(images), as_embeddings(captions)
        texts = text_vectors if text_vectors is not None else strings(captions, "captions")
        refs = None if references is None else list(references)
        names = None if ids is None else [str(i) for i in ids]
        if not len(texts):
            raise InputError("nothing to score: no captions")
        same_length(captions=texts, references=refs, ids=names)
        done = 0
        for part in [image_vectors] if image_vectors is not None else parts(images):
            rows = slice(done, done + len(part))
            done += len(part)
            if done > len(texts):
                continue
            part_names = names[rows] if names else default_ids(part, start + rows.start)
            yield self._run(part, texts[rows], None if refs is None else refs[rows], part_names)
            del part  # before the next is read
        if done != len(texts):
            raise InputError(f"{done} images but {len(texts)} captions; give one image for each caption")

    def _run(self, images: Any, captions: Any, references: list[Any] | None, ids: Sequence[str]) -> EncodedRun:
        bad = {} if isinstance(captions, np.ndarray) else caption_problems(captions)
        if references is not None:
            bad |= reference_problems(references)
        self._refuse(bad, ids)
        keep = [i for i in range(len(ids)) if i not in bad]
        x = self.side(_rows(images, keep) if bad else images, "image")
        bad |= {keep[i]: why for i, why in x.failures.items()}
        self._refuse(bad, ids)
        good = x.index >= 0
        keep = [i for i, ok in zip(keep, good, strict=True) if ok]
        kept_captions = _rows(captions, keep)
        y = self.side(kept_captions, "text")
        if x.vectors.shape[1] != y.vectors.shape[1]:
            raise InputError(f"images have {x.vectors.shape[1]} dimensions, captions {y.vectors.shape[1]}")
        image_index = x.index[good]
        return EncodedRun(
            ids=tuple(ids[i] for i in keep),
            captions=() if isinstance(captions, np.ndarray) else tuple(kept_captions),
            images=x.vectors,
            image_index=image_index,
            image_keys=keys(images, keep, image_index, len(x.vectors)),
            texts=y.vectors,
            text_index=y.index,
            text_keys=keys(captions, keep, y.index, len(y.vectors)),
            references=None if references is None else self._references([references[i] for i in keep]),
            tokens=None if y.token_counts is None else y.token_counts[y.index],
            tokens_cut=None if y.tokens_cut is None else y.tokens_cut[y.index],
            skipped=tuple(Skipped(ids[i], why) for i, why in sorted(bad.items())),
        )

    def _refuse(self, bad: dict[int, str], ids: Sequence[str]) -> None:
        if bad and self.options.on_error != "skip":
            lines = [f"{ids[i]}: {why}" for i, why in sorted(bad.items())]
            raise InputError(f"{listing(lines)}\n{SKIP_HINT}")

    def side(self, items: Any, kind: str) -> Embedded:
        """Embed images or, of any other kind, captions; equal ones and equal embeddings once."""
        from i0tscore.encoders.loop import Embedded

        given = as_embeddings(items)
        if given is not None:
            rows: dict[bytes, int] = {}
            # Rows are known by their hashes, which take less memory than the rows.
            digests = (hashlib.sha256(row.tobytes()).digest() for row in given)
            index = [rows.setdefault(digest, len(rows)) for digest in digests]
            if len(rows) < len(given):
                given = given[np.unique(index, return_index=True)[1]]
            return Embedded(given, np.array(index, dtype=np.int64), {})
        return self._embed_images(items) if kind == "image" else self._embed_texts(items)

    def _references(self, references: list[Any]) -> EncodedReferences:
        lists = [[r] if isinstance(r, str) else r for r in references]
        counts = np.array([len(r) for r in lists], dtype=np.int64)
        flat = [text for r in lists for text in r]
        embedded = self.side(np.stack(flat) if isinstance(flat[0], np.ndarray) else flat, "text")
        return EncodedReferences(embedded.vectors, tuple(np.split(embedded.index, np.cumsum(counts)[:-1])))

    def _embed_images(self, images: Sequence[Any]) -> Embedded:
        from i0tscore.encoders.loop import embed_images

        return embed_images(
            self.encoder,
            images,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            cache=self._open_cache(),
            progress=self.options.progress,
        )

    def _embed_texts(self, texts: Sequence[str]) -> Embedded:
        from i0tscore.encoders.loop import embed_captions

        return embed_captions(
            self.encoder,
            texts,
            prefix=self.prefix,
            batch_size=self.options.batch_size,
            long_captions=self.options.long_captions,
            cache=self._open_cache(),
            progress=self.options.progress,
        )

    def _open_cache(self) -> EmbeddingCache | None:
        if self.options.cache_dir is None:
            return None
        if self._cache is None:
            from i0tscore.encoders.cache import EmbeddingCache

            self._cache = EmbeddingCache(self.encoder, self.options.cache_dir)
        return self._cache


def _rows(items: Any, keep: Sequence[int]) -> Any:
    """Some of the items, in an array if they are rows of one: a list of rows is not seen as embeddings."""
    return items[list(keep)] if isinstance(items, np.ndarray) else [items[i] for i in keep]
