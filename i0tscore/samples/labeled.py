"""Labeled items for retrieval: folders of images by class, and tables with a column of labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from i0tscore.errors import InputError
from i0tscore.samples.diagnostics import Diagnostics, check_text, preview
from i0tscore.samples.formats import FORMATS, METADATA, read_records
from i0tscore.samples.images import IMAGE_SUFFIXES, ImageFolder
from i0tscore.samples.sample import ImageSource, Skipped
from i0tscore.samples.schema import CAPTION_FIELDS, CAPTIONS, ID_FIELDS, IMAGE_FIELDS, RENAME, Schema


@dataclass(frozen=True, slots=True)
class LabeledItem:
    """An image, a text or both, with a label.

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
class LabeledSet:
    """Labeled items, skipped entries and notes, as in ``SampleSet``."""

    items: list[LabeledItem]
    skipped: list[Skipped]
    notes: list[str]


def is_label_folder(path: Path) -> bool:
    """Return whether a path is a folder of no input format, so that only its subfolders can be labels."""
    if not path.is_dir() or any((path / name).exists() for name in METADATA):
        return False
    return not any(form.folder(path) for form in FORMATS.values())


def read_label_folder(folder: Path) -> LabeledSet:
    """Read a folder that has a subfolder of images for each label, named after it.

    Args:
        folder: The folder. Images directly in it and folders inside its subfolders are ignored, with a note.
            Hidden folders are ignored.

    Raises:
        InputError: The folder has no such subfolders.

    Examples:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "cat").mkdir(), (root / "cat" / "1.jpg").write_bytes(b"not decoded here")
        (None, 16)
        >>> read_label_folder(root).items[0].label
        'cat'
    """
    labels = _folders(folder)
    items = [
        LabeledItem(f"{label.name}/{file.name}", file, None, label.name) for label in labels for file in _images(label)
    ]
    if not items:
        raise InputError(
            f"{folder}: Expected captions, or subfolders of images named after their labels, found neither. Give a "
            "caption file, or the folder directly above those of the labels."
        )
    loose = [file.name for file in _images(folder)]
    deeper = [f"{label.name}/{inner.name}" for label in labels for inner in _folders(label)]
    notes = [f"Images outside subfolders are ignored: {len(loose)} ({preview(loose)})."] if loose else []
    notes += [f"Folders in subfolders are ignored: {len(deeper)} ({preview(deeper)})."] if deeper else []
    return LabeledSet(items, [], notes)


def read_labeled_table(
    path: Path, label: str, *, images: Path | None = None, on_error: Literal["raise", "skip"] = "raise"
) -> LabeledSet:
    """Read a table with a column of labels, and ``image`` or ``caption`` or both.

    Args:
        path: The table, in any format that ``read_records`` reads.
        label: The column of labels.
        images: The folder of the images; by default that of the table. No path leads out of it.
        on_error: As for ``read_samples``.

    Raises:
        SampleFileError: Lists everything that is wrong with the table.
        InputError: It cannot be read, or there is no such folder.
    """
    diagnostics = Diagnostics()
    schema = Schema(
        {"label": (label,), "id": ID_FIELDS, "image": IMAGE_FIELDS, "caption": CAPTION_FIELDS},
        {("label",): "Name the column of labels.", ("image", "caption"): RENAME},
        CAPTIONS.exclusive,
    )
    read = read_records(path, schema, diagnostics)
    records = [(location, schema.fields(record)) for location, record in read]
    with_image = any(record["image"] is not None for _, record in records)
    with_caption = any(schema.find(record, "caption") for _, record in read)
    folder = ImageFolder(images or (path if path.is_dir() else path.parent)) if with_image else None
    items = []
    for location, record in records:
        name = diagnostics.check(location, check_text, record["label"], "a label", True)
        image = caption = None
        if folder is not None:
            image = diagnostics.check(location, folder.find, record["image"])
        if with_caption:
            caption = diagnostics.check(location, check_text, record["caption"], "a caption")
        if name is None or (folder is not None and image is None) or (with_caption and caption is None):
            continue
        own = location.id or (image.name if image is not None else location.label)
        items.append(LabeledItem(own, image, caption, name.strip()))
    diagnostics.notes += [] if folder is None else folder.notes
    skipped = diagnostics.finish(path, len(items), skip=on_error == "skip")
    return LabeledSet(items, skipped, diagnostics.notes)


def _folders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder, sorted, without hidden ones such as ``.ipynb_checkpoints``."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """Return the image files directly in a folder, sorted, without the ``._`` files that macOS writes."""
    files = (file for file in folder.iterdir() if file.suffix[1:].lower() in IMAGE_SUFFIXES)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("._"))
