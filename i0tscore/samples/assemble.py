"""Turns rows into samples: checks every value, finds the images, joins the references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from i0tscore.samples.images import ImageFolder, image_source, nfc, without_suffix
from i0tscore.samples.rows import (
    Diagnostics,
    Location,
    Row,
    UnusableError,
    checked_name,
    checked_text,
    preview,
    quote,
)
from i0tscore.samples.sample import ImageSource, Sample

_Placed = tuple[Location, Sample]


@dataclass
class ReferenceFile:
    """References in a file of their own.

    Attributes:
        name: The file's name, for messages.
        texts: The references by id, unchecked.
        used: The ids that captions have asked for.
    """

    name: str
    texts: Mapping[str, object]
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._keys = {nfc(key): key for key in self.texts}

    def of(self, identifier: str, image: ImageSource | None) -> object:
        """Return the references of an id; if it has none, those of its image's name or stem."""
        names = [identifier] if image is None else [identifier, image.name, without_suffix(image.name)]
        for name in names:
            key = self._keys.get(nfc(name))
            if key is not None:
                self.used.add(key)
                return self.texts[key]
        return None


class Assembler:
    """Makes samples of rows; whatever is wrong goes to the diagnostics."""

    def __init__(
        self, folder: ImageFolder, references: ReferenceFile | None, diagnostics: Diagnostics, *, skip: bool
    ) -> None:
        """Remember where images and references come from, and whether unsound rows are left out."""
        self._skip = skip
        self._folder = folder
        self._references = references
        self._diagnostics = diagnostics
        self._without_image: list[Row] = []
        self._without_references: list[Location] = []
        self._some_have_references = False

    def samples(self, rows: list[Row]) -> list[Sample]:
        """Make samples of all rows that are sound, in order."""
        placed = [item for row in rows for item in self._samples(row)]
        self._summarise_images(rows)
        placed = self._one_image_an_id(placed)
        self._note_references(rows, placed)
        placed = self._equally_referenced(placed)
        samples = [sample for _, sample in placed]
        repeated = Counter((sample.id, sample.caption) for sample in samples)
        again = [identifier for (identifier, _), count in repeated.items() if count > 1]
        if again:
            self._diagnostics.notes.append(
                f"captions written more than once for their id, and scored each time: {len(again)} ({preview(again)})"
            )
        return samples

    def _samples(self, row: Row) -> list[_Placed]:
        identifier = None if row.id is None else self._diagnostics.check(row.place, checked_name, row.id, "the id")
        image = None
        if row.id is None or identifier is not None or row.image is not row.id:
            image = self._diagnostics.check(row.place, self._image, row.image)
            if image is None:
                self._without_image.append(row)
        if row.id is None:
            identifier = self._identifier(row, image)
        written = row.references
        if self._references is not None and identifier is not None:
            written = self._references.of(identifier, image)
        references = self._diagnostics.check(row.place, checked_references, written)
        if references == () and identifier is not None:
            self._without_references.append(row.place)
        self._some_have_references |= bool(references)
        captions = self._captions(row)
        if image is None or identifier is None or references is None:
            return []
        return [(place, Sample(identifier, image, caption, references)) for place, caption in captions]

    def _captions(self, row: Row) -> list[tuple[Location, str]]:
        several = isinstance(row.caption, list)
        written: list[object] = row.caption if isinstance(row.caption, list) else [row.caption]
        if not written:
            self._diagnostics.row_error(row.place, "the list of captions is empty: write one or remove the entry")
        found = []
        for number, text in enumerate(written, start=1):
            label = f"{row.place.label}, caption {number}" if several else row.place.label
            place = Location(row.place.position, label, row.place.id)
            caption = self._diagnostics.check(place, checked_text, text, "the caption")
            if caption is not None:
                found.append((place, caption))
        return found

    def _image(self, written: object) -> ImageSource:
        if written is None:
            raise UnusableError("neither an id nor an image: name one of them")
        return image_source(written, self._folder.find)

    def _identifier(self, row: Row, image: ImageSource | None) -> str:
        """Name a row without an id by its image."""
        if image is None:
            return row.place.label
        if isinstance(image, Path):
            return without_suffix(image.relative_to(self._folder.root).as_posix())
        return without_suffix(image.name)

    def _summarise_images(self, rows: list[Row]) -> None:
        """Say at the head of a long list that not one image was found, and what may be the matter."""
        missing = self._without_image
        if len(missing) < 2 or len(missing) < len(rows):
            return
        asked = [str(row.image) for row in missing]
        hint = ""
        if all(name.isdigit() for name in asked):
            hint = "; COCO results need their annotation file (annotations)"
        self._diagnostics.file_error(
            f"no caption finds its image in {self._folder.root}: captions ask for {preview(asked)}, "
            f"{self._folder.contents()}: check the folder{hint}"
        )

    def _one_image_an_id(self, placed: list[_Placed]) -> list[_Placed]:
        """Leave out samples whose id already names another image file."""
        first: dict[str, _Placed] = {}
        kept = []
        for place, sample in placed:
            before, known = first.setdefault(sample.id, (place, sample))
            if isinstance(sample.image, Path) and sample.image != known.image:
                self._diagnostics.row_error(
                    place,
                    f"id {quote(sample.id)} names the image {quote(sample.image.name)} here and "
                    f"{quote(known.image.name)} at {before.label}: give each image its own id",
                )
            else:
                kept.append((place, sample))
        return kept

    def _note_references(self, rows: list[Row], placed: list[_Placed]) -> None:
        notes, file = self._diagnostics.notes, self._references
        counts = {len(sample.references) for _, sample in placed} - {0}
        if len(counts) > 1:
            notes.append(f"captions have {min(counts)} to {max(counts)} references each")
        if file is None:
            return
        if any(row.references for row in rows):
            notes.append(f"references are taken from {file.name}; those beside the captions are left aside")
        unused = [key for key in file.texts if key not in file.used]
        if rows and file.texts and not file.used:
            self._diagnostics.file_error(
                f"no id of {file.name} is that of a caption: captions have "
                f"{preview(str(row.id) for row in rows)}, references {preview(unused)}: name them alike"
            )
        elif unused:
            notes.append(f"ids of {file.name} without a caption: {len(unused)} ({preview(unused)})")

    def _equally_referenced(self, placed: list[_Placed]) -> list[_Placed]:
        """Leave out samples without references where others have them.

        Where unsound rows are left out, they have no say in it; where all is listed, they have.
        """
        if self._skip:
            self._some_have_references = any(sample.references for _, sample in placed)
        if not self._some_have_references:
            return placed
        where = f"in {self._references.name}" if self._references else "here, though other captions have them"
        for place in self._without_references:
            self._diagnostics.row_error(place, f"no references {where}: add them, or leave all references out")
        return [item for item in placed if item[1].references]


def checked_references(written: object) -> tuple[str, ...]:
    """Return references given as one text or a list of them."""
    if written is None:
        return ()
    if not isinstance(written, list):
        return (checked_text(written, "the reference"),)
    return tuple(checked_text(text, f"reference {number}") for number, text in enumerate(written, start=1))
