"""Reading of caption files: how the records of a file, or of a part of a shard, become samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from i0tscore.errors import UsageError
from i0tscore.files import default_cache_dir
from i0tscore.samples.diagnostics import (
    Diagnostics,
    Location,
    Malformed,
    Record,
    UnusableError,
    check_context,
    check_references,
    check_text,
    preview,
    quote,
)
from i0tscore.samples.download import Downloads
from i0tscore.samples.formats import FORMATS, INPUT_FORMATS, METADATA, Format, detect_format
from i0tscore.samples.images import ImageFolder, nfc, without_suffix
from i0tscore.samples.sample import ImageSource, Sample, SampleSet, Skipped, StoredImage
from i0tscore.samples.schema import CAPTIONS, RENAME, ReadOptions, Schema
from i0tscore.samples.source import Source
from i0tscore.samples.text import is_tokens
from i0tscore.samples.writers import Writer

_PART_ROWS: Final = 512
_PART_BYTES: Final = 256_000_000
"""A part of a shard ends with the row that reaches either bound."""

_ROLES: Final = ("gpt", "assistant", "model", "bot", "chatgpt")
"""Names of the assistant in conversations."""


def read_samples(
    path: str | Path,
    *,
    images: str | Path | None = None,
    references: str | Path | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    **reading: Any,
) -> SampleSet:
    """Read captions with their images and references.

    The input formats are described in ``docs/reference/caption-files.md``. Images are neither opened nor decoded.

    Args:
        path: The caption file, ``-`` for standard input, or the folder of a Hugging Face dataset.
        images: The folder that contains all images; by default that of the caption file. No path in the
            caption file leads out of it.
        references: A file of references: a JSON object ``{"id": ["reference", …]}``, or a caption file whose
            captions are references. It takes precedence over references in the caption file.
        on_error: ``"raise"``: any problem raises. ``"skip"``: entries with problems are listed in
            ``SampleSet.skipped``, and the others returned.
        **reading: Fields of ``ReadOptions``, such as ``input_format``, ``caption_column``, and ``split``.

    Returns:
        The samples in the order of the file, skipped entries, and notes.

    Raises:
        UsageError: An unknown format or ``on_error``, or options that contradict each other.
        InputError: A file or folder does not exist or cannot be read.
        SampleFileError: Lists everything that is wrong with the files.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dog.jpg").write_bytes(b"not decoded here")
        >>> _ = (folder / "captions.json").write_text('{"dog": "A dog runs."}')
        >>> read_samples(folder / "captions.json").samples[0].caption
        'A dog runs.'
    """
    file = CaptionReader(path, images=images, references=references, on_error=on_error, **reading).read()
    return SampleSet(file.samples, list(file.unusable.values()), file.notes)


@dataclass(frozen=True, slots=True, eq=False)
class CaptionFile:
    """A caption file, or a part of a shard, that has been read.

    Attributes:
        source: The file.
        samples: The samples, in the order of the file.
        locations: The location of each sample.
        unusable: What cannot be scored, by location; empty unless ``on_error="skip"``.
        notes: Anything worth knowing that is not an error.
    """

    source: Source
    samples: list[Sample]
    locations: list[Location]
    unusable: dict[Location, Skipped]
    notes: list[str]


class CaptionReader:
    """Reads a caption file as a whole or in parts; the arguments are those of ``read_samples``.

    Attributes:
        source: The file or folder.
        form: Its format.
        files: Every file and folder that is read.
        shards: The shards in a folder of shards; otherwise none.
        embeddings: Whether the input is a folder of embeddings, which has no captions to read.

    Raises:
        InputError: A file or folder does not exist.
        UsageError: The format is unknown, or the options contradict each other.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        images: str | Path | None = None,
        references: str | Path | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        **reading: Any,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise UsageError(f'Expected on_error "raise" or "skip", got {on_error!r}.')
        self._options, self._skip = ReadOptions.of(reading), on_error == "skip"
        self.source, self.form = _resolve_format(Path(path), self._options, Diagnostics())
        file = self.source.path
        self.files = (file, *(Path(one) for one in (references, self._options.annotations) if one is not None))
        self.shards = self.form.shards(file) if file.is_dir() else []
        self.embeddings = self.form.name == "clip-retrieval"
        self._named = images is not None
        self._reference_path = None if references is None else Path(references)
        options = self._options
        downloads = Downloads(default_cache_dir() / "images", private=options.download_private)
        root = Path(images) if images is not None else file if file.is_dir() else file.parent
        self._folder = ImageFolder(root, downloads if options.download or options.download_private else None)

    @cached_property
    def _references(self) -> _ReferenceFile | None:
        """The references of all parts, read once."""
        return None if self._reference_path is None else _ReferenceFile.read(self._reference_path)

    def read(self) -> CaptionFile:
        """Read everything; raises as ``read_samples``."""
        return self._build(self.source, self.form.read(self.source))

    def parts(self, *, divide: bool = False) -> Iterator[CaptionFile]:
        """Read a folder of shards in parts of bounded size, each of one shard; otherwise everything in one part.

        With ``divide``, a file that can be a shard is also read in parts. A part may have no samples, and repeated ids
        are only found within it. Raises as ``read_samples``.
        """
        stream, shards = self.form.stream, self.shards or [self.source.path] * divide
        if stream is None or not shards:
            yield self.read()
            return
        for shard in shards:
            source = replace(self.source, path=shard, diagnostics=Diagnostics())
            for records in _split(stream(source)):
                yield self._build(source, records, part=True)
                source.diagnostics = Diagnostics()
            if source.diagnostics.any or source.diagnostics.notes:  # of what follows the last record
                yield self._build(source, [], part=True)

    def _build(self, source: Source, found: Iterable[Record], *, part: bool = False) -> CaptionFile:
        records = [(location, source.schema.fields(record)) for location, record in found]
        diagnostics = source.diagnostics
        references = self._references
        if references is not None:
            diagnostics.adopt(references.diagnostics, references.path)
        builder = SampleBuilder(
            self._folder, diagnostics, references, skip=self._skip, turn=self._options.turn, part=part
        )
        samples = builder.build(_choose_split(records, self._options.split, diagnostics, part=part))
        diagnostics.notes += self._folder.notes
        unused = self._folder.unused() if self._named and not part else []
        if unused:
            diagnostics.notes.append(
                f"Images in {self._folder.root} have no caption: {len(unused)} ({preview(unused)})."
            )
        skipped = diagnostics.finish(source.path, len(samples), skip=self._skip, part=part)
        unusable = dict(zip(diagnostics.reasons(), skipped, strict=True))
        return CaptionFile(source, samples, builder.locations, unusable, diagnostics.notes)

    def writer(self) -> Writer:
        """Return the writer of a part of a file.

        Raises:
            UsageError: Its format cannot be written.
        """
        if self.form.write is None:
            writable = ", ".join(form.name for form in FORMATS.values() if form.write is not None)
            raise UsageError(
                f"{self.source.path}: Expected input in a format that can be written ({writable}), got "
                f"{self.form.name}. Save it as CSV or JSON lines."
            )
        return self.form.write


def _resolve_format(path: Path, options: ReadOptions, diagnostics: Diagnostics) -> tuple[Source, Format]:
    """Return what to read, which is the metadata file in a folder of images, and its format.

    Raises:
        InputError: The path does not exist.
        UsageError: The format is unknown, or the options contradict each other.
    """
    named = options.input_format
    if named is not None and named not in INPUT_FORMATS:
        raise UsageError(f"Expected input_format to be one of {', '.join(INPUT_FORMATS)}, got {named!r}.")
    metadata = [path / name for name in METADATA if (path / name).is_file()]
    if len(metadata) > 1:
        names = " and ".join(file.name for file in metadata)
        raise UsageError(f"{path}: The folder has {names}. Give the path of the one to read.")
    source = Source(metadata[0] if metadata else path, diagnostics, options.schema(), options)
    form = FORMATS[named] if named else detect_format(source)
    if form.name == "coco" and options.annotations is None:
        raise UsageError("COCO results need an annotation file with the file names. Use --annotations (annotations=).")
    if form.name != "coco" and options.annotations is not None:
        raise UsageError(f"Expected COCO results with annotations, got {path} in the format {form.name}.")
    if named and source.path.is_dir() and not form.folder(source.path):
        raise UsageError(f"{path} is a folder and not in the format {form.name}. Give a file.")
    return source, form


def _split(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Split records into parts of bounded size."""
    part: list[Record] = []
    size = 0
    for location, record in records:
        part.append((location, record))
        contents = (value.content for value in record.values() if isinstance(value, StoredImage))
        size += sum(len(content) for content in contents if isinstance(content, bytes))
        if len(part) >= _PART_ROWS or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _choose_split(
    records: list[Record], split: str | None, diagnostics: Diagnostics, *, part: bool = False
) -> list[Record]:
    """Return the records of a split; all of them if no split is named, with a note if there are several."""
    splits = list(dict.fromkeys(str(record["split"]) for _, record in records if record["split"] is not None))
    if split is None:
        if len(splits) > 1:
            diagnostics.notes.append(f"All splits are read: {preview(splits, 8)}. To read one, use --split (split=).")
        return records
    chosen = [(location, record) for location, record in records if record["split"] == split]
    if records and not chosen and not part:
        found = preview(splits, 8) or "no splits"
        diagnostics.file_error(f"Expected the split {quote(split)}, found {found}. Correct --split (split=).")
    return chosen


def captions_of(record: dict[str, Any], turn: int = -1) -> list[Any]:
    """Return the captions of a record by field, unchecked: one text, a list of texts, or a turn of a conversation."""
    written = record.get("caption")
    if isinstance(written, dict) or (isinstance(written, list) and written and isinstance(written[0], dict)):
        return [_choose_turn(written if isinstance(written, list) else [written], turn)]
    if isinstance(written, list) and is_tokens(written):
        reason = f"Expected captions, got a list of single words ({preview(written)}). Join the words of a caption."
        return [Malformed(reason)]
    if written == []:
        return [Malformed("Expected captions, got an empty list. Add one or remove the row.")]
    return written if isinstance(written, list) else [written]


def _choose_turn(turns: list[Any], turn: int) -> Any:
    """Return the text of a turn of the assistant, in the format of ShareGPT or of chat messages."""
    answers = []
    for one in turns:
        if not isinstance(one, dict) or not {"from", "role"} & one.keys():
            return Malformed('Expected a conversation whose turns have "from" and "value", or "role" and "content".')
        if str(one.get("from", one.get("role"))).lower() in _ROLES:
            text = one.get("value", one.get("content"))
            parts = [part.get("text") for part in text if isinstance(part, dict)] if isinstance(text, list) else [text]
            answers.append("\n".join(part for part in parts if isinstance(part, str)) or None)
    position = turn - 1 if turn > 0 else turn
    if not turn or not -len(answers) <= position < len(answers):
        return Malformed(
            f"Expected turn {turn} of the assistant, got {len(answers)} such turns. Correct --turn (turn=)."
        )
    return answers[position]


def _image_names(path: str) -> tuple[str, str]:
    """Return the file name of a path, with and without suffix."""
    name = path.rpartition("/")[2]
    return name, without_suffix(name)


class _References(NamedTuple):
    """References of one image or id of a file."""

    name: str
    of_image: bool
    texts: list[Any]


REFERENCES: Final = Schema(CAPTIONS.columns, {("references", "caption"): RENAME, ("id", "image"): RENAME})
"""The fields of a file of references, whose captions are references if it has no others."""


@dataclass(frozen=True, slots=True, eq=False)
class _ReferenceFile:
    """A file of references, which take precedence over those of records.

    Attributes:
        path: The file.
        by_name: References by the id or image that they are for.
        names: Names in ``by_name`` by every key under which they can be found.
        diagnostics: Problems of the file.
    """

    path: Path
    by_name: dict[str, _References]
    names: dict[str, set[str]]
    diagnostics: Diagnostics

    @classmethod
    def read(cls, path: Path) -> _ReferenceFile:
        """Read a JSON object of references, or a caption file."""
        source = Source(path, Diagnostics(), REFERENCES)
        found = cls(path, {}, {}, source.diagnostics)
        for location, record in detect_format(source).read(source):
            own = source.schema.fields(record)
            image, identifier = own["image"], own["id"]
            name = str(identifier if image is None else image).replace("\\", "/")
            texts = own["references"] if own["references"] is not None else own["caption"]
            if isinstance(texts, Malformed):
                source.diagnostics.row_error(location, texts.reason)
                continue
            entry = found.by_name.setdefault(name, _References(name, image is not None, []))
            entry.texts.extend(texts if isinstance(texts, list) else [texts])
            for key in (name, identifier, *_image_names(name)):
                if key is not None:
                    found.names.setdefault(nfc(str(key)), set()).add(name)
        return found


@dataclass
class SampleBuilder:
    """Builds samples from records by field, and reports everything that is wrong with them.

    Attributes:
        folder: The folder of the images.
        diagnostics: Collects the problems.
        references: The file of references, or None.
        skip: Whether records with problems will be skipped.
        turn: The turn of a conversation that is the caption.
        part: Whether the records are only a part of the file.
        locations: The location of each sample that ``build`` returned.
    """

    folder: ImageFolder
    diagnostics: Diagnostics
    references: _ReferenceFile | None = None
    skip: bool = False
    turn: int = -1
    part: bool = False
    locations: list[Location] = field(default_factory=list)
    _used: set[str] = field(default_factory=set)
    _without_image: list[str] = field(default_factory=list)
    _without_references: list[Location] = field(default_factory=list)
    _any_references: bool = False

    def build(self, records: list[Record]) -> list[Sample]:
        """Return the samples of all records without problems, in order."""
        located = [item for location, record in records for item in self._samples(location, record)]
        if 1 < len(self._without_image) == len(records) and not self.part:
            self._report_images()
        first: dict[str, tuple[Location, Sample]] = {}
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
            self.diagnostics.notes.append(f"Captions have {min(numbers)} to {max(numbers)} references each.")
        if self.references and not self.part:
            self._note_references(self.references, records)
        # Records that are skipped do not decide whether there are references.
        needed = any(sample.references for _, sample in kept) if self.skip else self._any_references
        if needed and (self.references or not self.part):  # a part does not tell whether others have references
            kept = self._drop_unreferenced(kept)
        samples, self.locations = [sample for _, sample in kept], [location for location, _ in kept]
        counts = Counter((sample.id, sample.caption) for sample in samples)
        repeated = [identifier for (identifier, _), count in counts.items() if count > 1]
        if repeated:
            self.diagnostics.notes.append(
                f"Captions that occur more than once for an id are scored each time: {len(repeated)} "
                f"({preview(repeated)})."
            )
        return samples

    def _samples(self, location: Location, record: dict[str, Any]) -> list[tuple[Location, Sample]]:
        """Return a sample for each caption of a record."""
        check = self.diagnostics.check
        written_id, image = record.get("id"), None
        written_image = written_id if record.get("image") is None else record["image"]
        identifier = None if written_id is None else check(location, check_text, written_id, "an id", True)
        if written_image is None:
            self.diagnostics.row_error(location, "Expected an id or an image, got neither. Add one.")
        # A bad id that also names the image is one problem, not two.
        elif written_id is None or identifier is not None or written_image is not written_id:
            image = check(location, self._find_image, written_image)
            if image is None:
                self._without_image.append(str(written_image))
        if written_id is None:
            if isinstance(image, Path):
                identifier = without_suffix(image.relative_to(self.folder.root).as_posix())
            else:
                identifier = location.label if image is None else without_suffix(image.name)
        written = record.get("references")
        if self.references and identifier is not None:
            own_image = written_image is not written_id
            written = self._find_references(self.references, identifier, image, own_image=own_image)
        references = () if written is None else check(location, check_references, written)
        if references == () and identifier is not None:
            self._without_references.append(location)
        self._any_references |= bool(references)
        context = check(location, check_context, record.get("context"))
        captions = self._captions(location, record)
        if image is None or identifier is None or references is None or context is None:
            return []
        return [(at, Sample(identifier, image, caption, references, context or None)) for at, caption in captions]

    def _find_image(self, written: Any) -> ImageSource:
        if isinstance(written, list):
            if len(written) != 1:
                raise UnusableError(f"Expected one image, got {len(written)}. Give each image its own row.")
            written = written[0]
        return self.folder.find(written)

    def _find_references(
        self, file: _ReferenceFile, identifier: str, image: ImageSource | None, *, own_image: bool
    ) -> Any:
        """Return the references of an image or id; an image that the sample names counts more than its id."""
        names: list[str] = []
        if isinstance(image, Path):
            names = [image.relative_to(self.folder.root).as_posix()]
        if image is not None:
            names += [image.name, without_suffix(image.name)]
        for name in (*names, identifier) if own_image else (identifier, *names):
            keys = file.names.get(nfc(name), set())
            keys = {key for key in keys if nfc(key) == nfc(name)} or keys
            if len(keys) == 1:
                found = file.by_name[next(iter(keys))]
                if name == identifier and own_image and found.of_image and name not in names:
                    continue  # an id of another file, whose images have other names
                self._used.add(found.name)
                return found.texts
        return None

    def _captions(self, location: Location, record: dict[str, Any]) -> list[tuple[Location, str]]:
        found, written = [], captions_of(record, self.turn)
        for number, text in enumerate(written, start=1):
            at = location
            if len(written) > 1:
                at = Location(location.position, f"{location.label}, caption {number}", location.id, number)
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
            hint = " If these are COCO results, use --annotations (annotations=)."
        self.diagnostics.file_error(
            f"Found none of the images in {self.folder.root}: the captions name {preview(self._without_image)}, and "
            f"{contents}. Check the folder.{hint}"
        )

    def _note_references(self, references: _ReferenceFile, records: list[Record]) -> None:
        notes, file = self.diagnostics.notes, references.path.name
        if any(record.get("references") for _, record in records):
            notes.append(f"References are read from {file}, and those in the caption file are ignored.")
        unused = [key for key in references.by_name if key not in self._used]
        if records and references.by_name and not self._used:
            ids = preview(str(record["id"] or record["image"]) for _, record in records)
            self.diagnostics.file_error(
                f"Expected {file} to have the ids of the captions ({ids}), found {preview(unused)}. Use the same ids."
            )
        elif unused:
            notes.append(f"Ids in {file} have no caption: {len(unused)} ({preview(unused)}).")

    def _drop_unreferenced(self, located: list[tuple[Location, Sample]]) -> list[tuple[Location, Sample]]:
        """Drop samples without references because others have some."""
        found = "got none, though other captions have some"
        if self.references:
            found = f"found none in {self.references.path.name}"
        for location in self._without_references:
            self.diagnostics.row_error(location, f"Expected references, {found}. Add some, or leave out all.")
        return [item for item in located if item[1].references]
