"""What is retrieved: images and texts, each with what makes it relevant to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.inputs import listing
from i0tscore.encoders.loop import Embedded
from i0tscore.errors import InputError
from i0tscore.samples import Skipped
from i0tscore.samples.labelled import Labelled

Kind = Literal["image", "text"]

Embed = Callable[[Any, str], Embedded]
"""From inputs and their kind to embeddings, such as ``RunEncoder.side``."""


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Embedded items of one kind.

    Attributes:
        ids: Their names (n), all different.
        vectors: Unit embeddings (n, d).
        labels: Items with the same label are relevant to one another (n,).
        clusters: What is resampled for intervals (n,): captions of one image go together.
        over: What that is, in words.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    labels: NDArray[Any]
    clusters: NDArray[Any]
    over: str = "images"

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Items:
        """Some of them."""
        ids = tuple(self.ids[row] for row in rows)
        return replace(
            self,
            ids=ids,
            vectors=self.vectors[rows],
            labels=self.labels[rows],
            clusters=self.clusters[rows],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Items of one kind that are not embedded yet.

    Attributes:
        kind: What they are.
        contents: Images or texts, or embeddings (n, d).
        ids: Their names (n), all different.
        labels: See ``Items``.
        clusters: See ``Items``.
        over: See ``Items``.
    """

    kind: Kind
    contents: Any
    ids: tuple[str, ...]
    labels: NDArray[Any]
    clusters: NDArray[Any]
    over: str = "images"

    def embedded(self, embed: Embed, *, skip: bool) -> tuple[Items, list[Skipped]]:
        """The items that can be embedded, and those that cannot.

        Raises:
            InputError: There are none, or some cannot be embedded and ``skip`` is not set.
        """
        found = embed(self.contents, self.kind)
        failed = [Skipped(self.ids[row], why) for row, why in found.failures.items()]
        if failed and (not skip or len(failed) == len(self.ids)):
            told = listing([f"{one.id}: {one.reason}" for one in failed])
            raise InputError(f"{told}\nleave them out with --on-error skip (on_error)")
        rows = np.flatnonzero(found.index >= 0)
        ids = tuple(self.ids[row] for row in rows)
        vectors = found.vectors[found.index[rows]]
        return Items(ids, vectors, self.labels[rows], self.clusters[rows], self.over), failed


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """The images and the texts of a corpus; either may be missing.

    Attributes:
        images: Each image once.
        texts: Captions, or a prompt for each label.
        prompts: Whether the texts are prompts of labels, complete as they are.
    """

    images: Entries | None
    texts: Entries | None
    prompts: bool = False

    def side(self, kind: Kind) -> Entries:
        """The items of one kind.

        Raises:
            InputError: There are none.
        """
        found = self.images if kind == "image" else self.texts
        if found is None:
            raise InputError(f"there are no {kind}s in it, which this task needs: name them, or choose another")
        return found

    @classmethod
    def of_pairs(cls, images: Any, captions: Any, ids: Sequence[str]) -> Self:
        """Images with their captions, which are relevant to one another.

        Args:
            images: One for each caption, or embeddings (n, d). The same path, or else the same id, is the
                same image; of embeddings, the same id with the same embedding, since ids may be names of
                files in several folders.
            captions: Texts (n), or embeddings (n, d).
            ids: Of the samples (n); captions of one image may share one.
        """
        plain = isinstance(images, np.ndarray)
        keys = [
            f"id {name} {sha256(image.tobytes()).hexdigest()}" if plain else _key(image, name)
            for image, name in zip(images, ids, strict=True)
        ]
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            first.setdefault(key, row)
        rows = list(first.values())
        place = {key: number for number, key in enumerate(first)}
        own = np.array([place[key] for key in keys], dtype=np.int64)
        names = tuple(ids[row] for row in rows)
        each = np.arange(len(rows))
        contents = images[rows] if plain else [images[row] for row in rows]
        return cls(
            Entries("image", contents, _distinct(names), each, each),
            Entries(
                "text",
                captions,
                _distinct(tuple(f"{names[image]}#{k}" for image, k in zip(own, _numbered(own), strict=True))),
                own,
                own,
            ),
        )

    @classmethod
    def of_labelled(cls, items: Sequence[Labelled], template: str) -> Self:
        """Items with labels; where they have no captions, the texts are a prompt for each label.

        Args:
            items: What was read. An image that several have, as in ``of_pairs``, is there once for each
                label it has.
            template: A text with ``{}`` for the label, whose underscores become spaces.
        """
        labels = np.array([item.label for item in items])
        names = _distinct(tuple(item.id for item in items))
        over, own = "texts", np.arange(len(items))
        images = texts = None
        if all(item.image is not None for item in items):
            keys = [_key(item.image, item.id) for item in items]
            over, own = "images", np.unique(keys, return_inverse=True)[1]
            first: dict[tuple[str, str], int] = {}
            for row, key in enumerate(zip(keys, labels.tolist(), strict=True)):
                first.setdefault(key, row)
            rows = np.array(list(first.values()), dtype=np.int64)
            known = tuple(names[row] for row in rows)
            images = Entries("image", [items[row].image for row in rows], known, labels[rows], own[rows])
        prompts = any(item.caption is None for item in items)
        if prompts:
            kinds = sorted(set(labels.tolist()))
            said = [template.replace("{}", label.replace("_", " ")) for label in kinds]
            order = np.arange(len(kinds))
            texts = Entries("text", said, tuple(kinds), np.array(kinds), order, "texts")
        else:
            texts = Entries("text", [item.caption for item in items], names, labels, own, over)
        return cls(images, texts, prompts)


def _key(image: object, name: str) -> str:
    """What an image is known by: its path, else its id."""
    return str(image) if isinstance(image, str | Path) else f"id {name}"


def _numbered(own: NDArray[np.int64]) -> list[int]:
    """For each caption how many of its image came before it."""
    count: dict[int, int] = {}
    numbers = []
    for image in own.tolist():
        numbers.append(count.get(image, 0))
        count[image] = numbers[-1] + 1
    return numbers


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, with their row behind those that come more than once."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return tuple(name if seen[name] == 1 else f"{name} (row {row})" for row, name in enumerate(names, 1))
