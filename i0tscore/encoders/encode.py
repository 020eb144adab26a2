"""Encode the images and captions of a run, as callers pass them, into an ``EncodedRun``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.options import EncodeOptions
from i0tscore.errors import InputError
from i0tscore.gap import normalize
from i0tscore.gap.vectors import Rows, View, chunks, is_tensor
from i0tscore.samples import Skipped
from i0tscore.samples.diagnostics import preview
from i0tscore.samples.embeddings import StoredRows
from i0tscore.samples.text import is_tokens

if TYPE_CHECKING:
    from i0tscore.encoders.base import Encoder, Fingerprint
    from i0tscore.encoders.cache import EmbeddingCache
    from i0tscore.encoders.loop import Embedded
    from i0tscore.encoders.remembered import RememberedEncoder

Vectors = NDArray[np.float32]
Index = NDArray[np.int64]

SKIP_HINT = "To score the rest, use on_error='skip' (--on-error skip)."

_READ_ONCE = " A generator can be read only once."
_STREAM = 512  # images of a generator in memory at once
_EMBEDDINGS = np.ndarray | StoredRows | View
_LISTED, _NAMED = 20, 3
_MARKUP = re.compile(
    r"<\|?(start|end)_?of_?text\|?>|</?s>|<(bos|eos|pad|unk)>|\[(CLS|SEP|PAD|UNK|MASK)\]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedReferences:
    """Embeddings of the distinct references of a run.

    Attributes:
        vectors: Shape (mr, d).
        index: For each of n samples the rows of ``vectors``, at least one.
    """

    vectors: Vectors
    index: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedContexts:
    """Embeddings of the distinct contexts of a run, which are encoded without prefix.

    Attributes:
        texts: The context of each sample (n); None if it has none, or if embeddings were given.
        vectors: Unit embeddings of the distinct contexts (mx, d).
        index: Row of ``vectors`` for each sample (n,); -1 for samples without a context.
        tokens_cut: Number of tokens of each context that did not fit (n,).
    """

    texts: tuple[str | None, ...]
    vectors: Vectors
    index: Index
    tokens_cut: Index

    @classmethod
    def concat(cls, runs: Sequence[EncodedRun]) -> EncodedContexts | None:
        """Join the contexts of runs, equal texts once; the samples of runs without contexts have none."""
        if all(run.contexts is None for run in runs):
            return None
        parts = [run.contexts or cls.missing(run.n, run.images.shape[1]) for run in runs]
        vectors, index, _ = _join([(part.vectors, part.index, part._keys()) for part in parts])
        missing = np.concatenate([part.index < 0 for part in parts])
        texts = tuple(text for part in parts for text in part.texts)
        return cls(texts, vectors, np.where(missing, -1, index), np.concatenate([part.tokens_cut for part in parts]))

    def _keys(self) -> tuple[Any, ...]:
        """Return the text of each vector, or a unique object where there is none."""
        text_of = {row: text for row, text in zip(self.index.tolist(), self.texts, strict=True) if text is not None}
        return tuple(text_of.get(row, object()) for row in range(len(self.vectors)))

    @classmethod
    def missing(cls, n: int, dimension: int) -> EncodedContexts:
        """Return the contexts of n samples that have none."""
        nowhere = np.full(n, -1, dtype=np.int64)
        return cls((None,) * n, np.empty((0, dimension), dtype=np.float32), nowhere, np.zeros_like(nowhere))


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRun:
    """Embeddings of the distinct images and captions of a run, and which of them each sample has.

    Attributes:
        ids: Sample ids (n).
        captions: Captions (n), or empty if embeddings were given.
        images: Unit embeddings of the distinct images (mi, d); those of files are read when used.
        image_index: Row of ``images`` for each sample (n,).
        image_keys: Identity of each distinct image (mi), such as its path.
        texts: Unit embeddings of the distinct captions (mc, d); those of files are read when used.
        text_index: Row of ``texts`` for each sample (n,).
        text_keys: Identity of each distinct caption (mc).
        references: References of all samples, or None.
        contexts: Contexts of the samples, or None.
        tokens: Token counts (n,), or None.
        tokens_cut: Number of tokens that did not fit (n,), or None.
        unknown: Whether more than a third of the tokens of each caption are unknown to the model (n,), or None.
        image_notes: Notes on images.
        skipped: Samples left out.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    images: Rows
    image_index: Index
    image_keys: tuple[Any, ...]
    texts: Rows
    text_index: Index
    text_keys: tuple[Any, ...]
    references: EncodedReferences | None = None
    contexts: EncodedContexts | None = None
    tokens: Index | None = None
    tokens_cut: Index | None = None
    unknown: NDArray[np.bool_] | None = None
    image_notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.ids)

    @property
    def pairs(self) -> tuple[Vectors, Vectors]:
        """Image and caption embeddings of the samples, float32 (n, d) each."""
        images, captions = self.rows
        return images[:], captions[:]

    @property
    def rows(self) -> tuple[Rows, Rows]:
        """The same, read when used."""
        return View(self.images, self.image_index), View(self.texts, self.text_index)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on images and captions that may not be scored as they look."""
        notes = self.image_notes + caption_notes(self.ids, self.captions, self.unknown)
        if self.contexts is None or not self.contexts.tokens_cut.any():
            return notes
        cut = [name for name, count in zip(self.ids, self.contexts.tokens_cut, strict=True) if count]
        shown = preview(dict.fromkeys(cut))
        return (
            *notes,
            f"Contexts truncated to the context length of the model: {len(cut)} ({shown}).",
        )

    @classmethod
    def concat(cls, runs: Sequence[EncodedRun]) -> EncodedRun:
        """Join runs; images and captions of several runs are stored once."""
        if len(runs) == 1:
            return runs[0]
        images, image_index, image_keys = _join([(r.images, r.image_index, r.image_keys) for r in runs])
        texts, text_index, text_keys = _join([(r.texts, r.text_index, r.text_keys) for r in runs])
        references = None
        parts = [r.references for r in runs if r.references is not None]
        if len(parts) == len(runs):
            offsets = np.cumsum([0, *(len(part.vectors) for part in parts)])
            references = EncodedReferences(
                np.concatenate([part.vectors for part in parts]),
                tuple(rows + offset for part, offset in zip(parts, offsets, strict=False) for rows in part.index),
            )
        tokens = [r.tokens for r in runs if r.tokens is not None]
        tokens_cut = [r.tokens_cut for r in runs if r.tokens_cut is not None]
        unknown = [r.unknown for r in runs if r.unknown is not None]
        return cls(
            ids=tuple(i for r in runs for i in r.ids),
            captions=tuple(c for r in runs for c in r.captions),
            images=images,
            image_index=image_index,
            image_keys=image_keys,
            texts=texts,
            text_index=text_index,
            text_keys=text_keys,
            references=references,
            contexts=EncodedContexts.concat(runs),
            tokens=np.concatenate(tokens) if len(tokens) == len(runs) else None,
            tokens_cut=np.concatenate(tokens_cut) if len(tokens_cut) == len(runs) else None,
            unknown=np.concatenate(unknown) if len(unknown) == len(runs) else None,
            image_notes=tuple(dict.fromkeys(note for r in runs for note in r.image_notes)),
            skipped=tuple(s for r in runs for s in r.skipped),
        )


def _join(parts: Sequence[tuple[Rows, Index, tuple[Any, ...]]]) -> tuple[Vectors, Index, tuple[Any, ...]]:
    """Concatenate distinct vectors, keeping the first of each key, and update the indices of the samples."""
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


class RunEncoder:
    """Encodes images and captions into ``EncodedRun``, loading the encoder at first use.

    Args:
        options: How to encode.
        prefix: Text before each caption.
    """

    def __init__(self, options: EncodeOptions, prefix: str) -> None:
        self.options = options
        self.prefix = prefix
        self._encoder: Encoder | None = None if isinstance(options.model, str) else options.model
        self._remembered: RememberedEncoder | None = None

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

    def _open(self) -> tuple[Encoder, EmbeddingCache | None]:
        """Return the encoder and its cache. With a cache, the encoder is loaded only for what is not cached."""
        if self.options.cache_dir is None:
            return self.encoder, None
        if self._remembered is None:
            from i0tscore.encoders.remembered import RememberedEncoder

            self._remembered = RememberedEncoder(self.options, lambda: self.encoder)
        return self._remembered, self._remembered.cache

    @property
    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the encoder."""
        return self._open()[0].fingerprint

    @property
    def used_fingerprint(self) -> Fingerprint | None:
        """Fingerprint of the encoder; None as long as only embeddings were given."""
        return None if self._encoder is None and self._remembered is None else self.fingerprint

    @property
    def signature_fields(self) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
        """Signature fields of the encoder, and of the encoding of texts; none if only embeddings were given."""
        f = self.used_fingerprint
        if f is None:
            return (), ()
        return (
            (("m", f.name), ("act", f.activation), ("w", f.weights), ("prep", f.preprocess)),
            (("prefix", self.prefix.strip()), ("prec", f.precision), ("long", self.options.long_captions)),
        )

    def embed(self, items: Any, kind: str) -> Embedded:
        """Embed images, texts (captions and references), or contexts; equal ones, or rows of embeddings, once."""
        from i0tscore.encoders.loop import Embedded, embed_captions, embed_images

        given = as_embeddings(items)
        if given is not None:
            rows: dict[bytes, int] = {}
            # Hashes of rows take less memory than the rows.
            digests = (hashlib.sha256(row).digest() for part in chunks(len(given)) for row in given[part])
            index = np.array([rows.setdefault(digest, len(rows)) for digest in digests], dtype=np.int64)
            if len(rows) < len(given):
                given = _take(given, np.unique(index, return_index=True)[1])
            return Embedded(cast(Vectors, given), index, {})  # stored rows are read in blocks
        encoder, cache = self._open()
        try:
            if kind == "image":
                return embed_images(encoder, items, self.options, cache=cache)
            context = kind == "context"
            prefix, noun = ("", "context") if context else (self.prefix, "caption")
            return embed_captions(encoder, items, self.options, prefix=prefix, noun=noun, cache=cache)
        except KeyboardInterrupt as interrupt:
            if cache is not None and cache.used:
                interrupt.add_note(
                    f"{cache.used} embeddings are cached in {cache.path}. Run the same command to continue."
                )
            raise

    def vectors(self, items: Iterable[Any], kind: str) -> Vectors:
        """Return unit embeddings (n, d) of images or captions, or of embeddings as given.

        Raises:
            InputError: An item cannot be encoded, or the items have no order.
        """
        given = as_embeddings(items)
        if given is not None:
            vectors: Vectors = given[:]
            return vectors
        items = ordered(items, f"{kind}s")
        embedded = self.embed(items if hasattr(items, "__getitem__") else list(items), kind)
        if embedded.failures:
            raise InputError(listing((f"item {i}", reason) for i, reason in embedded.failures.items()))
        return embedded.vectors[embedded.index]

    def runs(
        self,
        images: Iterable[Any],
        captions: Iterable[Any],
        references: Iterable[Any] | None,
        ids: Iterable[str] | None,
        contexts: Iterable[Any] | None = None,
        *,
        start: int = 0,
    ) -> Iterator[EncodedRun]:
        """Encode samples: a sequence of images in one run, a generator in several, to bound memory.

        Args:
            images: As for ``I0TScorer.score``.
            captions: As for ``I0TScorer.score``.
            references: As for ``I0TScorer.score``.
            ids: As for ``I0TScorer.score``.
            contexts: As for ``I0TScorer.score``.
            start: Position of the first sample, for default ids.

        Raises:
            InputError: Lengths differ, or a sample cannot be encoded and ``on_error`` is ``raise``.
        """
        given, text_vectors = as_embeddings(images), as_embeddings(captions)
        texts = text_vectors if text_vectors is not None else list(ordered(captions, "captions"))
        refs = None if references is None else [reference_list(own) for own in ordered(references, "references")]
        names = None if ids is None else [str(i) for i in ordered(ids, "ids")]
        places: Any = as_embeddings(contexts)
        if places is None and contexts is not None:
            places = list(ordered(contexts, "contexts"))
        if not len(texts):
            hint = _READ_ONCE if isinstance(captions, Iterator) else ""
            raise InputError(f"Nothing to score: there are no captions.{hint}")
        if refs and len(refs) != len(texts) and {len(own) for own in refs if isinstance(own, list)} == {len(texts)}:
            raise InputError(
                f"Expected references for each of {len(texts)} captions, got {len(refs)} lists of {len(texts)}. "
                "A torch DataLoader swaps the axes of lists of strings: pass list(zip(*references))."
            )
        same_length(captions=texts, references=refs, contexts=places, ids=names)
        done = 0
        for part in [given] if given is not None else _parts(images):
            rows = slice(done, done + len(part))
            done += len(part)
            if done > len(texts):
                continue
            part_names = names[rows] if names else _default_ids(part, start + rows.start)
            own_refs, own_places = (None if column is None else column[rows] for column in (refs, places))
            own_texts = texts if len(part) == len(texts) else texts[rows]
            yield self._encode(part, own_texts, own_refs, own_places, part_names)
            del part  # before the next one is read
        if done != len(texts):
            hint = _READ_ONCE if not done and isinstance(images, Iterator) else ""
            if getattr(images, "ndim", 0) == 3:
                hint = " Put a single image in a list."
            raise InputError(f"Expected as many images as captions, got {done} images and {len(texts)} captions.{hint}")

    def _encode(
        self, images: Any, captions: Any, references: list[Any] | None, contexts: Any, ids: Sequence[str]
    ) -> EncodedRun:
        bad = _find_problems(images, captions, references, contexts)
        self._check(bad, ids)
        keep = [i for i in range(len(ids)) if i not in bad]
        x = self.embed(_take(images, keep) if bad else images, "image")
        bad |= {keep[i]: reason for i, reason in x.failures.items()}
        self._check(bad, ids)
        good = x.index >= 0
        keep = [i for i, ok in zip(keep, good, strict=True) if ok]
        kept_captions = _take(captions, keep)
        y = self.embed(kept_captions, "text")
        if x.vectors.shape[1] != y.vectors.shape[1]:
            raise InputError(
                "Expected images and captions with the same number of dimensions, got "
                f"{x.vectors.shape[1]} and {y.vectors.shape[1]}."
            )
        image_index = x.index[good]
        return EncodedRun(
            ids=tuple(ids[i] for i in keep),
            captions=() if isinstance(captions, _EMBEDDINGS) else tuple(kept_captions),
            images=x.vectors,
            image_index=image_index,
            image_keys=_keys(images, keep, image_index, len(x.vectors)),
            texts=y.vectors,
            text_index=y.index,
            text_keys=_keys(captions, keep, y.index, len(y.vectors)),
            references=None if references is None else self._embed_references([references[i] for i in keep], x),
            contexts=None if contexts is None else self._embed_contexts(_take(contexts, keep), x.vectors.shape[1]),
            tokens=None if y.token_counts is None else y.token_counts[y.index],
            tokens_cut=None if y.tokens_cut is None else y.tokens_cut[y.index],
            unknown=None if y.unknown is None else y.unknown[y.index],
            image_notes=x.notes,
            skipped=tuple(Skipped(ids[i], reason) for i, reason in sorted(bad.items())),
        )

    def _embed_references(self, lists: list[list[Any]], images: Embedded) -> EncodedReferences:
        flat = [text for own in lists for text in own]
        if len({isinstance(text, str) for text in flat}) > 1:
            raise InputError("Expected references to be all texts or all embeddings, got both.")
        dimension, found = images.vectors.shape[1], {len(own) for own in flat if isinstance(own, np.ndarray)}
        if found - {dimension}:
            raise InputError(f"Expected references with {dimension} dimensions like the images, got {sorted(found)}.")
        embedded = self.embed(np.stack(flat) if found else flat, "text")
        ends = np.cumsum([len(own) for own in lists], dtype=np.int64)
        return EncodedReferences(embedded.vectors, tuple(np.split(embedded.index, ends[:-1]))[: len(lists)])

    def _embed_contexts(self, contexts: Any, dimension: int) -> EncodedContexts:
        found, n = EncodedContexts.missing(len(contexts), dimension), len(contexts)
        given = isinstance(contexts, np.ndarray)
        rows = np.arange(n) if given else np.array([i for i, text in enumerate(contexts) if has_text(text)], dtype=int)
        if not len(rows):
            return found
        embedded = self.embed(contexts if given else [contexts[i] for i in rows], "context")
        if embedded.vectors.shape[1] != dimension:
            raise InputError(
                f"Expected contexts with {dimension} dimensions like the images, got {embedded.vectors.shape[1]}."
            )
        found.index[rows] = embedded.index
        if embedded.tokens_cut is not None:
            found.tokens_cut[rows] = embedded.tokens_cut[embedded.index]
        texts = found.texts if given else tuple(text if has_text(text) else None for text in contexts)
        return replace(found, texts=texts, vectors=embedded.vectors)

    def _check(self, bad: dict[int, str], ids: Sequence[str]) -> None:
        if bad and self.options.on_error != "skip":
            raise InputError(f"{listing((ids[i], reason) for i, reason in sorted(bad.items()))}\n{SKIP_HINT}")


def as_embeddings(items: Any) -> Rows | None:
    """Return a float array or tensor (n, d), or stored rows, as unit float32 rows, and None for anything else.

    Raises:
        InputError: A value is not finite, or a row is zero.
    """
    if isinstance(items, StoredRows | View):
        return items
    items = as_numpy(items)
    if not isinstance(items, np.ndarray) or items.ndim != 2 or not np.issubdtype(items.dtype, np.floating):
        return None
    if not np.isfinite(items).all():
        raise InputError("Expected finite embeddings, got NaN or infinity.")
    vectors: Vectors = normalize(np.asarray(items, dtype=np.float32))
    if np.isnan(vectors).any():
        row = int(np.flatnonzero(np.isnan(vectors).any(axis=1))[0])
        raise InputError(f"Embedding {row} is all zeros, so it has no direction and cannot be scored.")
    return vectors


def as_numpy(items: Any) -> Any:
    """Return a float tensor as a float32 array, and anything else as it is."""
    return items.detach().cpu().float().numpy() if is_tensor(items) and items.is_floating_point() else items


def ordered(items: Any, what: str) -> Any:
    """Return items that are indexed or iterated by position; lazy sequences and iterators are not read.

    Every list of images, captions, references, and ids that a caller passes goes through this function, because a
    pandas Series is indexed by label, and mappings and sets have no positions.

    Args:
        items: A list, tuple, array, tensor, column (pandas, Arrow, datasets), any other sequence, or an iterator.
        what: What the items are, for messages.

    Raises:
        InputError: The items have no order, or there is a single item.

    Examples:
        >>> import pandas as pd
        >>> ordered(pd.Series(["one", "two"], index=[1, 0]), "captions")
        ['one', 'two']
    """
    if items is None:
        raise InputError(f"Expected a list of {what}, got None.")
    kind = type(items)
    in_order = hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")
    if isinstance(items, str | bytes | PurePath) or hasattr(kind, "read") or not in_order:
        single = "string" if isinstance(items, str) else kind.__name__
        raise InputError(f"Expected a list of {what}, got one {single}. Put it in a list.")
    if hasattr(kind, "columns") or hasattr(kind, "column_names"):
        raise InputError(f"Expected {what} in a list, got a {kind.__name__}. Pass one of its columns.")
    if isinstance(items, Mapping | set | frozenset):
        raise InputError(f"Expected {what} in a list, got a {kind.__name__}, which has no positions. Pass a list.")
    if hasattr(items, "to_pylist"):  # Arrow, whose items are not Python's
        return items.to_pylist()
    if hasattr(items, "iloc") or (isinstance(items, np.ndarray) and items.dtype.kind in "OUT"):
        return list(items)
    return items


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, or pandas' NA or NaT."""
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def caption_notes(ids: Sequence[str], captions: Sequence[str], unknown: NDArray[np.bool_] | None) -> tuple[str, ...]:
    """Count captions that may not be scored as they look, with the first ids; ``captions`` is empty for embeddings."""
    foreign = [] if unknown is None else [name for name, is_unknown in zip(ids, unknown, strict=True) if is_unknown]
    marked = [name for name, text in zip(ids, captions, strict=False) if _MARKUP.search(text)]
    findings = {
        "The model does not know over a third of the tokens in some captions, whose scores mean little": foreign,
        "Tokenizer markup in captions, such as </s>, is scored as plain text": marked,
    }
    return tuple(
        f"{what}: {len(found)} ({preview(dict.fromkeys(found))})." for what, found in findings.items() if found
    )


def caption_problem(caption: Any) -> str | None:
    """Return why a value is not a caption that can be scored; None if it is one."""
    if isinstance(caption, str):
        return None if caption.strip() else "the caption is empty"
    if is_missing(caption):
        return "the caption is missing"
    if isinstance(caption, list | tuple) or (isinstance(caption, np.ndarray) and caption.dtype.kind in "OUT"):
        if is_tokens(list(caption)):
            return "Expected a caption, got a list of tokens. Join them with spaces."
        return "Expected a caption, got a list. Pass each caption as a separate item, and repeat its image."
    hint = ""
    if isinstance(caption, PurePath) or hasattr(caption, "getpixel") or getattr(caption, "ndim", 0) > 1:
        hint = "; images are the first argument, captions the second"
    elif getattr(caption, "ndim", 0) == 1:
        hint = "; stack embeddings into one array (n, d)"
    return f"the caption is {type(caption).__name__}, not a string{hint}"


def same_length(**columns: Any) -> None:
    """Check that columns, by their names for messages, are as long as the first one; None stands for no column.

    Raises:
        InputError: A column has another length.
    """
    first, *others = columns
    count = len(columns[first])
    for name in others:
        if columns[name] is not None and len(columns[name]) != count:
            raise InputError(
                f"Expected as many {name} as {first}, got {len(columns[name])} {name} and {count} {first}."
            )


def listing(problems: Iterable[tuple[object, str]]) -> str:
    """List problems by id: one line for each reason, up to 20 lines, and the number of the rest.

    Examples:
        >>> print(listing([("a", "no image"), ("b", "empty"), ("c", "no image")]))
        a, c: no image
        b: empty
    """
    owners: dict[str, list[str]] = {}
    for owner, reason in problems:
        owners.setdefault(reason, []).append(str(owner))
    lines = []
    for reason, ids in owners.items():
        rest = f", and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        lines.append(f"{', '.join(ids[:_NAMED])}{rest}: {reason}")
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n".join([*lines[:_LISTED], *more])


def _parts(images: Iterable[Any]) -> Iterator[Any]:
    """Yield a sequence as it is, and anything else in lists that fit into memory."""
    images = ordered(images, "images")
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        yield images
        return
    iterator = iter(images)
    while part := list(islice(iterator, _STREAM)):
        yield part
        del part  # before the next one is read


def reference_list(own: Any) -> Any:
    """Return the references of a sample as a list; a value that cannot be a list of references stays as it is."""
    if isinstance(own, str):
        return [own]
    if is_missing(own):
        return []
    own = as_numpy(own)
    if isinstance(own, np.ndarray) and own.ndim == 1 and own.dtype.kind == "f":  # one embedding
        return [own]
    try:
        return list(ordered(own, "references"))
    except InputError:
        return own


def _find_problems(images: Any, captions: Any, references: list[Any] | None, contexts: Any) -> dict[int, str]:
    """Return what is wrong with samples, by position; lazy sequences of images are not read, embeddings are valid."""
    listed = images if isinstance(images, list | tuple) else ()
    problems = {i: "the image is missing" for i, image in enumerate(listed) if is_missing(image)}
    texts = () if isinstance(captions, _EMBEDDINGS) else captions
    problems |= {i: problem for i, caption in enumerate(texts) if (problem := caption_problem(caption))}
    places = () if contexts is None or isinstance(contexts, np.ndarray) else contexts
    problems |= {
        i: f"the context is {type(place).__name__}, not a string"
        for i, place in enumerate(places)
        if not (isinstance(place, str) or is_missing(place))
    }
    return problems | {i: problem for i, own in enumerate(references or ()) if (problem := reference_problem(own))}


def has_text(context: Any) -> bool:
    """Return whether a context is neither missing nor blank."""
    return isinstance(context, str) and bool(context.strip())


def reference_problem(own: Any) -> str | None:
    """Return why a value from ``reference_list`` is not a list of references; None if it is one."""
    if not isinstance(own, list):
        return f"the references are {type(own).__name__}, not a list of strings"
    if not own:
        return "no references; give at least one"
    if is_tokens(own):
        return "Expected references, got a list of tokens. Join them with spaces."
    for i, text in enumerate(own):
        if is_missing(text):
            return f"reference {i} is missing"
        if not isinstance(text, str | np.ndarray):
            return f"reference {i} is {type(text).__name__}, not a string"
        if isinstance(text, str) and not text.strip():
            return f"reference {i} is empty"
    return None


def _default_ids(images: Any, start: int) -> list[str]:
    """Return stems of paths and positions of anything else; lazy sequences are not read."""
    ids = [str(start + i) for i in range(len(images))]
    if not isinstance(images, list | tuple):
        return ids
    stems = [PurePath(image).stem if isinstance(image, str | PurePath) else "" for image in images]
    return [stem or i for stem, i in zip(stems, ids, strict=True)]


def _keys(items: Any, rows: Sequence[int], index: Index, count: int) -> tuple[Any, ...]:
    """Return the text or path of each of ``count`` distinct vectors, or a unique object where there is none.

    ``items[rows[i]]`` has vector ``index[i]``. Lazy sequences are not read.
    """
    keys: list[Any] = [object() for _ in range(count)]
    for row, vector in zip(rows, index, strict=True) if isinstance(items, list | tuple) else ():
        if isinstance(items[row], str | PurePath):
            keys[vector] = str(items[row])
    return tuple(keys)


def _take(items: Any, keep: Sequence[int] | Index) -> Any:
    """Return some items, as an array if they are its rows: a list of rows would not be seen as embeddings."""
    if len(keep) == len(items):
        return items
    if isinstance(items, StoredRows | View):
        return View(items, np.asarray(keep))
    if isinstance(items, np.ndarray):
        return items[np.asarray(keep, dtype=np.int64)]
    return [items[i] for i in keep] if isinstance(items, list | tuple) else _LazyRows(items, list(keep))


@dataclass(frozen=True, slots=True)
class _LazyRows:
    """Some items of a lazy sequence, such as a column of images, which would not fit into memory."""

    items: Any
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Any:
        return self.items[self.rows[position]]
