"""The registry of input formats: how each is recognized and read as records.

To add a format, write a reader and add a row to ``FORMATS``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from i0tscore.errors import InputError, UsageError
from i0tscore.samples.datasets import SAVED, read_saved_dataset, stream_parquet, stream_tar
from i0tscore.samples.diagnostics import (
    ID_FIELDS,
    Diagnostics,
    Location,
    Malformed,
    Record,
    describe,
    first_filled,
    identify,
    preview,
    quote,
)
from i0tscore.samples.schema import Schema, Source
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

if TYPE_CHECKING:
    from i0tscore.samples.embeddings import EmbeddedPairs

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
        read_pairs: Reads embeddings; such a format has no records.
    """

    name: str
    read: Callable[[Source], Iterable[Record]]
    suffixes: tuple[str, ...] = ()
    sniff: Callable[[Head], bool] = lambda head: False
    magic: bytes | None = None
    folder: Callable[[Path], bool] = lambda path: False
    table: bool = False
    stream: Callable[[Source], Iterator[Record]] | None = None
    read_pairs: Callable[[Path], EmbeddedPairs] | None = None


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


def resolve_format(path: Path, input_format: str | None, annotations: Path | None) -> tuple[Path, Format]:
    """Return the file to read and its format.

    Args:
        path: The path given; a folder of images stands for the metadata file in it.
        input_format: The name of the format; detected if None.
        annotations: The annotation file of COCO results.

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


def find_pair_reader(path: Path) -> Callable[[Path], EmbeddedPairs] | None:
    """Return the reader of a folder of embeddings; None if the path is anything else."""
    return next((form.read_pairs for form in FORMATS.values() if form.read_pairs and form.folder(path)), None)


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

    Args:
        path: The file.
        diagnostics: Collects the problems.
        what: What the values are, for messages.
        named: Whether problems name the file, because it is not the main one.
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
    images = {str(item["id"]): item for item in content["images"]}
    references: dict[str, list[Any]] = {}
    for item in content["annotations"]:
        if "caption" in item:
            references.setdefault(str(item["image_id"]), []).append(item["caption"])
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


def _read_clip_retrieval(path: Path) -> EmbeddedPairs:
    from i0tscore.samples.embeddings import read_clip_retrieval

    return read_clip_retrieval(path)


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
            read_pairs=_read_clip_retrieval,
        ),
    )
}
"""Every input format, by name."""

INPUT_FORMATS: Final = tuple(form.name for form in FORMATS.values() if form.read_pairs is None)
"""The formats of captions that can be named."""
