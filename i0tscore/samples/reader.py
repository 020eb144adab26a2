"""Reading of caption files: every value checked, images found, references joined."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from i0tscore.errors import UsageError
from i0tscore.samples.diagnostics import (
    ID_FIELDS,
    Diagnostics,
    Location,
    Malformed,
    Record,
    check_references,
    check_text,
    first_filled,
    preview,
    quote,
)
from i0tscore.samples.formats import read_mapping, resolve_format
from i0tscore.samples.images import IMAGE_FIELDS, ImageFolder, nfc, without_suffix
from i0tscore.samples.sample import ImageSource, Sample, SampleSet
from i0tscore.samples.schema import CAPTIONS, Source

_Located = tuple[Location, Sample]


def read_samples(
    path: str | Path,
    *,
    images: str | Path | None = None,
    references: str | Path | None = None,
    annotations: str | Path | None = None,
    input_format: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> SampleSet:
    """Read captions with their images and references.

    The input formats are described in ``docs/caption-files.md``. Images are neither opened nor decoded.

    Args:
        path: The caption file, or the folder of a Hugging Face data set.
        images: The folder that contains all images; by default that of the caption file. No path in the
            caption file leads out of it.
        references: A JSON file ``{"id": ["reference", …]}``; it takes precedence over references in the
            caption file.
        annotations: The annotation file of COCO results.
        input_format: One of ``INPUT_FORMATS``; detected from suffix and content if None.
        on_error: ``"raise"``: any problem raises. ``"skip"``: entries with problems are listed in
            ``SampleSet.skipped``, and the others returned.

    Returns:
        The samples in the order of the file, skipped entries, and notes.

    Raises:
        UsageError: An unknown format or ``on_error``, or options that contradict each other.
        InputError: A file or folder does not exist or cannot be read.
        SampleFileError: Lists everything that is wrong with the files.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dog.jpg").write_bytes(b"not decoded here")
        >>> _ = (folder / "captions.json").write_text('{"dog": "A dog runs."}')
        >>> read_samples(folder / "captions.json").samples[0].caption
        'A dog runs.'
    """
    if on_error not in ("raise", "skip"):
        raise UsageError(f'Expected on_error "raise" or "skip", got {on_error!r}.')
    annotation_file = None if annotations is None else Path(annotations)
    file, form = resolve_format(Path(path), input_format, annotation_file)
    folder = ImageFolder(Path(images) if images is not None else file if file.is_dir() else file.parent)
    diagnostics = Diagnostics()
    records = list(form.read(Source(file, CAPTIONS, diagnostics, annotation_file)))
    skip = on_error == "skip"
    builder = SampleBuilder(folder, diagnostics, skip=skip)
    if references is not None:
        builder.read_references(Path(references))
    samples = builder.build(records)
    unused = folder.unused() if images is not None else []
    if unused:
        diagnostics.notes.append(f"images of {folder.root} without a caption: {len(unused)} ({preview(unused)})")
    return SampleSet(samples, diagnostics.finish(file, len(samples), skip=skip), diagnostics.notes)


@dataclass
class SampleBuilder:
    """Builds samples from records and reports everything that is wrong with them.

    Attributes:
        folder: The folder of the images.
        diagnostics: Collects the problems.
        skip: Whether records with problems will be skipped.
    """

    folder: ImageFolder
    diagnostics: Diagnostics
    skip: bool = False
    _reference_file: str = ""
    _references: dict[str, Any] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _without_image: list[str] = field(default_factory=list)
    _without_references: list[Location] = field(default_factory=list)
    _any_references: bool = False

    def read_references(self, path: Path) -> None:
        """Read ``{"id": ["reference", …]}``, which takes precedence over the references of records.

        A value may be a single string.
        """
        self._reference_file = path.name
        for identifier, texts in read_mapping(path, self.diagnostics, "references", named=True):
            if isinstance(texts, Malformed):
                self.diagnostics.file_error(f"{path.name}, id {quote(identifier)}: {texts.reason}")
            else:
                self._references[identifier] = texts
                self._keys[nfc(identifier)] = identifier

    def build(self, records: list[Record]) -> list[Sample]:
        """Return the samples of all records without problems, in order."""
        located = [item for location, record in records for item in self._samples(location, record)]
        if 1 < len(self._without_image) == len(records):
            self._report_images()
        first: dict[str, _Located] = {}
        kept = []
        for location, sample in located:
            before, other = first.setdefault(sample.id, (location, sample))
            if isinstance(sample.image, Path) and sample.image != other.image:
                self.diagnostics.row_error(
                    location,
                    f"The id {quote(sample.id)} names the image {quote(sample.image.name)} here and "
                    f"{quote(other.image.name)} at {before.label}. Give each image its own id.",
                )
            else:
                kept.append((location, sample))
        numbers = {len(sample.references) for _, sample in kept} - {0}
        if len(numbers) > 1:
            self.diagnostics.notes.append(f"captions have {min(numbers)} to {max(numbers)} references each")
        if self._reference_file:
            self._note_references(records)
        # Records that are skipped do not decide whether there are references.
        if any(sample.references for _, sample in kept) if self.skip else self._any_references:
            kept = self._drop_unreferenced(kept)
        samples = [sample for _, sample in kept]
        counts = Counter((sample.id, sample.caption) for sample in samples)
        repeated = [identifier for (identifier, _), count in counts.items() if count > 1]
        if repeated:
            self.diagnostics.notes.append(
                f"captions that occur more than once for their id and are scored each time: {len(repeated)} "
                f"({preview(repeated)})"
            )
        return samples

    def _samples(self, location: Location, record: dict[str, Any]) -> list[_Located]:
        """Return a sample for each caption of a record."""
        check = self.diagnostics.check
        written_id, image = first_filled(record, ID_FIELDS), None
        written_image = first_filled(record, (*IMAGE_FIELDS, "image_id", "id"))
        identifier = None if written_id is None else check(location, check_text, written_id, "an id", True)
        if written_image is None:
            self.diagnostics.row_error(location, "Expected an id or an image, got neither. Add one.")
        # A bad id that also names the image is one problem, not two.
        elif written_id is None or identifier is not None or written_image is not written_id:
            image = check(location, self.folder.find, written_image)
            if image is None:
                self._without_image.append(str(written_image))
        if written_id is None:
            if isinstance(image, Path):
                identifier = without_suffix(image.relative_to(self.folder.root).as_posix())
            else:
                identifier = location.label if image is None else without_suffix(image.name)
        written = record.get("references")
        if self._reference_file and identifier is not None:
            written = self._find_references(identifier, image)
        references = () if written is None else check(location, check_references, written)
        if references == () and identifier is not None:
            self._without_references.append(location)
        self._any_references |= bool(references)
        captions = self._captions(location, record.get("caption"))
        if image is None or identifier is None or references is None:
            return []
        return [(at, Sample(identifier, image, caption, references)) for at, caption in captions]

    def _find_references(self, identifier: str, image: ImageSource | None) -> Any:
        """Return the references of an id in their file, or else of its image's name or stem."""
        names = [identifier] if image is None else [identifier, image.name, without_suffix(image.name)]
        key = next((self._keys[nfc(name)] for name in names if nfc(name) in self._keys), None)
        if key is None:
            return None
        self._used.add(key)
        return self._references[key]

    def _captions(self, location: Location, written: Any) -> list[tuple[Location, str]]:
        several = isinstance(written, list)
        if written == []:
            self.diagnostics.row_error(location, "Expected captions, got an empty list. Add one or remove the row.")
        found = []
        for number, text in enumerate(written if several else [written], start=1):
            label = f"{location.label}, caption {number}" if several else location.label
            at = Location(location.position, label, location.id)
            caption = self.diagnostics.check(at, check_text, text, "a caption")
            if caption is not None:
                found.append((at, caption))
        return found

    def _report_images(self) -> None:
        """Report at the head of a long list that no image was found, and a likely reason."""
        images = self.folder.unused()
        contents = f"the folder has {preview(images)}" if images else "the folder has no images"
        hint = ""
        if all(name.isdigit() for name in self._without_image):
            hint = " If these are COCO results, give their annotation file (annotations)."
        self.diagnostics.file_error(
            f"Found none of the images in {self.folder.root}: the captions name {preview(self._without_image)}, and "
            f"{contents}. Check the folder.{hint}"
        )

    def _note_references(self, records: list[Record]) -> None:
        notes, file = self.diagnostics.notes, self._reference_file
        if any(record.get("references") for _, record in records):
            notes.append(f"references are read from {file}; those in the caption file are ignored")
        unused = [key for key in self._references if key not in self._used]
        if records and self._references and not self._used:
            ids = preview(str(first_filled(record, ID_FIELDS)) for _, record in records)
            self.diagnostics.file_error(
                f"Expected {file} to have the ids of the captions ({ids}), found {preview(unused)}. Make the ids equal."
            )
        elif unused:
            notes.append(f"ids of {file} without a caption: {len(unused)} ({preview(unused)})")

    def _drop_unreferenced(self, located: list[_Located]) -> list[_Located]:
        """Drop samples without references because others have some."""
        found = "got none, though other captions have some"
        if self._reference_file:
            found = f"found none in {self._reference_file}"
        for location in self._without_references:
            self.diagnostics.row_error(location, f"Expected references, {found}. Add some, or leave out all.")
        return [item for item in located if item[1].references]
