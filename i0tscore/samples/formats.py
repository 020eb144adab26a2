"""Reading of caption files: the registry of input formats, and how their records become samples.

To add a format, write a reader and add a row to ``FORMATS``.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, NoReturn

from i0tscore.errors import InputError, UsageError
from i0tscore.samples.datasets import SAVED, read_saved_dataset, stream_parquet, stream_tar
from i0tscore.samples.diagnostics import (
    CAPTIONS,
    ID_FIELDS,
    IMAGE_FIELDS,
    Diagnostics,
    Location,
    Malformed,
    Record,
    Schema,
    Source,
    check_references,
    check_text,
    describe,
    first_filled,
    identify,
    preview,
    quote,
)
from i0tscore.samples.images import ImageFolder, nfc, without_suffix
from i0tscore.samples.sample import ImageSource, Sample, SampleSet
from i0tscore.samples.text import (
    BROKEN,
    RepeatedKeys,
    parse_json,
    read_columns,
    read_json,
    read_json_lines,
    read_json_list,
    read_table,
)

METADATA: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""A folder of images contains one of these if it describes them."""

_HEAD_BYTES: Final = 1 << 16
_NUMBERED: Final = re.compile(r"[^\t\n]+#\d+\t")
_OBJECT_PER_LINE: Final = re.compile(r"\{[^\n]*\}[ \t\r]*\n\s*\S")


class Head(NamedTuple):
    """What the format of a file is recognized by.

    Attributes:
        text: Its beginning.
        line: Its first line.
        suffix: Its suffix in lower case if some format has it, else empty.
        annotations: Whether there is a COCO annotation file.
    """

    text: str
    line: str
    suffix: str
    annotations: bool


@dataclass(frozen=True, slots=True)
class Format:
    """An input format.

    Attributes:
        name: Its name in ``--input-format``.
        read: The reader; its records have the fields of captions, or of any table if ``table`` is set.
        suffixes: Suffixes of its files; several formats may share one.
        sniff: Tells whether a file with one of the suffixes, or with an unknown suffix, is of this format.
        magic: The first bytes of its files, if these tell.
        folder: Tells whether a folder is of this format.
        table: Whether the records may have any fields, so that ratings, scores and labels can be read.
        stream: Reads the records of a shard one by one, in bounded memory; ``read`` if None.
    """

    name: str
    read: Callable[[Source], Iterable[Record]]
    suffixes: tuple[str, ...] = ()
    sniff: Callable[[Head], bool] = lambda head: False
    magic: bytes | None = None
    folder: Callable[[Path], bool] = lambda path: False
    table: bool = False
    stream: Callable[[Source], Iterator[Record]] | None = None


def detect_format(path: Path, *, annotations: bool = False, table: bool = False) -> Format:
    """Return the format of a file or folder, by its suffix and content.

    Args:
        path: The file or folder.
        annotations: Whether there is a COCO annotation file, so that a JSON list holds COCO results.
        table: Whether only formats of tables count.

    Raises:
        InputError: The path does not exist.
        UsageError: The format is unknown; the message lists the choices.
    """
    if not path.exists():
        raise InputError(f"{path}: No such file. Check the path.")
    formats = [form for form in FORMATS.values() if form.table or not table]
    if path.is_dir():
        found = next((form for form in formats if form.folder(path)), None)
        if found is None:
            raise UsageError(
                f"{path}: The folder has no captions. Give a caption file, a folder written by Dataset.save_to_disk, "
                f"or one with {' or '.join(METADATA)}."
            )
        return found
    with path.open("rb") as file:
        data = file.read(_HEAD_BYTES)
    suffix = path.suffix.lower()
    known = [form for form in formats if suffix in form.suffixes]
    text = data.decode("utf-8-sig", errors="replace").lstrip()
    head = Head(text, text.partition("\n")[0], suffix if known else "", annotations)
    found = next((form for form in formats if form.magic is not None and data.startswith(form.magic)), None)
    found = found or next((form for form in known or formats if form.sniff(head)), known[0] if known else None)
    if found is None:
        suffixes = ", ".join(dict.fromkeys(suffix for form in formats for suffix in form.suffixes))
        hint = "" if table else f", or give input_format as one of {', '.join(INPUT_FORMATS)}"
        raise UsageError(f"{path}: Unknown format. Rename the file to end in one of {suffixes}{hint}.")
    return found


def _resolve_format(path: Path, input_format: str | None, annotations: Path | None) -> tuple[Path, Format]:
    """Return the file to read, which is the metadata file in a folder of images, and its format.

    Raises:
        InputError: The path does not exist.
        UsageError: The format is unknown, or the arguments contradict each other.
    """
    if input_format is not None and input_format not in INPUT_FORMATS:
        raise UsageError(f"Expected input_format to be one of {', '.join(INPUT_FORMATS)}, got {input_format!r}.")
    metadata = [path / name for name in METADATA if (path / name).is_file()]
    if len(metadata) > 1:
        names = " and ".join(file.name for file in metadata)
        raise UsageError(f"{path}: The folder has {names}. Give the path of the one to read.")
    file = metadata[0] if metadata else path
    form = FORMATS[input_format] if input_format else detect_format(file, annotations=annotations is not None)
    if form.name == "coco" and annotations is None:
        raise UsageError("COCO results need their annotation file, which has the file names. Give annotations.")
    if form.name != "coco" and annotations is not None:
        raise UsageError(f"Expected COCO results with annotations, got {path} in the format {form.name}.")
    if input_format and file.is_dir() and not form.folder(file):
        raise UsageError(f"{path} is a folder and not in the format {form.name}. Give a file.")
    return file, form


def read_records(path: Path, schema: Schema, diagnostics: Diagnostics) -> list[Record]:
    """Read the records of a table, unchecked; none if its columns do not suffice.

    Args:
        path: CSV, TSV, a JSON list, JSON lines, a parquet file, or a folder written by ``Dataset.save_to_disk``.
        schema: The columns to read.
        diagnostics: Collects the problems.

    Raises:
        InputError: The file cannot be read.
        UsageError: Its format is unknown.
    """
    return list(detect_format(path, table=True).read(Source(path, schema, diagnostics)))


def _read_objects(source: Source, read: Callable[[Path, Diagnostics], list[Record]]) -> list[Record]:
    """Read objects in JSON whose keys are columns."""
    records = []
    for location, record in read(source.path, source.diagnostics):
        location = identify(location, record)
        if isinstance(record, RepeatedKeys):
            keys = Counter(key for key, _ in record.pairs)
            if repeated := [key for key in source.schema.select(keys) if keys[key] > 1]:
                message = f"The key {preview(repeated)} occurs more than once. Keep one."
                source.diagnostics.row_error(location, message)
                continue
        records.append((location, record))
    present = [*dict.fromkeys(key for _, record in records for key in record)]
    return records if not records or source.schema.check(present, source.diagnostics, "key") else []


def _read_delimited(source: Source, delimiter: str) -> list[Record]:
    """Read CSV or TSV; references are a JSON list in the cell, or one reference."""
    check = partial(source.schema.check, diagnostics=source.diagnostics)
    records = read_table(source.path, delimiter, source.diagnostics, check)
    for _, record in records:
        for name in source.schema.columns.get("references", ()):
            cell = record.get(name)
            if cell is not None and cell.lstrip().startswith("["):
                value, problems = parse_json(cell, in_line=True)
                reason = 'Expected references as a JSON list such as ["one", "two"]'
                record[name] = Malformed(f"{reason} ({problems[0]}).", cell) if problems else value
    return [(identify(location, record), record) for location, record in records]


def _read_mapping(source: Source) -> Iterator[Record]:
    """Read CLIPScore's ``{"id": "caption"}``; a value may be a list of captions."""
    entries = read_mapping(source.path, source.diagnostics, "captions")
    for position, (identifier, caption) in enumerate(entries, start=1):
        location = Location(position, f"id {quote(identifier)}", identifier)
        if isinstance(caption, Malformed):
            source.diagnostics.row_error(location, caption.reason)
        else:
            yield location, {"id": identifier, "caption": caption}


def read_mapping(path: Path, diagnostics: Diagnostics, what: str, *, named: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a JSON object once each, with their values; contradictory values are ``Malformed``.

    Messages say ``what`` the values are, and name the file if it is not the main one (``named``).
    """
    value = read_json(path, diagnostics, f"{path.name}, " if named else "")
    prefix = f"{path.name}: " if named else ""
    if value is BROKEN:
        return
    if not isinstance(value, dict):
        diagnostics.file_error(f'{prefix}Expected an object {{"id": …}} of {what}, got {describe(value)}.')
        return
    if isinstance(images := value.get("images"), list) and images and isinstance(images[0], dict):
        message = "This is a COCO annotation file. Give it as annotations, together with a results file."
        diagnostics.file_error(prefix + message)
        return
    by_key: dict[str, list[Any]] = {}
    for key, item in value.pairs if isinstance(value, RepeatedKeys) else value.items():
        by_key.setdefault(key, []).append(item)
    for key, items in by_key.items():
        others = [item for item in items[1:] if item != items[0]]
        if others:
            both = f"{quote(items[0])} and {quote(others[0])}"
            yield key, Malformed(f"The id occurs more than once, with different {what} ({both}). Keep one.")
            continue
        if len(items) > 1:
            diagnostics.notes.append(f"{prefix}id {quote(key)} occurs {len(items)} times with the same value")
        yield key, items[0]


def _read_numbered(source: Source) -> Iterator[Record]:
    """Read lines of ``image#number``, a tab and a caption, as in the captions of Flickr8k."""
    for location, (name, caption) in read_columns(source.path, source.diagnostics, ("image#number", "caption")):
        yield location, {"image": name.rpartition("#")[0] or name, "caption": caption}


def _read_coco(source: Source) -> Iterator[Record]:
    """Read ``[{"image_id": 42, "caption": "…"}]``; file names and references come from the annotations."""
    diagnostics, annotations = source.diagnostics, source.annotations or Path()
    records = _read_objects(source, read_json_list)
    content = _read_annotations(annotations, diagnostics)
    if content is None:
        return
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # createIndex prints its progress
        index.createIndex()
    images = {str(identifier): image for identifier, image in index.imgs.items()}
    references = {
        str(identifier): [item["caption"] for item in items if "caption" in item]
        for identifier, items in index.imgToAnns.items()
    }
    for location, record in records:
        identifier = str(first_filled(record, ID_FIELDS))
        if identifier not in images:
            message = f"{annotations.name} has no image with image_id {quote(identifier)}. Remove the row."
            diagnostics.row_error(location, message)
            continue
        own = references.get(identifier) or record.get("references")
        yield location, {**record, "image": images[identifier]["file_name"], "references": own}


def _read_annotations(path: Path, diagnostics: Diagnostics) -> dict[str, list[dict[str, Any]]] | None:
    """Read ``images`` and ``annotations`` of a COCO annotation file; report it if it cannot be used."""
    name = path.name
    content = read_json(path, diagnostics, f"{name}, ")
    if content is BROKEN:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        diagnostics.file_error(f'{name}: Expected a list "images". Give the annotation file of COCO.')
        return None
    parts = {"images": content["images"], "annotations": content.get("annotations") or []}
    problems = []
    for part, fields in (("images", ("id", "file_name")), ("annotations", ("id", "image_id"))):
        if not isinstance(parts[part], list):
            problems.append(f'{name}: Expected a list "{part}", got {describe(parts[part])}.')
            continue
        expected = " and ".join(map(quote, fields))
        for number, item in enumerate(parts[part], start=1):
            if not (isinstance(item, dict) and all(isinstance(item.get(field), str | int) for field in fields)):
                problems.append(f"{name}, {part} item {number}: Expected an object with {expected}.")
    diagnostics.file_errors += problems
    return None if problems else parts


def _reject_embeddings(source: Source) -> NoReturn:
    raise UsageError(f"{source.path}: Expected captions, got embeddings. Read them with read_clip_retrieval.")


_JSON_SUFFIXES: Final = (".json", ".jsonl", ".ndjson")

FORMATS: Final = {
    form.name: form
    for form in (
        Format(
            "clipscore",
            _read_mapping,
            (".json",),
            lambda head: head.text.startswith("{") and not _OBJECT_PER_LINE.match(head.text),
        ),
        Format(
            "json",
            partial(_read_objects, read=read_json_list),
            _JSON_SUFFIXES,
            lambda head: (
                not head.annotations
                and (head.text.startswith("[") or (head.suffix == ".json" and not head.text.startswith("{")))
            ),
            table=True,
        ),
        Format(
            "jsonl",
            partial(_read_objects, read=read_json_lines),
            _JSON_SUFFIXES,
            lambda head: head.suffix in (".jsonl", ".ndjson") or bool(_OBJECT_PER_LINE.match(head.text)),
            table=True,
        ),
        Format(
            "csv",
            partial(_read_delimited, delimiter=","),
            (".csv",),
            lambda head: "caption" in head.line and "," in head.line and "\t" not in head.line,
            table=True,
        ),
        Format(
            "tsv",
            partial(_read_delimited, delimiter="\t"),
            (".tsv", ".tab", ".csv"),
            lambda head: "\t" in head.line and ("," not in head.line if head.suffix else "caption" in head.line),
            table=True,
        ),
        Format("coco", _read_coco, _JSON_SUFFIXES, lambda head: head.annotations and head.text.startswith("[")),
        Format("flickr8k", _read_numbered, sniff=lambda head: bool(_NUMBERED.match(head.text))),
        Format(
            "datasets",
            read_saved_dataset,
            (".parquet",),
            magic=b"PAR1",
            folder=lambda path: any((path / name).is_file() for name in SAVED),
            table=True,
            stream=stream_parquet,
        ),
        Format("webdataset", stream_tar, (".tar",), stream=stream_tar),
        Format(
            "clip-retrieval",
            _reject_embeddings,
            folder=lambda path: any((path / name).is_dir() for name in ("img_emb", "text_emb")),
        ),
    )
}
"""Every input format, by name."""

INPUT_FORMATS: Final = tuple(form.name for form in FORMATS.values() if form.read is not _reject_embeddings)
"""The formats of captions that can be named."""


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
        path: The caption file, or the folder of a Hugging Face dataset.
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
    file, form = _resolve_format(Path(path), input_format, annotation_file)
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

    def _samples(self, location: Location, record: dict[str, Any]) -> list[tuple[Location, Sample]]:
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
                f"Expected {file} to have the ids of the captions ({ids}), found {preview(unused)}. Use the same ids."
            )
        elif unused:
            notes.append(f"ids of {file} without a caption: {len(unused)} ({preview(unused)})")

    def _drop_unreferenced(self, located: list[tuple[Location, Sample]]) -> list[tuple[Location, Sample]]:
        """Drop samples without references because others have some."""
        found = "got none, though other captions have some"
        if self._reference_file:
            found = f"found none in {self._reference_file}"
        for location in self._without_references:
            self.diagnostics.row_error(location, f"Expected references, {found}. Add some, or leave out all.")
        return [item for item in located if item[1].references]
