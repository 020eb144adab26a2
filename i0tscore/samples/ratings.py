"""Human ratings of captions, and scores next to them, read from tables into columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from i0tscore.samples.datasets import read_dataset
from i0tscore.samples.diagnostics import (
    Diagnostics,
    Location,
    Malformed,
    Record,
    UnusableError,
    check_context,
    check_number,
    check_references,
    check_text,
    describe,
    preview,
    quote,
)
from i0tscore.samples.formats import read_records
from i0tscore.samples.images import ImageFolder, without_suffix
from i0tscore.samples.sample import ImageSource, Sample, StoredImage
from i0tscore.samples.schema import (
    CAPTION_FIELDS,
    CAPTIONS,
    CONTEXT_FIELDS,
    IMAGE_FIELDS,
    REFERENCE_FIELDS,
    RENAME,
    Schema,
    fields_of,
)
from i0tscore.samples.text import parse_list

Labels = tuple[str, ...]
_Cell = TypeVar("_Cell")

AVERAGED = "The ratings of each item are averaged, unlike in the published figures."

IMAGE_COLUMNS = (*IMAGE_FIELDS, "image_id")
"""Columns that identify the image of a row; the first one present counts."""

RATING_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "image": (*IMAGE_COLUMNS, "id"),
    "caption": CAPTION_FIELDS,
    "rating": ("rating",),
    "references": REFERENCE_FIELDS,
    "context": CONTEXT_FIELDS,
    "rater": ("rater",),
    "category": ("category",),
    "system": ("system",),
}
"""The names that each column of a table of ratings may have; the first one present counts."""

_ADVICE = {
    "image": "Name it with --image-column (image_column=).",
    "caption": "Name it with --caption-column (caption_column=).",
    "rating": "Name it with --rating (columns=).",
}
"""What to do if none of the usual names of a column is present."""

_NAME_CLUSTER = (
    "Name the column of the image (--image-column NAME), or of another cluster (--group COLUMN), or use --no-cluster."
)
_NAME_ITEM = (
    "Name the columns of image and caption (--image-column NAME, --caption-column NAME), or others that identify the "
    "rated item (--item-key COLUMN)."
)

_NAME_RATERS = "name the raters (--rater COLUMN), or allow equal ratings (--allow-duplicates)"

_LISTED_REASONS = 3

ROUNDING = 1e-5
"""Largest difference of two scores that count as equal: the last digits of embeddings depend on the encoder batch."""


@dataclass(frozen=True, slots=True)
class RatingScale:
    """The values that a rating may have.

    Attributes:
        low: The lowest rating.
        high: The highest rating.
        whole: Whether ratings are integers, so that anything in between is an average.
        words: Ratings by the lowercase text that stands for them.
    """

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    words: Mapping[str, float] = field(default_factory=dict)

    def read(self, value: object, column: str | None = None) -> float:
        """Return the rating, or raise ``UnusableError``, whose message names the column if it is given."""
        place = "" if column is None else f" in column {quote(column)}"
        if isinstance(value, str) and self.words:
            if (word := " ".join(value.split()).lower()) in self.words:
                return self.words[word]
            raise UnusableError(f"Expected one of the ratings {preview(self.words, 8)}{place}, got {quote(value)}.")
        number = check_number(value, f"a rating{place}")
        if not self.low <= number <= self.high:
            expected = f"Expected a rating between {self.low:g} and {self.high:g}{place}"
            raise UnusableError(f"{expected}, got {number:g}. Correct it or remove the row.")
        if self.whole and number != round(number):
            raise UnusableError(
                f"Expected a single rating{place}, got the average {number:g}. Give each rating its own row."
            )
        return number


ANY_NUMBER = RatingScale()


@dataclass(frozen=True, slots=True, eq=False)
class RatingSet:
    """Ratings of captions, one per row and never averaged unless by ``averaged``, and scores next to them.

    Attributes:
        name: The name of the set, e.g. ``flickr8k_expert``.
        samples: The distinct rated items: image, caption, references; empty for a table of ratings and scores.
        item: The number of what each row rates, which is its position in ``samples``, int64 (n,).
        rating: Ratings, higher is better, float64 (n,).
        clusters: What is resampled as a whole for intervals, e.g. the image of each row (n,); empty to resample rows.
        rater: Who rated (n,), or None if unknown.
        groups: What captions are compared within for preference accuracy (n,), e.g. image and context, or None.
        parts: Labels (n,) to break figures down by, by column, e.g. ``category`` or ``system``.
        counts: How much was read, by name, to compare with what is known of the set.
        notes: Anything a reader should know.
        over: What a cluster is.
        scores: Scores by metric, float64 (n,); NaN where undefined.
        signatures: Signatures of the scores by metric, where known.
    """

    name: str
    samples: tuple[Sample, ...]
    item: NDArray[np.int64]
    rating: NDArray[np.float64]
    clusters: Labels = ()
    rater: Labels | None = None
    groups: Labels | None = None
    parts: Mapping[str, Labels] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    over: str = "image"
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Number of ratings."""
        return len(self.rating)

    @property
    def several_raters(self) -> bool:
        """Whether some item has more than one rating."""
        return len(np.unique(self.item)) < self.n

    def averaged(self) -> RatingSet:
        """Return one row per item with the mean of its ratings, and a note on it.

        Averaging removes the disagreement of raters and raises every correlation, so that figures of averaged
        ratings are not comparable to published figures of single ratings.

        Examples:
            >>> import numpy as np
            >>> from pathlib import Path
            >>> dog = Sample("dog", Path("dog.jpg"), "A dog.")
            >>> ratings = RatingSet("demo", (dog,), np.array([0, 0]), np.array([1.0, 4.0]), ("dog", "dog"))
            >>> ratings.averaged().rating.tolist()
            [2.5]
        """
        _, first, labels = np.unique(self.item, return_index=True, return_inverse=True)
        means = np.bincount(labels, self.rating) / np.bincount(labels)
        return replace(self.only(first), rating=means, rater=None, notes=(*self.notes, AVERAGED))

    def limited(self, items: int) -> RatingSet:
        """Return the ratings of the first ``items`` items, with a note on it."""
        note = (
            f"Only the first {min(items, len(self.samples)):,} of {len(self.samples):,} items are used: not a result."
        )
        return replace(self.only(self.item < items), notes=(*self.notes, note))

    def only(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> RatingSet:
        """Return the rows of a mask (n,) or with given numbers, with the items that they rate."""
        rows = np.arange(self.n)[keep]
        used, item = np.unique(self.item[rows], return_inverse=True)
        return replace(
            self,
            samples=tuple(self.samples[i] for i in used) if self.samples else (),
            item=item.astype(np.int64),
            rating=self.rating[rows],
            clusters=_select(self.clusters, rows) or (),
            rater=_select(self.rater, rows),
            groups=_select(self.groups, rows),
            parts={name: _select(labels, rows) or () for name, labels in self.parts.items()},
            scores={name: values[rows] for name, values in self.scores.items()},
        )

    def with_scores(
        self, values: Mapping[str, NDArray[np.float64]], signatures: Mapping[str, str], notes: Sequence[str] = ()
    ) -> RatingSet:
        """Return the set with scores: one per sample and metric, signatures by metric, and further notes."""
        scores = {name: column[self.item] for name, column in values.items()}
        return replace(self, scores=scores, signatures=signatures, notes=(*self.notes, *notes))


def _select(labels: Labels | None, rows: Iterable[int]) -> Labels | None:
    return tuple(labels[row] for row in rows) if labels else None


def rating_set(
    path: Path,
    name: str,
    records: Iterable[Record],
    diagnostics: Diagnostics,
    *,
    folder: ImageFolder | None = None,
    scale: RatingScale = ANY_NUMBER,
    counts: Mapping[str, int] | None = None,
    skip: bool = False,
) -> RatingSet:
    """Build a rating set from records and check every value.

    Args:
        path: The file, for messages.
        name: The name of the set.
        records: One per rating, with ``image``, ``caption``, ``rating`` and optionally ``references``,
            ``context``, ``column`` (that of the rating, for messages), ``cluster`` (the identity of the image; its
            name if None), ``unit`` (what is resampled; the cluster if None), ``rater``, ``group`` (what captions are
            compared within), ``category``, ``system``, and ``scores`` (numbers by name, equal for an item).
        diagnostics: Collects the problems.
        folder: The folder of the images; None to use their names without looking up the files.
        scale: The values that a rating may have.
        counts: What else was counted.
        skip: Whether to leave out rows with problems, and list them in a note.

    Raises:
        SampleFileError: Lists everything that is wrong with the file.
    """
    samples: list[Sample] = []
    numbers: dict[Hashable, int] = {}
    rows: list[tuple[int, float, str, Record]] = []
    for location, record in records:
        image = diagnostics.check(location, find_image, record.get("image"), folder)
        caption = diagnostics.check(location, check_text, record.get("caption"), "a caption")
        rating = diagnostics.check(location, scale.read, record.get("rating"), record.get("column"))
        references = diagnostics.check(location, check_references, record.get("references"))
        context = diagnostics.check(location, check_context, record.get("context"))
        if image is None or caption is None or rating is None or references is None or context is None:
            continue
        cluster = record.get("cluster") or image.name
        item = numbers.setdefault((cluster, record.get("group"), record.get("system"), caption, context), len(samples))
        if item == len(samples):
            samples.append(Sample(without_suffix(image.name), image, caption, references, context or None))
        rows.append((item, rating, cluster, (location, record)))
    items, kept = np.array([item for item, *_ in rows], dtype=np.int64), [record for *_, record in rows]
    _report_repeated(kept, diagnostics, items, [record.get("rater") for _, record in kept])
    _report_differing(kept, diagnostics, items, _given_scores(kept))
    if skipped := diagnostics.finish(path, len(samples), skip=skip):
        wrong = {location for location, _ in diagnostics.row_errors}
        rows = [row for row in rows if row[-1][0] not in wrong]
        used, items = np.unique([item for item, *_ in rows], return_inverse=True)
        samples, kept = [samples[item] for item in used], [record for *_, record in rows]
        diagnostics.notes.append(describe_skipped("Rows", [one.reason for one in skipped]))
    diagnostics.notes += _image_notes(samples) if folder is None else folder.notes
    return RatingSet(
        name,
        tuple(samples),
        items,
        np.array([rating for _, rating, *_ in rows]),
        _labels(kept, "unit") or tuple(cluster for _, _, cluster, _ in rows),
        _labels(kept, "rater"),
        _labels(kept, "group"),
        {key: values for key in ("category", "system") if (values := _labels(kept, key)) is not None},
        {**(counts or {}), "items": len(samples), "ratings": len(rows), "images": len({row[2] for row in rows})},
        tuple(diagnostics.notes),
        scores=_given_scores(kept),
    )


def _image_notes(samples: Iterable[Sample]) -> list[str]:
    named = any(isinstance(sample.image, Path) for sample in samples)
    return ["Images are identified by name; their files were not looked up."] if named else []


def describe_skipped(noun: str, reasons: Sequence[str]) -> str:
    """Return a note on what was skipped, with the first few reasons."""
    listed = [*reasons[:_LISTED_REASONS], *["…"] * (len(reasons) > _LISTED_REASONS)]
    return f"{noun} were skipped: {len(reasons)} ({'; '.join(listed)})."


def _labels(records: Iterable[Record], key: str) -> Labels | None:
    """Return a field of every record as text, empty where unknown; None if it is unknown everywhere."""
    values = [record.get(key) for _, record in records]
    known = any(value is not None for value in values)
    return tuple("" if value is None else str(value) for value in values) if known else None


def _given_scores(records: Sequence[Record]) -> dict[str, NDArray[np.float64]]:
    """Return the scores that the records hold (n,), by name."""
    names = records[0][1].get("scores", ()) if records else ()
    return {name: np.array([record["scores"][name] for _, record in records]) for name in names}


def find_image(image: object, folder: ImageFolder | None) -> ImageSource:
    """Return the image of a path in a file of ratings, or an image source unchanged; else raise ``UnusableError``.

    Args:
        image: The path.
        folder: The folder of the images; None to return the path without looking it up.
    """
    if folder is None:
        return image if isinstance(image, StoredImage) else Path(check_text(image, "an image", True))
    return folder.find(image)


def read_rating_table(
    path: str | Path,
    *,
    name: str | None = None,
    images: str | Path | None = None,
    columns: Mapping[str, tuple[str, ...]] = RATING_COLUMNS,
    image_column: str | None = None,
    caption_column: str | None = None,
    context_column: str | None = None,
    raters: Sequence[str] = (),
    group: str | None = None,
    scores: Sequence[str] = (),
    scale: RatingScale = ANY_NUMBER,
    allow_duplicates: bool = False,
    skip: bool = False,
    dataset: Any = None,
) -> RatingSet:
    r"""Read a table with the columns ``image``, ``caption`` and ``rating``; see ``RATING_COLUMNS`` for others.

    Args:
        path: The table, in any format that ``read_records`` reads.
        name: The name of the set; that of the file if None.
        images: The folder of the images; None to use their names without looking up the files.
        columns: The names each column may have.
        image_column: The column of the images; one of the usual names if None.
        caption_column: The column of the captions; one of the usual names if None.
        context_column: The column of the texts in which the images appear; one of the usual names if None.
        raters: Columns with the ratings of one rater each, instead of the columns of the rating and the rater. Empty
            cells count as not rated.
        group: The column of what is resampled as a whole; the image if None.
        scores: Columns of scores, which must be numbers.
        scale: The values that a rating may have.
        allow_duplicates: Whether rows may be equal in every column if raters are unknown.
        skip: Whether to leave out rows with problems, and list them in a note.
        dataset: A ``datasets.Dataset`` to read instead of the file; the images inside it stay there until scored.

    Raises:
        SampleFileError: Lists everything that is wrong with the file.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "ratings.csv")
        >>> _ = file.write_text("image,caption,rating\ndog.jpg,A dog.,4\ndog.jpg,A cat.,1\n")
        >>> read_rating_table(file).rating.tolist()
        [4.0, 1.0]
    """
    file, diagnostics = Path(path), Diagnostics()
    named = {"image": image_column, "caption": caption_column, "context": context_column}
    columns = {**columns, **{key: (name,) for key, name in named.items() if name is not None}}
    schema = _rating_schema(columns, raters, scores, group)
    records = read_records(file, schema, diagnostics) if dataset is None else read_dataset(dataset, schema, diagnostics)
    chosen, records = _choose_columns(schema, records)
    who: Sequence[Any] = [record.get(chosen.get("rater", "")) for _, record in records]
    if raters:
        records, who = _split_ratings(records, diagnostics, raters)
    elif "rater" not in chosen and not allow_duplicates:
        _report_copies(records, diagnostics, 'name the raters in a column "rater"')
    rows: list[Record] = []
    values = {name: _read_scores(records, diagnostics, name) for name in scores}
    units = None if group is None else _read_labels(records, diagnostics, group)
    for number, ((location, record), rater) in enumerate(zip(records, who, strict=True)):
        row = {key: record.get(column) for key, column in chosen.items()}
        row |= {"rating": record.get(rater), "column": rater} if raters else {}
        row |= {key: diagnostics.check(location, _read_label, row.get(key)) for key in ("category", "system")}
        row["rater"] = diagnostics.check(location, _read_label, rater)
        row["scores"] = {name: column[number] for name, column in values.items()}
        row["unit"] = units and units[number]
        references = row["references"] = _parse_list(row.get("references"))
        image = row.get("image")
        if isinstance(image, StoredImage) and not image.named:
            # Without names, images are told apart by their references.
            row["cluster"] = "\n".join(map(str, references)) if isinstance(references, list) else references
        rows.append((location, row))
    folder = None if images is None else ImageFolder(Path(images))
    found = rating_set(file, name or file.stem, rows, diagnostics, folder=folder, scale=scale, skip=skip)
    found = replace(found, over=group or found.over)
    stored = any(isinstance(row.get("image"), StoredImage) for _, row in rows)
    # Stored images may have no names to count.
    return replace(found, counts={"ratings": found.n}) if stored else found


def _rating_schema(
    columns: Mapping[str, tuple[str, ...]], raters: Sequence[str], scores: Sequence[str], group: str | None
) -> Schema:
    """Return the columns of a table of ratings: those of fields, and those named by the caller."""
    single = () if raters else ("rating",)
    columns = {key: names for key, names in columns.items() if not raters or key not in ("rating", "rater")}
    usual = {key for key, names in columns.items() if names == RATING_COLUMNS.get(key)}
    required: dict[tuple[str, ...], str] = {
        (key,): _ADVICE[key] if key in usual else RENAME for key in ("image", "caption", *single)
    }
    exclusive: dict[str, tuple[str, ...]] = {
        key: CAPTIONS.exclusive[key] for key in ("image", "caption", "context") if key in usual
    }
    numbers = {f"column {name}": (name,) for name in (*raters, *scores)}
    own = numbers | ({f"column {group}": (group,)} if group else {})
    required |= {(key,): "Correct the name." for key in own}
    return Schema({**columns, **own}, required, exclusive, numbers=(*single, *numbers))


def _choose_columns(schema: Schema, records: Iterable[Record]) -> tuple[dict[str, str], list[Record]]:
    """Return the columns by field, and records in which columns also have the names that the caller gave them.

    These may differ in case and spaces.
    """
    rows = list(records)
    chosen = schema.choose(fields_of(rows))
    given = {field.removeprefix("column "): name for field, name in chosen.items() if field.startswith("column ")}
    if others := {name: column for name, column in given.items() if name != column}:
        rows = [(at, row | {name: row.get(column) for name, column in others.items()}) for at, row in rows]
    return chosen, rows


def _split_ratings(
    records: Iterable[Record], diagnostics: Diagnostics, columns: Sequence[str]
) -> tuple[list[Record], list[str]]:
    """Return each record once for each of the columns that is not empty, and these columns."""
    found, raters, empty = [], [], 0
    for location, record in records:
        given = [name for name in columns if not _is_empty(record.get(name))]
        if not given:
            diagnostics.row_error(location, f"Expected a rating in {_either(columns)}, got nothing. Add one.")
        empty += len(columns) - len(given)
        found += [(location, record)] * len(given)
        raters += given
    if empty:
        diagnostics.notes.append(f"Empty cells in the columns of ratings count as not rated: {empty:,}.")
    return found, raters


def _is_empty(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(quote, names))


def _report_copies(records: Iterable[Record], diagnostics: Diagnostics, advice: str) -> None:
    """Report rows that equal an earlier one in every column; ``advice`` says what to do if they are no copies."""
    first: dict[str, str] = {}
    for location, record in records:
        label = first.setdefault(repr(sorted(record.items())), location.label)
        if label != location.label:
            diagnostics.row_error(location, f"This row is identical to {label}. Remove it, or {advice}.")


def _parse_list(cell: object) -> object:
    """Parse a cell that holds a list as JSON or in Python's notation; return anything else unchanged."""
    text = cell.text or cell if isinstance(cell, Malformed) else cell
    if not isinstance(text, str) or not text.lstrip().startswith("["):
        return None if text == "" else text
    found = parse_list(text)
    return Malformed('Expected references as a list such as ["one", "two"]. Correct them.') if found is None else found


def read_score_table(
    path: str | Path,
    scores: Sequence[str],
    *,
    rating: str = "rating",
    raters: Sequence[str] = (),
    scale: RatingScale = ANY_NUMBER,
    image_column: str | None = None,
    caption_column: str | None = None,
    group: str | None = None,
    no_cluster: bool = False,
    rater: str | None = None,
    item_key: Sequence[str] = (),
    by_item: bool = False,
    parts: Sequence[str] = (),
    allow_duplicates: bool = False,
) -> RatingSet:
    r"""Read a table of ratings and scores.

    Args:
        path: The table, in any format that ``read_records`` reads.
        scores: The columns of scores.
        rating: The column of ratings.
        raters: As for ``read_rating_table``, instead of ``rating`` and ``rater``.
        scale: The values that a rating may have.
        image_column: The column of the images; the first of ``IMAGE_COLUMNS`` if None.
        caption_column: The column of the captions; one of the usual names if None.
        group: The column of what is resampled as a whole; the image if None.
        no_cluster: Whether rows are independent, so that no image is needed.
        rater: The column that says who rated; None if unknown.
        item_key: The columns that identify the rated item; image and caption if empty.
        by_item: Whether items are needed even without ``rater`` and ``item_key``.
        parts: The columns to break figures down by.
        allow_duplicates: Whether rows may be equal in every column if raters are unknown.

    Raises:
        InputError: The file cannot be read.
        SampleFileError: Lists everything that is wrong with the file.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "ratings.csv")
        >>> _ = file.write_text("image,rating,mine\ndog.jpg,4,0.5\ncat.jpg,1,0.2\n")
        >>> read_score_table(file, ["mine"]).scores["mine"].tolist()
        [0.5, 0.2]
    """
    file, diagnostics = Path(path), Diagnostics()
    by_item, numbers = by_item or bool(item_key or rater or raters), (*(raters or (rating,)), *scores)
    single = [name for name in (image_column, caption_column, group, rater) if name is not None]
    unnamed = [key for key, name in (("image", group or image_column), ("caption", caption_column)) if name is None]
    sought = dict.fromkeys(unnamed, _NAME_ITEM) if by_item and not item_key else {}
    sought |= {"image": _NAME_CLUSTER} if "image" in unnamed and not no_cluster else {}
    schema = _score_schema((*numbers, *single, *item_key, *parts), numbers, sought)
    records = read_records(file, schema, diagnostics)
    chosen, records = _choose_columns(schema, records)
    who: Sequence[str] | None = None
    if raters:
        records, who = _split_ratings(records, diagnostics, raters)
    elif rater is not None:
        who = _read_labels(records, diagnostics, rater)
    elif not allow_duplicates:
        _report_copies(records, diagnostics, _NAME_RATERS)
    ratings = _read_ratings(records, diagnostics, who if raters and who else [rating] * len(records), scale)
    values = {name: np.array(_read_scores(records, diagnostics, name)) for name in scores}
    image, caption = image_column or group or chosen.get("image"), caption_column or chosen.get("caption")
    over = None if no_cluster and group is None else group or image
    clusters = () if over is None else _read_labels(records, diagnostics, over)
    items = np.arange(len(records))
    if by_item and records:
        items = _number_items(records, diagnostics, item_key or tuple(filter(None, (image, caption))), who, values)
    labels = {name: _read_labels(records, diagnostics, name) for name in parts}
    diagnostics.finish(file, len(records))
    found = RatingSet(file.stem, (), items, ratings, clusters, parts=labels, over=over or "rows", scores=values)
    return replace(found, notes=tuple(diagnostics.notes))


def _read_ratings(
    records: Iterable[Record], diagnostics: Diagnostics, columns: Sequence[str], scale: RatingScale
) -> NDArray[np.float64]:
    """Read the rating of each row (n,) from its column; NaN where it cannot be read, which is reported."""
    cells = zip(records, columns, strict=True)
    found = [diagnostics.check(at, scale.read, record.get(column), column) for (at, record), column in cells]
    return np.array(found, dtype=np.float64)


def _number_items(
    records: list[Record],
    diagnostics: Diagnostics,
    columns: Sequence[str],
    raters: Sequence[str] | None,
    scores: Mapping[str, NDArray[np.float64]],
) -> NDArray[np.int64]:
    """Return the number of the item of each row (n,), and report items rated twice or scored differently."""
    known: dict[Hashable, int] = {}
    keys = zip(*(_read_labels(records, diagnostics, column) for column in columns), strict=True)
    items = np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)
    if raters is not None:
        _report_repeated(records, diagnostics, items, raters)
    advice = ", or name other columns that identify items (--item-key COLUMN)"
    _report_differing(records, diagnostics, items, scores, advice)
    return items


def _score_schema(named: Sequence[str], numbers: Sequence[str], sought: Mapping[str, str]) -> Schema:
    """Return the columns of a table of ratings and scores: those named by the caller, and those to be found.

    ``numbers``: the named columns that hold numbers. ``sought``: advice in case the image or caption is not found.
    """
    columns: dict[str, tuple[str, ...]] = {f"column {name}": (name,) for name in named}
    required: dict[tuple[str, ...], str] = {(key,): "Correct the name." for key in columns}
    required |= {(key,): advice for key, advice in sought.items()}
    columns |= {"image": IMAGE_COLUMNS, "caption": CAPTION_FIELDS}
    return Schema(columns, required, numbers=tuple(f"column {name}" for name in numbers))


def read_scores_of(
    path: str | Path,
    samples: Sequence[Sample],
    names: Sequence[str] = (),
    *,
    gaps: bool = False,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Read scores of samples from a table with the columns ``image``, ``caption`` and one per metric.

    Args:
        path: The table, in any format that ``read_records`` reads.
        samples: The samples to find scores for (m); images are compared by file name, or else by the name without
            suffix, and captions apart from white space.
        names: The columns of scores; all but image and caption if empty.
        gaps: Whether an empty cell is an undefined score and not an error.
        image_column: Another name that the column of the images may have.
        caption_column: Another name that the column of the captions may have.

    Returns:
        Scores by metric (m,), float64; NaN where undefined.

    Raises:
        SampleFileError: Lists everything that is wrong with the file, and samples without a score.
    """
    file, diagnostics = Path(path), Diagnostics()
    own = {"image": image_column, "caption": caption_column}
    usual = {"image": (*IMAGE_COLUMNS, "id"), "caption": CAPTION_FIELDS}
    columns = {key: (*filter(None, [own[key]]), *found) for key, found in usual.items()}
    numbers = {f"column {name}": (name,) for name in names}
    columns |= numbers
    required: dict[tuple[str, ...], str] = {(name,): _ADVICE.get(name, RENAME) for name in columns}
    schema = Schema(columns, required, others=not names, numbers=tuple(numbers))
    records = read_records(file, schema, diagnostics)
    chosen, records = _choose_columns(schema, records)
    image, caption = chosen.get("image", "image"), chosen.get("caption", "caption")
    names = names or [name for name in fields_of(records) if name not in (image, caption)]
    if records and not names:
        diagnostics.file_error("Expected a column of scores next to image and caption. Add one.")
    images = _read_labels(records, diagnostics, image)
    captions = _read_labels(records, diagnostics, caption)
    row_of: dict[tuple[str, str], int] = {}
    pairs = zip(map(_file_name, images), (" ".join(caption.split()) for caption in captions), strict=True)
    items = np.array([row_of.setdefault(pair, row) for row, pair in enumerate(pairs)], dtype=np.int64)
    scores = {name: np.array(_read_scores(records, diagnostics, name, gaps=gaps)) for name in names}
    _report_differing(records, diagnostics, items, scores)
    keys = [(sample.image.name, " ".join(sample.caption.split())) for sample in samples]
    stems = Counter(without_suffix(name) for name in {name for name, _ in keys})
    found = [row_of.get(key) for key in keys]
    for number, (name, caption) in enumerate(keys):
        if found[number] is None and stems[without_suffix(name)] == 1:
            found[number] = row_of.get((without_suffix(name), caption))
    missing = dict.fromkeys(key for key, row in zip(keys, found, strict=True) if row is None)
    if missing and all(row is None for row in found) and row_of:
        (image, caption), expected = next(iter(row_of)), next(iter(missing))
        diagnostics.file_error(
            f"Found none of the rated captions. The first row has {quote(image)}, {quote(caption)}; the first rated "
            f"caption is {quote(expected[0])}, {quote(expected[1])}. Correct the names or the captions."
        )
    elif records:
        for image, caption in missing:
            diagnostics.file_error(f"No score for {quote(image)}, {quote(caption)}. Add it.")
    diagnostics.finish(file, len(records))
    rows = [row for row in found if row is not None]
    return {name: column[rows] for name, column in scores.items()}


def _read_column(
    records: list[Record], diagnostics: Diagnostics, column: str, read: Callable[[Any], _Cell], default: _Cell
) -> list[_Cell]:
    """Read the cells of a column; those that cannot be read are reported and replaced by the default."""
    cells = (diagnostics.check(location, read, record.get(column)) for location, record in records)
    return [default if cell is None else cell for cell in cells]


def _read_scores(records: list[Record], diagnostics: Diagnostics, column: str, *, gaps: bool = False) -> list[float]:
    def read(cell: object) -> float:
        return math.nan if gaps and _is_empty(cell) else check_number(cell, f"a number in column {quote(column)}")

    return _read_column(records, diagnostics, column, read, math.nan)


def _read_label(cell: object) -> str | None:
    """Return a cell that tells rows apart as text, or None if it is empty."""
    if isinstance(cell, Malformed):
        raise UnusableError(cell.reason)
    return None if cell in (None, "") else str(cell)


def _read_labels(records: list[Record], diagnostics: Diagnostics, column: str) -> Labels:
    """Read cells that tell rows apart as text."""

    def read(cell: object) -> str:
        if isinstance(cell, StoredImage):
            if not cell.named:
                raise UnusableError("The image has no name. Name a column that identifies images (--group COLUMN).")
            return cell.name
        if _is_empty(cell):
            raise UnusableError(f"Expected a value in column {quote(column)}, got nothing. Add it or remove the row.")
        if isinstance(cell, bool) or not isinstance(cell, str | int | float | Malformed):
            raise UnusableError(f"Expected text or a number in column {quote(column)}, got {describe(cell)}.")
        return _read_label(cell) or ""

    return tuple(_read_column(records, diagnostics, column, read, ""))


def _report_repeated(
    records: list[Record], diagnostics: Diagnostics, items: NDArray[np.int64], raters: Sequence[object]
) -> None:
    """Report a second rating of an item by one rater; unknown raters are None."""
    first: dict[Hashable, Location] = {}
    for (location, _), item, rater in zip(records, items.tolist(), raters, strict=True):
        before = location if rater is None else first.setdefault((item, rater), location)
        if before is not location:
            message = f"Rater {quote(rater)} already rated this item at {before.label}. Remove one."
            diagnostics.row_error(location, message)


def _report_differing(
    records: list[Record],
    diagnostics: Diagnostics,
    items: NDArray[np.int64],
    scores: Mapping[str, NDArray[np.float64]],
    advice: str = "",
) -> None:
    """Report rows of one item that differ in a score."""
    for name, values in scores.items():
        first: dict[int, tuple[Location, float]] = {}
        for (location, _), item, value in zip(records, items.tolist(), values.tolist(), strict=True):
            before, other = first.setdefault(item, (location, value))
            same = math.isclose(value, other, rel_tol=ROUNDING, abs_tol=ROUNDING)
            if not (same or math.isnan(value) or math.isnan(other)):
                diagnostics.row_error(
                    location,
                    f"Expected one value of {quote(name)} per item, got {value:g} here and {other:g} at "
                    f"{before.label}. Correct it{advice}.",
                )


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
