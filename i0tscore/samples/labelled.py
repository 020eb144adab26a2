"""Labelled items for retrieval: folders of images by class, and tables with a column of labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i0tscore.errors import InputError
from i0tscore.samples.hub_datasets import METADATA, SAVED
from i0tscore.samples.images import IMAGE_SUFFIXES, ImageFolder, image_source
from i0tscore.samples.records import DELIMITERS, SUFFIXES, read_records
from i0tscore.samples.rows import (
    ID_FIELDS,
    IMAGE_FIELDS,
    Diagnostics,
    Location,
    checked_name,
    checked_text,
    first_filled,
    identified,
    preview,
)
from i0tscore.samples.sample import ImageSource, Skipped
from i0tscore.samples.tables import each_once


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image, a text or both, with what makes it relevant to others.

    Attributes:
        id: Its name.
        image: The image, or None.
        caption: The text, or None.
        label: Items with the same label are relevant to one another.
    """

    id: str
    image: ImageSource | None
    caption: str | None
    label: str


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """What was read; see ``SampleSet``."""

    items: list[Labelled]
    skipped: list[Skipped]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class LabelFields:
    """The fields of labelled items.

    Attributes:
        label: The column of labels.
    """

    label: str

    @property
    def names(self) -> tuple[str, ...]:
        """All that are looked at."""
        return (*dict.fromkeys((*ID_FIELDS, *IMAGE_FIELDS, "caption", self.label)),)

    @property
    def image(self) -> tuple[str, ...]:
        """Those that may hold images."""
        return IMAGE_FIELDS

    def suffice(self, present: list[str], diagnostics: Diagnostics) -> bool:
        """Whether there are labels of something; if not, the file is refused."""
        listed = preview(sorted(present), 8) or "none"
        something = not set(present).isdisjoint((*IMAGE_FIELDS, "caption"))
        if self.label not in present:
            diagnostics.file_error(f'no column "{self.label}" of labels (found: {listed}): name the one that has them')
        if not something:
            names = ", ".join(f'"{name}"' for name in (*IMAGE_FIELDS, "caption"))
            diagnostics.file_error(f"none of the columns {names} (found: {listed}): name one so")
        return self.label in present and something and each_once(self.names, present, diagnostics)


_EMBEDDED = ("img_emb", "text_emb")


def is_bare_folder(path: Path) -> bool:
    """Whether a folder has no file that describes its images and no embeddings: only labels can be in it."""
    return path.is_dir() and not any((path / name).exists() for name in (*SAVED, *METADATA, *_EMBEDDED))


def read_labelled_folder(folder: Path) -> LabelledSet:
    """Read a folder with a sub-folder of images for each label, named after it.

    Args:
        folder: The folder; images directly in it belong to no label, and those deeper than its sub-folders
            are not looked for: both are left aside, with a note. Hidden folders are none.

    Raises:
        InputError: It is no such folder.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "cat").mkdir(), (root / "cat" / "1.jpg").write_bytes(b"not decoded here")
        (None, 16)
        >>> read_labelled_folder(root).items[0].label
        'cat'
    """
    labels = _folders(folder)
    items = [
        Labelled(f"{label.name}/{file.name}", file, None, label.name)
        for label in labels
        for file in sorted(label.iterdir())
        if _is_image(file)
    ]
    if not items:
        raise InputError(
            f"{folder}: neither captions nor sub-folders with images directly in them, whose names would be "
            "the labels: give a caption file, or the folder right above those of the labels"
        )
    loose = sorted(file.name for file in folder.iterdir() if _is_image(file))
    deeper = [f"{label.name}/{inner.name}" for label in labels for inner in _folders(label)]
    notes = [f"images of no sub-folder, left aside: {len(loose)} ({preview(loose)})"] if loose else []
    notes += [f"folders in sub-folders, left aside: {len(deeper)} ({preview(deeper)})"] if deeper else []
    return LabelledSet(items, [], notes)


def read_labelled_table(
    path: Path,
    label: str,
    *,
    images: Path | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> LabelledSet:
    """Read a table with a column of labels, and ``image`` or ``caption`` or both.

    Args:
        path: CSV, TSV, JSON list, JSON lines, parquet, or a folder written by ``Dataset.save_to_disk``.
        label: The column of labels.
        images: Folder of the images; by default the one the table is in. No path reaches out of it.
        on_error: As for ``read_samples``.

    Raises:
        SampleFileError: Whatever is wrong with the table, all of it found in one reading.
        InputError: It cannot be read, or there is no such folder.
    """
    diagnostics = Diagnostics()
    fields = LabelFields(label)
    records = read_records(path, diagnostics, fields)
    with_image = any(first_filled(record, IMAGE_FIELDS) is not None for _, record in records)
    folder = ImageFolder(images or (path if path.is_dir() else path.parent)) if with_image else None
    # A cell of CSV is text even where it is empty.
    cells = SUFFIXES.get(path.suffix.lower()) in DELIMITERS
    items = []
    for place, record in records:
        filled = {k: v for k, v in record.items() if not cells or v.strip() or k == "caption"}
        item = _item(identified(place, filled), filled, label, folder, diagnostics)
        if item is not None:
            items.append(item)
    skipped = diagnostics.skipped(path, len(items), skip=on_error == "skip")
    return LabelledSet(items, skipped, diagnostics.notes)


def _item(
    place: Location,
    record: dict[str, object],
    label: str,
    folder: ImageFolder | None,
    diagnostics: Diagnostics,
) -> Labelled | None:
    """One row, or None with its problems told."""
    name = diagnostics.check(place, checked_name, record.get(label), "the label")
    image = caption = None
    if folder is not None:
        image = diagnostics.check(place, image_source, first_filled(record, IMAGE_FIELDS), folder.find)
    if "caption" in record:
        caption = diagnostics.check(place, checked_text, record["caption"], "the caption")
    whole = name is not None and (folder is None or image is not None)
    if not whole or ("caption" in record and caption is None) or name is None:
        return None
    own = place.id or (image.name if image is not None else place.label)
    return Labelled(own, image, caption, name.strip())


def _folders(folder: Path) -> list[Path]:
    """Its sub-folders by name, without hidden ones such as a notebook's ``.ipynb_checkpoints``."""
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))


def _is_image(file: Path) -> bool:
    return file.is_file() and file.suffix[1:].lower() in IMAGE_SUFFIXES and not file.name.startswith("._")
