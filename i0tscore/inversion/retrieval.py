"""Retrieval with embeddings as they are, standardized, or with one side inverted: items, searches and their report."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from i0tscore.encoders.encode import caption_notes, listing
from i0tscore.encoders.loop import Embedded
from i0tscore.errors import InputError, UsageError
from i0tscore.gap import GapStatistics, Standardizer, Statistics
from i0tscore.inversion.inverted import Inverted
from i0tscore.results import Resampling, Signature
from i0tscore.results.retrieval import LABEL_MEASURES, LabelRetrieval, Method, RetrievalReport, Side, retrieve_by_label
from i0tscore.samples import Skipped
from i0tscore.samples.labeled import LabeledItem

Kind = Literal["image", "text"]

Embed = Callable[[Any, str], Embedded]
"""Function from inputs and their kind to embeddings, such as ``RunEncoder.embed``."""

TASKS: dict[str, tuple[Kind, Kind]] = {
    "image-text": ("image", "text"),
    "text-image": ("text", "image"),
    "image-image": ("image", "image"),
    "text-text": ("text", "text"),
}
"""Kinds of queries and gallery by task."""

Protocol = Literal["all", "cross-the-gap"]
"""Which captions are queries, and what queries without a relevant item count; see ``Search.of``."""


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Items of one kind.

    Attributes:
        ids: Distinct ids (n).
        contents: Unit embeddings (n, d); in a ``Collection``, images, texts or any embeddings (n).
        labels: Labels (n,); items with the same label are relevant to each other.
        clusters: Clusters to resample for intervals (n,), such as all captions of an image.
        over: What the clusters are, for messages.
    """

    ids: tuple[str, ...]
    contents: Any
    labels: NDArray[Any]
    clusters: NDArray[Any]
    over: str = "images"

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64], contents: NDArray[np.float32]) -> Items:
        """Return some of the items, with these contents."""
        return Items(tuple(self.ids[row] for row in rows), contents, self.labels[rows], self.clusters[rows], self.over)


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """The images and texts of a corpus, not yet embedded; either may be missing.

    Attributes:
        images: Distinct images.
        texts: Captions, or a prompt for each label.
        prompts: Whether the texts are prompts, which get no prefix.
    """

    images: Items | None
    texts: Items | None
    prompts: bool = False

    def embed(self, kind: Kind, embed: Embed, *, skip: bool) -> tuple[Items, list[Skipped], list[str]]:
        """Return the items of one kind that can be embedded, those that cannot, and notes.

        Raises:
            InputError: There are none, none can be embedded, or some cannot and ``skip`` is False.
        """
        items = self.images if kind == "image" else self.texts
        if items is None:
            raise InputError(f"This task needs {kind}s, but there are none. Add them, or choose another task.")
        found = embed(items.contents, kind)
        failed = [Skipped(items.ids[row], reason) for row, reason in found.failures.items()]
        if failed and (not skip or len(failed) == len(items)):
            lines = listing(failed)
            raise InputError(f"{lines}\nSkip these items with --on-error skip (on_error).")
        rows = np.flatnonzero(found.index >= 0)
        kept, notes = items.take(rows, found.vectors[found.index[rows]]), found.notes
        if found.unknown is not None:  # texts
            notes += caption_notes(kept.ids, [items.contents[row] for row in rows], found.unknown[found.index[rows]])
        return kept, failed, list(notes)

    @classmethod
    def of_pairs(cls, images: Any, captions: Any, ids: Sequence[str]) -> Self:
        """Collect images and captions, where an image and all its captions are relevant to each other.

        Args:
            images: One image per caption, or embeddings (n, d). Images are the same if they have the same path,
                or else the same id; embeddings if they have the same id and values, because ids may be file
                names from several folders.
            captions: Texts (n), or embeddings (n, d).
            ids: Ids of the samples (n); captions of an image may share one.
        """
        embedded = isinstance(images, np.ndarray)
        keys = [
            f"id {name} {sha256(image.tobytes()).hexdigest()}" if embedded else _image_key(image, name)
            for image, name in zip(images, ids, strict=True)
        ]
        rows, image_of = _distinct_rows(keys)
        names = tuple(ids[row] for row in rows)
        numbers = np.arange(len(rows))
        contents = images[rows] if embedded else [images[row] for row in rows]
        ordinals: defaultdict[int, itertools.count[int]] = defaultdict(itertools.count)
        caption_ids = tuple(f"{names[image]}#{next(ordinals[image])}" for image in image_of.tolist())
        return cls(
            Items(_distinct_ids(names), contents, numbers, numbers),
            Items(_distinct_ids(caption_ids), captions, image_of, image_of),
        )

    @classmethod
    def of_labeled(cls, items: Sequence[LabeledItem], template: str) -> Self:
        """Collect labeled items; without captions, the texts are a prompt for each label.

        Args:
            items: Labeled images, captions, or both. An image with several labels occurs once per label.
            template: Text with ``{}`` in place of the label, whose underscores become spaces.
        """
        labels = np.array([item.label for item in items])
        names = _distinct_ids(tuple(item.id for item in items))
        over, clusters = "texts", np.arange(len(items))
        images = None
        if all(item.image is not None for item in items):
            keys = [_image_key(item.image, item.id) for item in items]
            over, clusters = "images", np.unique(keys, return_inverse=True)[1]
            rows, _ = _distinct_rows(list(zip(keys, labels.tolist(), strict=True)))
            ids = tuple(names[row] for row in rows)
            images = Items(ids, [items[row].image for row in rows], labels[rows], clusters[rows])
        if all(item.caption is not None for item in items):
            return cls(images, Items(names, [item.caption for item in items], labels, clusters, over))
        classes = sorted(set(labels.tolist()))
        prompts = [template.replace("{}", label.replace("_", " ")) for label in classes]
        texts = Items(tuple(classes), prompts, np.array(classes), np.arange(len(classes)), "texts")
        return cls(images, texts, prompts=True)


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Queries and the gallery they search.

    Attributes:
        task: One of ``TASKS``.
        queries: The queries.
        gallery: The items to find.
        own: Row of each query in the gallery (q,), excluded from its results; None if queries are not in the
            gallery.
        seed: Seed that sampled the queries; None if all are used.
        protocol: ``all`` or ``cross-the-gap``.
    """

    task: str
    queries: Items
    gallery: Items
    own: NDArray[np.int64] | None
    seed: int | None = None
    protocol: Protocol = "all"

    @classmethod
    def of(
        cls,
        task: str,
        queries: Items,
        gallery: Items,
        *,
        count: int | None = None,
        seed: int = 12345,
        protocol: Protocol = "all",
    ) -> Search:
        """Search a gallery with all queries, or with a random sample of them.

        By default, every item of a collection is a query for all others, and queries without a relevant item are left
        out. Under the protocol ``cross-the-gap`` (Mistretta et al. 2025, as in their code), the first caption of each
        image is a query for the other captions of all images, and queries without a relevant item count as 0.

        Args:
            task: One of ``TASKS``.
            queries: The queries.
            gallery: The items to find. If this is the same object as ``queries``, each query is excluded from its
                own results.
            count: Number of queries to sample; None for all.
            seed: Seed of the sample.
            protocol: ``all`` or ``cross-the-gap``.

        Raises:
            InputError: No query has a relevant item, or the embeddings differ in dimension.
        """
        ours, theirs = queries.contents.shape[1], gallery.contents.shape[1]
        if ours != theirs:
            raise InputError(
                f"The queries have {ours} dimensions and the gallery has {theirs}. Use embeddings of one encoder."
            )
        of_images = task == "text-text" and np.array_equal(queries.labels, queries.clusters)
        if protocol == "cross-the-gap" and gallery is queries and of_images:
            first = np.unique(gallery.labels, return_index=True)[1]
            others = np.setdiff1d(np.arange(len(gallery)), first)
            queries, gallery = (
                items.take(rows, items.contents[rows]) for items, rows in ((queries, first), (gallery, others))
            )
        rows = np.arange(len(queries))
        sampled = count is not None and count < len(rows)
        if sampled:
            rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
        own = rows if gallery is queries else None
        queries = queries.take(rows, queries.contents[rows])
        search = cls(task, queries, gallery, own, seed if sampled else None, protocol)
        if search.unmatched == len(queries):
            raise InputError(
                "No query has a relevant item in the gallery. Images with the same label are relevant to each other, "
                "as are captions with the same label or of the same image. Provide several items per label or image: "
                "a folder with a subfolder for each label, a table with --label COLUMN, or several captions per image."
            )
        return search

    @property
    def unmatched(self) -> int:
        """Number of queries without a relevant item in the gallery."""
        relevant = Counter(self.gallery.labels.tolist())
        return sum(relevant[label] <= (self.own is not None) for label in self.queries.labels.tolist())

    def side(self, side: Side) -> Items:
        """Return the queries or the gallery."""
        return self.queries if side == "query" else self.gallery

    def retrieve(self, vectors: NDArray[Any] | None = None, side: Side = "query") -> LabelRetrieval:
        """Retrieve with the embeddings, or with other vectors for one side."""
        x, y = self.queries.contents, self.gallery.contents
        if vectors is not None:
            x, y = (vectors, y) if side == "query" else (x, vectors)
        return self._by_label(x, y)

    def _by_label(self, x: NDArray[Any], y: NDArray[Any]) -> LabelRetrieval:
        labels = self.queries.labels, self.gallery.labels
        return retrieve_by_label(
            x, y, *labels, own=self.own, unmatched=0.0 if self.protocol == "cross-the-gap" else np.nan
        )

    def retrieve_standardized(self, standardizer: Standardizer, statistics: Statistics | None) -> LabelRetrieval:
        """Retrieve with standardized embeddings.

        Raises:
            UsageError: The standardizer only compares images with captions, and this search is within a modality.
            StatisticsError: The statistics lack what it needs.
        """
        kinds = TASKS[self.task]
        if standardizer.spec.cross_modal_only and kinds[0] == kinds[1]:
            raise UsageError(f"{standardizer} only compares images with captions. Remove it from {self.task}.")
        known = GapStatistics() if statistics is None else statistics.gap_statistics
        x, y = (
            standardizer.apply(items.contents, known, "image" if kind == "image" else "caption")
            for kind, items in zip(kinds, (self.queries, self.gallery), strict=True)
        )
        return self._by_label(x, y)

    def check(self, standardizers: Sequence[Standardizer], statistics: Statistics | None) -> None:
        """Raise what ``retrieve_standardized`` would raise, without searching the whole gallery."""
        row = np.zeros(1, dtype=np.int64)
        queries, gallery = (items.take(row, items.contents[row]) for items in (self.queries, self.gallery))
        small = Search(self.task, queries, gallery, own=None)
        for standardizer in standardizers:
            small.retrieve_standardized(standardizer, statistics)


def report_retrieval(
    search: Search,
    inverted: Inverted | None = None,
    side: Side = "query",
    *,
    standardizers: Sequence[Standardizer] = (),
    statistics: Statistics | None = None,
    encoding: Sequence[tuple[str, str]] = (),
    resampling: Resampling | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
) -> RetrievalReport:
    """Measure a search with the baseline, with standardizers and with one side inverted.

    Args:
        search: Queries and gallery.
        inverted: Inverted features of one side, in the order of its items.
        side: The inverted side.
        standardizers: Standardizers to apply to the embeddings of both sides.
        statistics: Statistics for the standardizers.
        encoding: Signature fields of the encoding.
        resampling: Resampling of the intervals.
        skipped: Items that were skipped.
        notes: Remarks for the reader.

    Raises:
        InputError: ``inverted`` has other items than the side, or another order.
        StatisticsError: The statistics lack what a standardizer needs.

    Source:
        Mistretta et al., "Cross the Gap", ICLR 2025: within a modality, only the query is inverted.

    Examples:
        >>> import numpy as np
        >>> vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
        >>> items = Items(tuple("abcd"), vectors, np.array([0, 0, 1, 1]), np.arange(4))
        >>> report = report_retrieval(Search.of("image-image", items, items))
        >>> report
        RetrievalReport(task=image-image, queries=4, mAP(baseline)=1.000 (1.000 to 1.000))
        >>> report.baseline.measures["R@1"].value
        1.0
    """
    resampling = resampling or Resampling()
    baseline = search.retrieve()
    results = {str(s): search.retrieve_standardized(s, statistics) for s in standardizers}
    if inverted is not None:
        if inverted.ids != search.side(side).ids:
            raise InputError(
                f"The inverted features belong to other items. Pass one per {side} item, with its id and in its order."
            )
        config = inverted.config
        for k, step in enumerate(config.eval_steps):
            results[f"{config.method}@{step}"] = search.retrieve(inverted.eval_vectors[:, k], side)
        results[config.method] = search.retrieve(inverted.vectors, side)
    clusters = search.queries.clusters
    methods = {}
    for name, found in results.items():
        change = {measure: found.values[measure] - baseline.values[measure] for measure in LABEL_MEASURES}
        differences = LabelRetrieval(change).estimates(clusters, resampling)
        methods[name] = Method(found.estimates(clusters, resampling), differences)
    if search.protocol == "cross-the-gap" and search.unmatched:
        notes = [*notes, f"{search.unmatched} queries without a relevant item count as 0."]
    return RetrievalReport(
        search.task,
        len(search.queries),
        len(search.gallery),
        baseline.left_out,
        Method(baseline.estimates(clusters, resampling), {}),
        methods,
        None if inverted is None else side,
        None if inverted is None else float(1 - inverted.losses.mean()),
        _signature(search, inverted, side, standardizers, statistics, encoding, resampling, len(skipped)),
        search.queries.over,
        resampling,
        tuple(skipped),
        tuple(notes),
    )


def _signature(
    search: Search,
    inverted: Inverted | None,
    side: Side,
    standardizers: Sequence[Standardizer],
    statistics: Statistics | None,
    encoding: Sequence[tuple[str, str]],
    resampling: Resampling,
    skipped: int,
) -> Signature:
    fields = [*encoding, ("task", search.task)]
    fields += [] if search.protocol == "all" else [("protocol", search.protocol)]
    fitted = [standardizer for standardizer in standardizers if standardizer.spec.need is not None]
    if statistics is not None and fitted:
        digests = dict.fromkeys(statistics.digest_of(standardizer)[:4] for standardizer in fitted)
        fields.append(("stats", f"{statistics.name}-{'-'.join(digests)}"))
    if inverted is not None:
        # The model and the precision are fields of the encoding.
        fields.append(("inverted", side))
        fields += [(key, value) for key, value in inverted.config.fields if key not in ("m", "prec")]
    fields += [("queries", str(len(search.queries))), ("gallery", str(len(search.gallery))), ("skipped", str(skipped))]
    if search.seed is not None:
        fields.append(("drawn", str(search.seed)))
    if resampling.resamples:
        fields += [("bs", str(resampling.resamples)), ("seed", str(resampling.seed))]
    return Signature("retrieval", (*fields, ("v", version("i0tscore"))))


def _image_key(image: object, name: str) -> str:
    """Return what identifies an image: its path, else its id."""
    return str(image) if isinstance(image, str | Path) else f"id {name}"


def _distinct_rows(keys: Sequence[Hashable]) -> tuple[list[int], NDArray[np.int64]]:
    """Return the first row of each distinct key, and the number of the distinct key of each row."""
    first: dict[Hashable, int] = {}
    for row, key in enumerate(keys):
        first.setdefault(key, row)
    numbers = {key: number for number, key in enumerate(first)}
    return list(first.values()), np.array([numbers[key] for key in keys], dtype=np.int64)


def _distinct_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Append the row to ids that occur more than once."""
    count = Counter(ids)
    return tuple(name if count[name] == 1 else f"{name} (row {row})" for row, name in enumerate(ids, 1))
