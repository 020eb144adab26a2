"""Reading of caption files: the registry of input formats, and how their records become samples.

To add a format, write a reader and add a row to ``FORMATS``.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, NamedTuple, NoReturn

from i0tscore.errors import InputError, UsageError
from i0tscore.files import default_cache_dir, similar_name
from i0tscore.samples.archives import archives, is_text_folder, read_archives, read_text_folder
from i0tscore.samples.datasets import is_dataset_folder, parquet_files, read_saved_dataset, stream_parquet
from i0tscore.samples.diagnostics import (
    Diagnostics,
    Location,
    Malformed,
    Record,
    UnusableError,
    check_context,
    check_references,
    check_text,
    describe,
    preview,
    quote,
)
from i0tscore.samples.download import Downloads
from i0tscore.samples.images import ImageFolder, nfc, without_suffix
from i0tscore.samples.sample import ImageSource, Sample, SampleSet, Skipped, StoredImage
from i0tscore.samples.schema import CAPTIONS, RENAME, ReadOptions, Schema
from i0tscore.samples.source import STDIN, Source, read_columns, read_json_lines, read_json_list, read_table
from i0tscore.samples.spreadsheets import read_workbook
from i0tscore.samples.text import BROKEN, RepeatedKeys, is_tokens, parse_json, parse_list, read_header
from i0tscore.samples.writers import (
    JsonWriter,
    Writer,
    cut_sentences,
    write_archive,
    write_coco_annotations,
    write_dataset,
    write_json_lines,
    write_table,
)

_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "Zstandard"}
"""Compression by the first bytes of a file."""

_FOREIGN: Final = {
    b"%PDF": "a PDF document. Export the captions as CSV or JSON.",
    b"\x93NUMPY": "embeddings. Give them with --image-embeddings and --caption-embeddings.",
    **dict.fromkeys(
        (b"\xff\xd8\xff", b"\x89PNG", b"GIF8"), "an image. Give the caption file, and then the folder of images."
    ),
}
"""What other files hold and what to do instead, by their first bytes."""

METADATA: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""A folder of images contains one of these if it describes them."""

_PART_ROWS: Final = 512
_PART_BYTES: Final = 256_000_000
"""A part of a shard ends with the row that reaches either bound."""

_NUMBERED: Final = re.compile(r"[^\t\n]+#\d+\t")
_OBJECT_PER_LINE: Final = re.compile(r"\{[^\n]*\}[ \t\r]*\n\s*\S")
_ROLES: Final = ("gpt", "assistant", "model", "bot", "chatgpt")
"""Names of the assistant in conversations."""


@dataclass(frozen=True, slots=True)
class Format:
    """An input format.

    Attributes:
        name: Its name in ``--input-format``.
        read: The reader; its records have the fields of captions, or of any table if ``table`` is set.
        suffixes: Suffixes of its files; of several formats, the last one is read if none recognizes the content.
        sniff: Tells whether a file with one of the suffixes, or with an unknown suffix, is of this format.
        magic: The first bytes that its files may have, if these tell.
        folder: Tells whether a folder is of this format.
        table: Whether the records may have any fields, so that ratings, scores and labels can be read.
        stream: Reads the records of a shard one by one, in bounded memory; ``read`` if None.
        shards: Returns the shards in a folder; none if it is read as a whole.
        write: Writes some of the entries in the same form; None if it cannot be written.
    """

    name: str
    read: Callable[[Source], Iterable[Record]]
    suffixes: tuple[str, ...] = ()
    sniff: Callable[[Source], bool] = lambda source: False
    magic: tuple[bytes, ...] = ()
    folder: Callable[[Path], bool] = lambda path: False
    table: bool = False
    stream: Callable[[Source], Iterator[Record]] | None = None
    shards: Callable[[Path], list[Path]] = lambda path: []
    write: Writer | None = None


def detect_format(source: Source, *, table: bool = False) -> Format:
    """Return the format of a file or folder, by its suffix and content.

    Args:
        source: The file or folder.
        table: Whether only formats of tables count.

    Raises:
        InputError: The path does not exist.
        UsageError: The format is unknown; the message lists the choices.
    """
    path = source.path
    if path != STDIN and not path.exists():
        raise InputError(f"{path}: No such file. Check the path.{similar_name(path)}")
    formats = [form for form in FORMATS.values() if form.table or not table]
    if path.is_dir():
        found = next((form for form in formats if form.folder(path)), None)
        if found is None:
            suffixes = {suffix for form in formats for suffix in form.suffixes}
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
            hint = " or ".join(map(str, files[:3])) or "a caption file"
            raise UsageError(
                f"{path}: The folder has no captions. Give {hint}, or a folder with {', '.join(METADATA)}, "
                "with text files beside the images, with .tar or .parquet files, or from Dataset.save_to_disk."
            )
        return found
    compressed = next((name for magic, name in _COMPRESSED.items() if source.head.startswith(magic)), None)
    if compressed:
        raise UsageError(f"{path}: Expected an uncompressed file, got {compressed}. Decompress it first.")
    if foreign := next((what for magic, what in _FOREIGN.items() if source.head.startswith(magic)), None):
        raise UsageError(f"{path}: Expected captions, got {foreign}")
    known = [form for form in formats if path.suffix.lower() in form.suffixes]
    found = next((form for form in formats if source.head.startswith(form.magic)), None)
    found = found or next((form for form in known or formats if form.sniff(source)), known[-1] if known else None)
    if found is None:
        listed = ", ".join(dict.fromkeys(suffix for form in formats for suffix in form.suffixes))
        hint = "" if table else f", or give input_format as one of {', '.join(INPUT_FORMATS)}"
        raise UsageError(f"{path}: Unknown format. Rename the file to end in one of {listed}{hint}.")
    return found


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


def read_records(path: Path, schema: Schema, diagnostics: Diagnostics) -> list[Record]:
    """Read the records of a table, unchecked; none if its columns do not suffice.

    Args:
        path: CSV, TSV, an Excel workbook, a JSON list, JSON lines, a parquet file, or a folder written by
            ``Dataset.save_to_disk``.
        schema: The columns to read.
        diagnostics: Collects the problems.

    Raises:
        InputError: The file cannot be read.
        UsageError: Its format is unknown.
    """
    source = Source(path, diagnostics, schema)
    return list(detect_format(source, table=True).read(source))


def _read_objects(source: Source, records: Iterable[Record]) -> list[Record]:
    """Read objects in JSON whose keys are columns."""
    kept, schema = [], source.schema
    for location, record in records:
        location = schema.identify(location, record)
        if isinstance(record, RepeatedKeys):
            keys = Counter(key for key, _ in record.pairs)
            if repeated := [key for key in schema.select(keys) if keys[key] > 1]:
                message = f"The key {preview(repeated)} occurs more than once. Keep one."
                source.diagnostics.row_error(location, message)
                continue
        kept.append((location, record))
    present = [*dict.fromkeys(key for _, record in kept for key in record)]
    return kept if not kept or schema.check(present, source.diagnostics, "key") else []


def _read_json(source: Source) -> list[Record]:
    """Read a list of objects, which may be inside an object; one object; one for each id; or lists by column."""
    content = source.document
    if not isinstance(content, dict):
        return _read_objects(source, read_json_list(source))
    lists = _lists_of_objects(content, source.schema)
    if _is_row(content, source.schema):
        rows = _transpose(content, source.schema)
        records: list[Record] = [(Location(number, f"item {number}"), row) for number, row in enumerate(rows, start=1)]
    elif len(lists) == 1:
        ((key, rows),) = lists.items()
        source.diagnostics.notes.append(f"Captions are read from the list under the key {quote(key)}.")
        records = [(Location(number, f"{key}, item {number}"), row) for number, row in enumerate(rows, start=1)]
    elif _is_rows(content, source.schema):
        if isinstance(content, RepeatedKeys):
            counts = Counter(key for key, _ in content.pairs)
            repeated = preview(key for key, count in counts.items() if count > 1)
            source.diagnostics.file_error(f"The id {repeated} occurs more than once. Keep one.")
        records = [
            (Location(number, f"id {quote(key)}", key), {"id": key, **row})
            for number, (key, row) in enumerate(content.items(), start=1)
        ]
    else:
        source.diagnostics.file_error("Expected a list of objects, got an object. Choose another input format.")
        return []
    return _read_objects(source, records)


def _list_key(content: Any, schema: Schema) -> str | None:
    """Return the key of the list of objects in JSON that ``_read_json`` read; None if the entries are in no list.

    Raises:
        UsageError: The JSON holds columns, or one object.
    """
    if not isinstance(content, dict):
        return None
    if _is_row(content, schema):
        raise UsageError("Expected a list of objects, got lists by column or one object. Write it as JSON lines.")
    lists = _lists_of_objects(content, schema)
    return next(iter(lists)) if len(lists) == 1 else None


def _lists_of_objects(content: dict[str, Any], schema: Schema) -> dict[str, list[dict[str, Any]]]:
    """Return the lists of objects in an object; of several, those whose first object has a caption."""
    lists = {key: value for key, value in content.items() if _has_objects(value)}
    return {key: value for key, value in lists.items() if len(lists) == 1 or schema.find(value[0], "caption")}


def _transpose(content: dict[str, Any], schema: Schema) -> list[dict[str, Any]]:
    """Return the rows of an object that holds columns, as pandas writes them; the object itself if it is one row."""
    columns = {name: content[name] for name in schema.select(content)}
    if all(isinstance(value, dict) for value in columns.values()):
        columns = {name: list(value.values()) for name, value in columns.items()}
    elif not all(isinstance(value, list) and len(value) > 1 for value in columns.values()):
        return [content]
    if len({len(value) for value in columns.values()}) > 1:
        return [content]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _has_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _is_row(content: dict[str, Any], schema: Schema) -> bool:
    """Return whether an object is one row, rather than a mapping of ids."""
    return bool(schema.find(content, "caption") and (schema.find(content, "image") or schema.find(content, "id")))


def _is_rows(content: object, schema: Schema) -> bool:
    """Return whether JSON holds rows, and not captions by id."""
    if not isinstance(content, dict):
        return True
    if _is_row(content, schema) or len(_lists_of_objects(content, schema)) == 1:
        return True
    return bool(content) and all(isinstance(value, dict) for value in content.values())


def _is_table(source: Source) -> bool:
    """Return whether text has a header with columns of captions."""
    _, header = read_header(source.start.splitlines(keepends=True), source.schema)
    return len(source.schema.choose(header)) > 1


def _read_cells(source: Source, read: Callable[[Source], Iterable[Record]]) -> Iterator[Record]:
    """Read a table; a cell of captions or references may hold a list."""
    for location, record in read(source):
        for name in (*source.schema.find(record, "caption"), *source.schema.find(record, "references")):
            record[name] = _parse_cell(record[name])
        yield source.schema.identify(location, record), record


def _parse_cell(cell: Any) -> Any:
    """Return the list that a cell holds, or else the cell; ``Malformed`` if it is meant to be a list and is none."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    found = parse_list(text)
    if found is None and re.match(r"\[\s*[\"']|\[\s*\{", text):
        problem = parse_json(text, in_line=True)[1][0]
        return Malformed(f'Expected a list such as ["one", "two"] ({problem}). Correct it.', text)
    return cell if found is None else found


def _read_mapping(source: Source) -> Iterator[Record]:
    """Read CLIPScore's ``{"id": "caption"}``; a value may be a list of captions."""
    value, diagnostics = source.document, source.diagnostics
    if value is BROKEN:
        return
    if not isinstance(value, dict):
        diagnostics.file_error(f'Expected an object {{"id": …}} of captions, got {describe(value)}.')
        return
    by_key: dict[str, list[Any]] = {}
    for key, item in value.pairs if isinstance(value, RepeatedKeys) else value.items():
        by_key.setdefault(key, []).append(item)
    for position, (key, items) in enumerate(by_key.items(), start=1):
        location = Location(position, f"id {quote(key)}", key)
        if others := [item for item in items[1:] if item != items[0]]:
            both = f"{quote(items[0])} and {quote(others[0])}"
            diagnostics.row_error(location, f"The id occurs more than once, with different texts ({both}). Keep one.")
            continue
        if len(items) > 1:
            diagnostics.notes.append(f"The id {quote(key)} occurs {len(items)} times with the same value.")
        yield location, {"id": key, "caption": items[0]}


def _read_numbered(source: Source) -> Iterator[Record]:
    """Read lines of ``image#number``, a tab and a caption, as in the captions of Flickr8k."""
    for location, (name, caption) in read_columns(source, ("image#number", "caption")):
        yield location, {"image": name.rpartition("#")[0] or name, "caption": caption}


def _is_karpathy(content: object) -> bool:
    images = content.get("images") if isinstance(content, dict) else None
    return _has_objects(images) and "sentences" in images[0]  # type: ignore[index]


def _is_coco(content: object) -> bool:
    return isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content


def _read_karpathy(source: Source) -> Iterator[Record]:
    """Read the images of a Karpathy split with their sentences."""
    content = source.document
    for number, image in enumerate(content["images"] if _is_karpathy(content) else (), start=1):
        identifier = next((image[key] for key in ("cocoid", "imgid") if isinstance(image, dict) and key in image), None)
        location = Location(number, f"images, item {number}", "" if identifier is None else str(identifier))
        try:
            name = str(PurePosixPath(image.get("filepath") or "", image["filename"]))
            sentences = [sentence["raw"] for sentence in image["sentences"]]
        except (AttributeError, KeyError, TypeError):
            source.diagnostics.row_error(location, 'Expected "filename" and "sentences" with "raw". Correct the item.')
            continue
        yield location, {"id": identifier, "image": name, "caption": sentences, "split": image.get("split")}


def _read_coco_annotations(source: Source) -> Iterator[Record]:
    """Read the images of a COCO annotation file with their captions."""
    from pycocotools.coco import COCO

    content = _check_coco(source)
    if content is None:
        return
    index = COCO()
    index.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # createIndex prints its progress
        index.createIndex()
    for number, (identifier, image) in enumerate(index.imgs.items(), start=1):
        captions = [item["caption"] for item in index.imgToAnns[identifier] if "caption" in item]
        location = Location(number, f"image id {quote(identifier)}", str(identifier))
        yield location, {"id": identifier, "image": image["file_name"], "caption": captions}


def _check_coco(source: Source) -> dict[str, list[dict[str, Any]]] | None:
    """Return ``images`` and ``annotations`` of a COCO annotation file; report it if it cannot be used."""
    content = source.document
    if content is BROKEN:
        return None
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        source.diagnostics.file_error('Expected a list "images". Give the annotation file of COCO.')
        return None
    parts = {"images": content["images"], "annotations": content.get("annotations") or []}
    problems = []
    for part, fields in (("images", ("id", "file_name")), ("annotations", ("id", "image_id"))):
        if not isinstance(parts[part], list):
            problems.append(f'Expected a list "{part}", got {describe(parts[part])}.')
            continue
        expected = " and ".join(map(quote, fields))
        for number, item in enumerate(parts[part], start=1):
            if not (isinstance(item, dict) and all(isinstance(item.get(field), str | int) for field in fields)):
                problems.append(f"{part} item {number}: Expected an object with {expected}.")
    source.diagnostics.file_errors += problems
    return None if problems else parts


def _read_captioned(source: Source) -> list[Record]:
    """Read the captioned images of a corpus, without those that have no captions."""
    corpus = list(_read_karpathy(source) if _is_karpathy(source.document) else _read_coco_annotations(source))
    without = [str(record["image"]) for _, record in corpus if not record["caption"]]
    if without:
        source.diagnostics.notes.append(
            f"Images without captions in the file are ignored: {len(without)} ({preview(without)})."
        )
    return [(location, record) for location, record in corpus if record["caption"]]


def _read_coco_results(source: Source) -> Iterator[Record]:
    """Read ``[{"image_id": 42, "caption": "…"}]``; file names and references come from the annotations."""
    path = Path(source.options.annotations or "")
    annotations = Source(path, Diagnostics())
    records = _read_objects(source, read_json_list(source))
    corpus = list(
        _read_karpathy(annotations) if _is_karpathy(annotations.document) else _read_coco_annotations(annotations)
    )
    source.diagnostics.adopt(annotations.diagnostics, path)
    if annotations.diagnostics.any:
        return
    images = {location.id: record for location, record in corpus}
    for location, record in records:
        identifier = str(source.schema.value(record, "id"))
        if identifier not in images:
            message = f"{path.name} has no image with image_id {quote(identifier)}. Remove the row."
            source.diagnostics.row_error(location, message)
            continue
        image = images[identifier]
        references = image["caption"] or record.get("references")
        yield location, {**record, "image": image["image"], "references": references, "split": image.get("split")}


def _reject_embeddings(source: Source) -> NoReturn:
    raise UsageError(f"{source.path}: Expected captions, got embeddings. Read them with read_clip_retrieval.")


def _is_json(source: Source) -> bool:
    """Return whether a file is one JSON document."""
    return source.start.startswith(("{", "[")) or source.path.suffix.lower() == ".json"


FORMATS: Final = {
    form.name: form
    for form in (
        Format(
            "jsonl",
            lambda source: _read_objects(source, read_json_lines(source)),
            (".jsonl", ".ndjson", ".json"),
            lambda source: (
                (source.path.suffix.lower() in (".jsonl", ".ndjson") and not source.start.startswith("["))
                or bool(_OBJECT_PER_LINE.match(source.start))
            ),
            table=True,
            write=write_json_lines,
        ),
        Format(
            "coco",
            _read_coco_results,
            (".json", ".jsonl"),
            lambda source: source.options.annotations is not None and source.start.startswith("["),
            write=JsonWriter(_list_key),
        ),
        Format(
            "karpathy",
            _read_captioned,
            (".json",),
            lambda source: _is_json(source) and _is_karpathy(source.document),
            write=JsonWriter(lambda content, schema: "images", cut_sentences),
        ),
        Format(
            "coco-annotations",
            _read_captioned,
            (".json",),
            lambda source: _is_json(source) and _is_coco(source.document),
            write=write_coco_annotations,
        ),
        Format(
            "json",
            _read_json,
            (".json", ".jsonl", ".ndjson"),
            lambda source: _is_json(source) and _is_rows(source.document, source.schema),
            table=True,
            write=JsonWriter(_list_key),
        ),
        Format("clipscore", _read_mapping, (".json",), _is_json, write=JsonWriter(_list_key)),
        Format(
            "csv",
            partial(_read_cells, read=read_table),
            (".csv", ".tsv", ".tab"),
            _is_table,
            table=True,
            write=write_table,
        ),
        Format(
            "tsv",
            partial(_read_cells, read=partial(read_table, delimiter="\t")),
            table=True,
            write=partial(write_table, delimiter="\t"),
        ),
        Format(
            "xlsx",
            partial(_read_cells, read=read_workbook),
            (".xlsx", ".xlsm"),
            magic=(b"PK\x03\x04", b"\xd0\xcf\x11\xe0"),  # ZIP archives, and older or encrypted files of Office
            table=True,
        ),
        Format("flickr8k", _read_numbered, sniff=lambda source: bool(_NUMBERED.match(source.start))),
        Format(
            "webdataset",
            read_archives,
            (".tar",),
            folder=lambda path: bool(archives(path)),
            stream=read_archives,
            shards=archives,
            write=write_archive,
        ),
        Format("text", read_text_folder, folder=is_text_folder),
        Format(
            "datasets",
            partial(_read_cells, read=read_saved_dataset),
            (".parquet",),
            magic=(b"PAR1",),
            folder=is_dataset_folder,
            table=True,
            stream=partial(_read_cells, read=stream_parquet),
            shards=parquet_files,
            write=write_dataset,
        ),
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
        self._named = images is not None
        self._references = None if references is None else Path(references)
        options = self._options
        downloads = Downloads(default_cache_dir() / "images", private=options.download_private)
        root = Path(images) if images is not None else file if file.is_dir() else file.parent
        self._folder = ImageFolder(root, downloads if options.download or options.download_private else None)

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
        builder = SampleBuilder(self._folder, diagnostics, skip=self._skip, turn=self._options.turn, part=part)
        if self._references is not None:
            builder.read_references(self._references)
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


@dataclass
class SampleBuilder:
    """Builds samples from records by field, and reports everything that is wrong with them.

    Attributes:
        folder: The folder of the images.
        diagnostics: Collects the problems.
        skip: Whether records with problems will be skipped.
        turn: The turn of a conversation that is the caption.
        part: Whether the records are only a part of the file.
        locations: The location of each sample that ``build`` returned.
    """

    folder: ImageFolder
    diagnostics: Diagnostics
    skip: bool = False
    turn: int = -1
    part: bool = False
    locations: list[Location] = field(default_factory=list)
    _reference_file: str = ""
    _references: dict[str, _References] = field(default_factory=dict)
    _keys: dict[str, set[str]] = field(default_factory=dict)
    _used: set[str] = field(default_factory=set)
    _without_image: list[str] = field(default_factory=list)
    _without_references: list[Location] = field(default_factory=list)
    _any_references: bool = False

    def read_references(self, path: Path) -> None:
        """Read the references in a file, which take precedence over those of records."""
        self._reference_file = path.name
        source = Source(path, Diagnostics(), REFERENCES)
        for location, record in detect_format(source).read(source):
            own = source.schema.fields(record)
            image, identifier = own["image"], own["id"]
            name = str(identifier if image is None else image).replace("\\", "/")
            texts = own["references"] if own["references"] is not None else own["caption"]
            if isinstance(texts, Malformed):
                source.diagnostics.row_error(location, texts.reason)
                continue
            entry = self._references.setdefault(name, _References(name, image is not None, []))
            entry.texts.extend(texts if isinstance(texts, list) else [texts])
            for key in (name, identifier, *_image_names(name)):
                if key is not None:
                    self._keys.setdefault(nfc(str(key)), set()).add(name)
        self.diagnostics.adopt(source.diagnostics, path)

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
        if self._reference_file and not self.part:
            self._note_references(records)
        # Records that are skipped do not decide whether there are references.
        needed = any(sample.references for _, sample in kept) if self.skip else self._any_references
        if needed and (self._reference_file or not self.part):  # a part does not tell whether others have references
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
        if self._reference_file and identifier is not None:
            written = self._find_references(identifier, image, own_image=written_image is not written_id)
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

    def _find_references(self, identifier: str, image: ImageSource | None, *, own_image: bool) -> Any:
        """Return the references of an image or id; an image that the sample names counts more than its id."""
        names: list[str] = []
        if isinstance(image, Path):
            names = [image.relative_to(self.folder.root).as_posix()]
        if image is not None:
            names += [image.name, without_suffix(image.name)]
        for name in (*names, identifier) if own_image else (identifier, *names):
            keys = self._keys.get(nfc(name), set())
            keys = {key for key in keys if nfc(key) == nfc(name)} or keys
            if len(keys) == 1:
                found = self._references[next(iter(keys))]
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

    def _note_references(self, records: list[Record]) -> None:
        notes, file = self.diagnostics.notes, self._reference_file
        if any(record.get("references") for _, record in records):
            notes.append(f"References are read from {file}, and those in the caption file are ignored.")
        unused = [key for key in self._references if key not in self._used]
        if records and self._references and not self._used:
            ids = preview(str(record["id"] or record["image"]) for _, record in records)
            self.diagnostics.file_error(
                f"Expected {file} to have the ids of the captions ({ids}), found {preview(unused)}. Use the same ids."
            )
        elif unused:
            notes.append(f"Ids in {file} have no caption: {len(unused)} ({preview(unused)}).")

    def _drop_unreferenced(self, located: list[tuple[Location, Sample]]) -> list[tuple[Location, Sample]]:
        """Drop samples without references because others have some."""
        found = "got none, though other captions have some"
        if self._reference_file:
            found = f"found none in {self._reference_file}"
        for location in self._without_references:
            self.diagnostics.row_error(location, f"Expected references, {found}. Add some, or leave out all.")
        return [item for item in located if item[1].references]
