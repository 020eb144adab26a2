"""Ratings in tables: CSV, TSV, JSON, JSON lines and Hugging Face data sets with named columns."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from i0tscore.samples.assemble import checked_references
from i0tscore.samples.hub_datasets import EmbeddedImage, dataset_records
from i0tscore.samples.images import ImageFolder
from i0tscore.samples.rating_rows import Rated, RatingAssembler, RatingScale
from i0tscore.samples.ratings import RatingSet, without
from i0tscore.samples.records import fields_of, read_records, refuse_copies
from i0tscore.samples.rows import Diagnostics, Location, Malformed, Records, UnusableError, preview
from i0tscore.samples.tables import each_once


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a table may be called; the first name that is there counts.

    Attributes:
        image: The image's name, path or content.
        caption: The rated caption.
        rating: The rating.
        references: Human captions, as a list.
        rater: Who rated.
        category: Part of the set.
        system: What wrote the caption.
    """

    image: tuple[str, ...] = ("image", "image_path", "file_name", "image_id", "id")
    caption: tuple[str, ...] = ("caption",)
    rating: tuple[str, ...] = ("rating",)
    references: tuple[str, ...] = ("references",)
    rater: tuple[str, ...] = ("rater",)
    category: tuple[str, ...] = ("category",)
    system: tuple[str, ...] = ("system",)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of every column."""
        return tuple(name for field in fields(self) for name in getattr(self, field.name))

    def chosen(self, present: Iterable[str]) -> dict[str, str]:
        """The column that each field is read from, by field."""
        there = set(present)
        found = {f.name: next((n for n in getattr(self, f.name) if n in there), None) for f in fields(self)}
        return {field: name for field, name in found.items() if name is not None}

    def suffice(self, present: list[str], diagnostics: Diagnostics) -> bool:
        """Whether image, caption and rating are there; if not, the file is refused."""
        chosen = self.chosen(present)
        missing = [field for field in ("image", "caption", "rating") if field not in chosen]
        for field in missing:
            names = " or ".join(f'"{name}"' for name in getattr(self, field))
            diagnostics.file_error(f"no column {names} for the {field}: name it so (found: {preview(present, 12)})")
        return not missing and each_once(self.names, present, diagnostics)


DEFAULT_COLUMNS = Columns()
ANY_NUMBER = RatingScale()
_LONGEST_LITERAL = 100_000


@dataclass(frozen=True, slots=True)
class TableRules:
    """How a table of ratings is to be taken.

    Attributes:
        columns: What the columns are called.
        scale: What a rating may be.
        drop_caption: Whether a reference equal to the rated caption is left out.
        repeats: Whether several ratings of one caption are taken where raters are not told.
    """

    columns: Columns = DEFAULT_COLUMNS
    scale: RatingScale = ANY_NUMBER
    drop_caption: bool = False
    repeats: bool = False


def read_rating_table(
    path: str | Path,
    *,
    name: str | None = None,
    images: str | Path | None = None,
    rules: TableRules | None = None,
) -> RatingSet:
    r"""Read any table with the columns ``image``, ``caption``, ``rating`` (see ``Columns`` for others).

    Args:
        path: CSV, TSV, JSON list, JSON lines, parquet, or a ``save_to_disk`` folder.
        name: Of the set; the file's if left out.
        images: Folder of the images; None takes their names without looking for the files.
        rules: How the table is to be taken.

    Raises:
        SampleFileError: Whatever is wrong with the file, all of it found in one reading.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp(), "ratings.csv")
        >>> _ = file.write_text("image,caption,rating\ndog.jpg,A dog.,4\ndog.jpg,A cat.,1\n")
        >>> read_rating_table(file).rating.tolist()
        [4.0, 1.0]
    """
    file, taken = Path(path), rules or TableRules()
    diagnostics = Diagnostics()
    records = read_records(file, diagnostics, taken.columns)
    return ratings_of_records(
        file,
        name or file.stem,
        records,
        diagnostics,
        taken,
        None if images is None else ImageFolder(Path(images)),
    )


def ratings_of_records(
    path: Path,
    name: str,
    records: Records,
    diagnostics: Diagnostics,
    rules: TableRules,
    folder: ImageFolder | None,
) -> RatingSet:
    """Make a rating set of records that have the columns asked for."""
    chosen = rules.columns.chosen(fields_of(records))
    rows = [_rated(place, record, chosen, rules) for place, record in records]
    if "rater" not in chosen and not rules.repeats:
        refuse_copies(records, diagnostics, 'name the raters in a column "rater"')
    assembler = RatingAssembler(folder, diagnostics, rules.scale)
    found = assembler.assemble(path, name, rows)
    if any(isinstance(row.image, EmbeddedImage) for row in rows):
        # Images without names cannot be counted.
        return replace(found, counts={"ratings": found.n})
    return found


def read_dataset_ratings(
    dataset: Any, source: str, name: str, rules: TableRules, folder: ImageFolder | None = None
) -> RatingSet:
    """Make a rating set of a data set of the datasets library, e.g. one from the hub.

    Args:
        dataset: The data set; images inside it stay there until they are scored.
        source: Where it comes from, for messages.
        name: Of the set.
        rules: How it is to be taken.
        folder: Of images that are outside the data set.
    """
    diagnostics = Diagnostics()
    records = dataset_records(dataset, diagnostics, rules.columns)
    return ratings_of_records(Path(source), name, records, diagnostics, rules, folder)


def _rated(place: Location, record: Mapping[str, Any], chosen: Mapping[str, str], rules: TableRules) -> Rated:
    cell = {field: record.get(name) for field, name in chosen.items()}
    references = kept = _listed(cell.get("references"))
    if rules.drop_caption and isinstance(references, list):
        kept = list(without(references, str(cell.get("caption"))))
    return Rated(
        place,
        cell.get("image"),
        cell.get("caption"),
        cell.get("rating"),
        kept,
        _identity(cell.get("image"), references),
        rater=_label(cell.get("rater")),
        category=_label(cell.get("category")),
        system=_label(cell.get("system")),
    )


def _identity(image: object, references: object) -> str | None:
    """What tells images apart that a data set holds without names: their references, if they have any."""
    if not isinstance(image, EmbeddedImage) or not image.name.startswith("row "):
        return None
    try:
        return "\n".join(checked_references(references)) or None
    except UnusableError:
        return None


def _listed(cell: object) -> object:
    """Read a cell that holds a list as JSON or as Python writes it; anything else as it is."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return None if cell == "" else cell
    if len(cell) <= _LONGEST_LITERAL:
        for parse in (json.loads, ast.literal_eval):
            try:
                return parse(cell.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    return Malformed('the references are no list: write ["one", "two"]')


def _label(cell: object) -> str | None:
    return None if cell is None or cell == "" else str(cell)
