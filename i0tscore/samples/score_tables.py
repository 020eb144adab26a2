"""Tables that hold ratings and scores side by side, and scores by image and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from i0tscore.samples.rating_rows import RatingScale
from i0tscore.samples.rating_tables import ANY_NUMBER
from i0tscore.samples.ratings import AVERAGED, Labels, item_means, picked
from i0tscore.samples.records import fields_of, read_records, refuse_copies
from i0tscore.samples.rows import Diagnostics, preview, quote
from i0tscore.samples.sample import Sample
from i0tscore.samples.score_columns import ScoreColumns
from i0tscore.samples.score_rows import TableRows
from i0tscore.samples.tables import each_once

KEYS = ("image", "caption")


@dataclass(frozen=True, slots=True, eq=False)
class RatedScores:
    """Ratings beside scores of what they rate; one row is one rating.

    Attributes:
        ratings: Higher is better, float64 (n,).
        scores: By metric, float64 (n,); NaN where undefined.
        clusters: What is resampled whole (n,), or None for rows.
        over: What that is, in words, e.g. ``image``.
        items: Which rows rate the same item, int64 (n,), or None where that is not told.
        groups: What is compared within for preference accuracy (n,), or None.
        parts: Labels (n,) to break figures down by, by column.
        signatures: How scores were made, by metric, where that is known.
        notes: What a reader should know.
    """

    ratings: NDArray[np.float64]
    scores: dict[str, NDArray[np.float64]]
    clusters: Labels | None
    over: str
    items: NDArray[np.int64] | None = None
    groups: Labels | None = None
    parts: dict[str, Labels] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def several_raters(self) -> bool:
        """Whether some item has more than one rating."""
        return self.items is not None and len(np.unique(self.items)) < len(self.items)

    def averaged(self) -> RatedScores:
        """One row an item with the mean of its ratings; a note says so.

        Raises:
            ValueError: Items are not told.
        """
        if self.items is None:
            raise ValueError("ratings are averaged by item, and the items are not told")
        first, means = item_means(self.items, self.ratings)
        return replace(
            self,
            ratings=means,
            scores={name: values[first] for name, values in self.scores.items()},
            clusters=picked(self.clusters, first),
            items=None,
            groups=picked(self.groups, first),
            parts={name: picked(labels, first) or () for name, labels in self.parts.items()},
            notes=(*self.notes, AVERAGED),
        )


def read_score_table(path: str | Path, columns: ScoreColumns, scale: RatingScale = ANY_NUMBER) -> RatedScores:
    r"""Read ratings and scores from CSV, TSV, a JSON list, JSON lines, parquet or a ``save_to_disk`` folder.

    Args:
        path: The table.
        columns: Which of its columns hold what.
        scale: What a rating may be.

    Raises:
        InputError: The file cannot be read.
        SampleFileError: Whatever is wrong with the file, all of it found in one reading.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "ratings.csv")
        >>> _ = file.write_text("image,rating,mine\ndog.jpg,4,0.5\ncat.jpg,1,0.2\n")
        >>> read_score_table(file, ScoreColumns("rating", ("mine",))).scores["mine"].tolist()
        [0.5, 0.2]
    """
    file, diagnostics = Path(path), Diagnostics()
    records = read_records(file, diagnostics, columns)
    if not records and not diagnostics.any:
        diagnostics.file_error("no rows in it")
    present = fields_of(records)
    reader = TableRows(records, diagnostics)
    if columns.rater is None and not columns.repeats:
        advice = "name the raters (--rater COLUMN), or say that raters may agree (--repeats)"
        refuse_copies(records, diagnostics, advice)
    ratings = reader.ratings(columns.human, scale)
    scores = {name: reader.scores(name) for name in columns.scores}
    cluster = None if columns.by_rows and columns.group is None else columns.cluster_column(present)
    clusters = None if cluster is None else reader.labels(cluster)
    raters = None if columns.rater is None else reader.labels(columns.rater)
    items = None
    if columns.needs_items and records:
        items = reader.items(columns.item_columns(present))
        if raters is not None:
            reader.refuse_repeats(items, raters)
        reader.refuse_differing(items, scores)
    parts = {name: reader.labels(name) for name in columns.parts}
    if diagnostics.any:
        diagnostics.finish(file, [], skip=False)
    return RatedScores(
        np.array(ratings),
        {name: np.array(values) for name, values in scores.items()},
        clusters,
        cluster or "rows",
        items,
        parts=parts,
    )


def read_scores_of(
    path: str | Path, samples: Sequence[Sample], names: Sequence[str] = (), *, gaps: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Read scores of samples from a table with the columns ``image``, ``caption`` and one a metric.

    Args:
        path: The table, in any form of ``read_score_table``.
        samples: What needs a score (m); images are compared by file name, captions but for white space.
        names: The columns of scores; all but image and caption if empty.
        gaps: Whether an empty cell is an undefined score and no mistake.

    Returns:
        By metric (m,), float64; NaN where undefined.

    Raises:
        SampleFileError: Whatever is wrong with the file, and every sample without a score.
    """
    file, diagnostics = Path(path), Diagnostics()
    records = read_records(file, diagnostics, _ScoresOnly(tuple(names)))
    columns = names or [name for name in fields_of(records) if name not in KEYS]
    if records and not columns:
        diagnostics.file_error("no column of scores: add one beside image and caption")
    reader = TableRows(records, diagnostics)
    keys = [(_name(image), _spaced(text)) for image, text in zip(*map(reader.labels, KEYS), strict=True)]
    values = {name: reader.scores(name, gaps=gaps) for name in columns}
    row_of = {key: row for row, key in enumerate(keys)}
    wanted = [(sample.image.name, _spaced(sample.caption)) for sample in samples]
    for key in dict.fromkeys(key for key in wanted if key not in row_of) if records else ():
        diagnostics.file_error(f"no score of {quote(key[0])}, {quote(key[1])}: add it")
    if diagnostics.any or not records:
        diagnostics.finish(file, [], skip=False)
    rows = [row_of[key] for key in wanted]
    return {name: np.array(column)[rows] for name, column in values.items()}


@dataclass(frozen=True, slots=True)
class _ScoresOnly:
    scores: tuple[str, ...]
    image: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*KEYS, *self.scores)

    def suffice(self, present: list[str], diagnostics: Diagnostics) -> bool:
        missing = [name for name in self.names if name not in present]
        for name in missing:
            diagnostics.file_error(f"no column {quote(name)}: add it (found: {preview(present, 12)})")
        return not missing and each_once(present, present, diagnostics)


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _spaced(text: str) -> str:
    return " ".join(text.split())
