"""The registry of input formats, and the reader of each, which yields records.

To add a format, write a reader and add a row to ``FORMATS``.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Final, NoReturn

from i0tscore.errors import InputError, UsageError
from i0tscore.files import similar_name
from i0tscore.samples.archives import archives, is_text_folder, read_archives, read_text_folder
from i0tscore.samples.datasets import is_dataset_folder, parquet_files, read_saved_dataset, stream_parquet
from i0tscore.samples.diagnostics import (
    Diagnostics,
    Location,
    Malformed,
    Record,
    describe,
    preview,
    quote,
)
from i0tscore.samples.schema import Schema
from i0tscore.samples.source import STDIN, Source, read_columns, read_json_lines, read_json_list, read_table
from i0tscore.samples.spreadsheets import read_workbook
from i0tscore.samples.text import BROKEN, RepeatedKeys, parse_json, parse_list, read_header
from i0tscore.samples.writers import (
    JsonWriter,
    Writer,
    cut_sentences,
    write_archive,
    write_coco_annotations,
    write_dataset,
    write_embeddings,
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

_NUMBERED: Final = re.compile(r"[^\t\n]+#\d+\t")
_OBJECT_PER_LINE: Final = re.compile(r"\{[^\n]*\}[ \t\r]*\n\s*\S")


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
            write=write_embeddings,
        ),
    )
}
"""Every input format, by name."""

INPUT_FORMATS: Final = tuple(form.name for form in FORMATS.values() if form.read is not _reject_embeddings)
"""The formats of captions that can be named."""
