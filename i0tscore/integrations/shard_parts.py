"""Encodes a shard part by part, and keeps what was encoded on disk between two passes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encode import RunEncoder
from i0tscore.encoders.encoded import EncodedReferences, EncodedRun
from i0tscore.encoders.images import load
from i0tscore.encoders.inputs import SKIP_HINT, listing
from i0tscore.errors import InputError
from i0tscore.integrations.shard_files import Entry
from i0tscore.integrations.shard_store import Columns
from i0tscore.samples import ImageSource
from i0tscore.samples.sample import StoredImage

PART_ROWS = 512
PART_BYTES = 256_000_000
"""A part ends with the row that reaches either bound; one part is in memory at a time."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some consecutive rows of a shard, encoded.

    Attributes:
        ids: Of all rows.
        reasons: For each row why it was left out, or None.
        rows: Positions of the rows that were not (n,).
        run: Those rows; its ``image_keys`` and ``text_keys`` are hashes of content. None if there are none.
    """

    ids: list[str]
    reasons: list[str | None]
    rows: NDArray[np.int64]
    run: EncodedRun | None


class _KeyedImage:
    """An image that remembers the hash of its content when it is read, and not the content."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.key = ""

    def read_bytes(self) -> bytes:
        source = self._source
        loaded = load(source if isinstance(source, Path) else source.read_bytes())
        self.key = loaded.key[:32]
        return loaded.content  # type: ignore[return-value]  # of files and bytes these are bytes

    def __str__(self) -> str:
        return self._source.name


def grouped(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Group entries into parts of bounded size."""
    part: list[Entry] = []
    held = 0
    for entry in entries:
        part.append(entry)
        image = None if entry.sample is None else entry.sample.image
        if isinstance(image, StoredImage) and isinstance(image.content, bytes):
            held += len(image.content)
        if len(part) >= PART_ROWS or held >= PART_BYTES:
            yield part
            part, held = [], 0
    if part:
        yield part


def encode_part(encoder: RunEncoder, shard: Path, entries: list[Entry], *, references: bool, skip: bool) -> Part:
    """Encode entries of a shard.

    Args:
        encoder: What encodes; it must skip where ``skip`` says so.
        shard: For messages.
        entries: At least one.
        references: Whether the references are wanted; then a row without is left out.
        skip: Leave out what cannot be scored instead of raising.

    Raises:
        InputError: Something cannot be scored and ``skip`` is off.
    """
    bad = [f"{e.label}: {e.reason}" for e in entries if e.sample is None]
    if bad and not skip:
        raise InputError(f"{shard}: {listing(bad)}\n{SKIP_HINT}")
    reasons: list[str | None] = [None if e.sample is not None else e.reason for e in entries]
    place = {e.label: row for row, e in enumerate(entries)}
    good = [(e.label, e.sample) for e in entries if e.sample is not None]
    keyed: dict[Any, _KeyedImage] = {}
    images = [
        keyed.setdefault(s.image if isinstance(s.image, Path) else label, _KeyedImage(s.image)) for label, s in good
    ]
    run = None
    if good:
        captions = [s.caption for _, s in good]
        wanted = [list(s.references) for _, s in good] if references else None
        run = _encoded(encoder, shard, images, captions, wanted, [label for label, _ in good])
        for label, reason in run.skipped:
            reasons[place[label]] = reason
        by_label = dict(zip([label for label, _ in good], images, strict=True))
        run = _with_keys(run, [by_label[label].key for label in run.ids]) if run.n else None
    rows = np.flatnonzero([reason is None for reason in reasons])
    return Part([e.sample.id if e.sample else e.id for e in entries], reasons, rows, run)


def _encoded(encoder: RunEncoder, shard: Path, *samples: Any) -> EncodedRun:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # captions that are cut are counted instead
        try:
            return EncodedRun.concat(list(encoder.runs(*samples)))
        except InputError as error:
            raise InputError(f"{shard}: {error}") from error


def _with_keys(run: EncodedRun, image_keys: list[str]) -> EncodedRun:
    first_image = np.unique(run.image_index, return_index=True)[1]
    first_text = np.unique(run.text_index, return_index=True)[1]
    texts = [hashlib.sha256(run.captions[i].encode()).hexdigest()[:32] for i in first_text]
    return replace(
        run,
        image_keys=tuple(image_keys[i] for i in first_image),
        text_keys=tuple(texts),
    )


def part_columns(part: Part, dimension: int, *, references: bool) -> Columns:
    """What is kept of a part: a row a sample, so that it can be restored without encoding again."""
    n = len(part.ids)
    columns: dict[str, Any] = {
        "id": part.ids,
        "skipped": part.reasons,
        "image_key": [""] * n,
        "caption_key": [""] * n,
        "cut": np.zeros(n, dtype=np.int64),
        "image": np.zeros((n, dimension), dtype=np.float32),
        "caption": np.zeros((n, dimension), dtype=np.float32),
    }
    counts, vectors = np.zeros(n, dtype=np.int64), np.zeros((0, dimension), dtype=np.float32)
    run = part.run
    if run is not None:
        for row, image, text in zip(part.rows, run.image_index, run.text_index, strict=True):
            columns["image_key"][row] = run.image_keys[image]
            columns["caption_key"][row] = run.text_keys[text]
        columns["cut"][part.rows] = 0 if run.tokens_cut is None else run.tokens_cut
        columns["image"][part.rows] = run.images[run.image_index]
        columns["caption"][part.rows] = run.texts[run.text_index]
        if run.references is not None:
            counts[part.rows] = [len(index) for index in run.references.index]
            vectors = run.references.vectors[np.concatenate(run.references.index)]
    return {**columns, "references": (counts, vectors)} if references else columns


def restored_part(columns: Columns) -> Part:
    """The part that ``part_columns`` described."""
    ids, reasons = columns["id"], columns["skipped"]
    rows = np.flatnonzero([reason is None for reason in reasons])
    if not len(rows):
        return Part(ids, reasons, rows, None)
    images, image_index, image_keys = _distinct(columns["image"], columns["image_key"], rows)
    texts, text_index, text_keys = _distinct(columns["caption"], columns["caption_key"], rows)
    references = None
    if "references" in columns:
        counts, vectors = columns["references"]
        pieces = np.split(np.arange(len(vectors)), np.cumsum(counts)[:-1])
        references = EncodedReferences(vectors, tuple(pieces[row] for row in rows))
    run = EncodedRun(
        ids=tuple(ids[row] for row in rows),
        captions=(),
        images=images,
        image_index=image_index,
        image_keys=image_keys,
        texts=texts,
        text_index=text_index,
        text_keys=text_keys,
        references=references,
        tokens_cut=columns["cut"][rows],
    )
    return Part(ids, reasons, rows, run)


def _distinct(vectors: NDArray[np.float32], keys: list[str], rows: NDArray[np.int64]) -> Any:
    """The distinct vectors of rows in the order that encoding gives them, so that sums come out the same."""
    own = np.array(keys)[rows]
    names, first, index = np.unique(own, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return vectors[rows][first[order]], np.argsort(order)[index], tuple(names[order].tolist())
