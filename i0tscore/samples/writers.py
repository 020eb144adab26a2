"""Writing of a part of a caption file in the form of the file; unchanged content is copied as it is.

JSON lines and delimited text are copied as text, archives file by file, parquet files column by column, and embeddings
row by row.
"""

from __future__ import annotations

import codecs
import copy
import csv
import io
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from i0tscore.errors import UsageError
from i0tscore.samples.archives import samples_of
from i0tscore.samples.datasets import open_parquet, parquet_batches, quiet_datasets
from i0tscore.samples.diagnostics import Diagnostics, preview
from i0tscore.samples.schema import Schema
from i0tscore.samples.source import Source
from i0tscore.samples.text import RepeatedKeys, encoding_of, parse_json, parse_list, read_header, split_rows

UNREADABLE = "unreadable"
"""Key of the text of an entry that is not an object, in JSON."""

_INDENT = re.compile(r"\s*[\[{]\r?\n( +|\t+)")
_ROWS = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a caption file to write.

    Attributes:
        position: Its number in the file, as ``Location.position``.
        captions: Numbers of the captions to write, from 1, of an entry with several; empty for all of them.
        added: Columns to add; all entries have the same ones.
    """

    position: int
    captions: tuple[int, ...] = ()
    added: Mapping[str, Any] = field(default_factory=dict)

    def cut(self, record: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
        """Return the column of the captions by name with those to write; nothing if all of them are."""
        if not self.captions:
            return {}
        name = next(name for name in schema.find(record, "caption") if record[name] is not None)
        return {name: self.choose(record[name])}

    def choose(self, cell: Any) -> Any:
        """Return the captions to write of a list, which a cell of text may hold."""
        if not self.captions:
            return cell
        if isinstance(cell, str):
            return json.dumps(self.choose(parse_list(cell)), ensure_ascii=False)
        return [cell[number - 1] for number in self.captions]


class Writer(Protocol):
    """Writes entries, in the order of the file, to a file or folder."""

    def __call__(self, source: Source, entries: Sequence[Entry], path: Path) -> None:
        """Write the entries.

        Raises:
            UsageError: A column to add exists, or the form cannot hold the entries.
            OSError: Writing failed.
        """


def _check_columns(added: Mapping[str, Any], present: Iterator[str] | Sequence[str] | Mapping[str, Any]) -> None:
    """Raise ``UsageError`` if a column to add exists."""
    taken = [name for name in added if name in present]
    if taken:
        raise UsageError(f"The input has the columns {preview(taken)} already. Rename them, or do not add columns.")


def _encode(source: Source, text: str) -> bytes:
    """Return text in the Unicode encoding of the source, with its byte-order mark."""
    encoding = encoding_of(source.head)
    marked = encoding != "utf-8-sig" or source.head.startswith(codecs.BOM_UTF8)
    return text.encode(encoding if marked else "utf-8", "surrogatepass")


def write_json_lines(source: Source, entries: Sequence[Entry], path: Path) -> None:
    """Write JSON lines; an entry that is no object becomes one with its text."""
    lines, texts = source.lines[0], []
    for entry in entries:
        text = lines[entry.position - 1].strip()
        record, problems = parse_json(text, in_line=True)
        if problems or not isinstance(record, dict):
            record, text = {UNREADABLE: text}, json.dumps({UNREADABLE: text})
        if entry.captions:
            record = _checked(record) | entry.cut(record, source.schema)
            text = json.dumps(record, ensure_ascii=text.isascii())
        texts.append(_with_columns(text, record, entry.added) + "\n")
    path.write_bytes(_encode(source, "".join(texts)))


def _with_columns(text: str, record: Mapping[str, Any], added: Mapping[str, Any]) -> str:
    """Return the text of a JSON object with keys added at its end."""
    if not added:
        return text
    _check_columns(added, record)
    return text.rstrip()[:-1].rstrip() + (", " if record else "") + json.dumps(added)[1:]


def _checked(value: Any) -> Any:
    """Return JSON whose objects are to be written again.

    Raises:
        UsageError: A key of an object occurs more than once, so that values would be lost.
    """
    if isinstance(value, RepeatedKeys):
        repeated = sorted({key for key, _ in value.pairs if sum(key == other for other, _ in value.pairs) > 1})
        raise UsageError(f"The key {preview(repeated)} occurs more than once in an object. Keep one.")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _checked(item)
    return value


class JsonWriter:
    """Writes JSON documents: a list of objects, perhaps under a key, or entries by id.

    Args:
        key_of: Returns the key under which the list is, or None if the document itself holds the entries.
        cut: Returns the keys of an object with the captions to write, as ``Entry.cut``.
    """

    def __init__(
        self, key_of: Any, cut: Callable[[Entry, Mapping[str, Any], Schema], dict[str, Any]] = Entry.cut
    ) -> None:
        self._key_of = key_of
        self._cut = cut

    def __call__(self, source: Source, entries: Sequence[Entry], path: Path) -> None:
        """Write the entries as they are in the document; entries by id that are texts become objects for columns."""
        document = source.document
        key = self._key_of(document, source.schema)
        items = document if key is None else document[key]
        listed = list(items.items()) if isinstance(items, dict) else [(None, item) for item in items]
        chosen = [(entry, *listed[entry.position - 1]) for entry in entries]
        if isinstance(items, dict) and not any(isinstance(item, dict) for item in items.values()):
            chosen = [(entry, name, entry.choose(_checked(item))) for entry, name, item in chosen]
            written: Any = {name: item for _, name, item in chosen}
            if any(entry.added for entry in entries):
                written = [{"id": name, "caption": item, **entry.added} for entry, name, item in chosen]
        else:
            rows = [(name, self._row(source, entry, item)) for entry, name, item in chosen]
            written = dict(rows) if isinstance(items, dict) else [row for _, row in rows]
        if key is not None:
            written = {**_checked({name: value for name, value in document.items() if name != key}), key: written}
            written = {name: written[name] for name in document}
        _write_document(source, written, path)

    def _row(self, source: Source, entry: Entry, item: Any) -> dict[str, Any]:
        row = _checked(item) if isinstance(item, dict) else {UNREADABLE: item}
        _check_columns(entry.added, row)
        return {**row, **self._cut(entry, row, source.schema), **entry.added}


def cut_sentences(entry: Entry, image: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the sentences to write of an image of a Karpathy split, and their ids; nothing if all of them are."""
    if not entry.captions:
        return {}
    lists = [name for name in ("sentids", "sentences") if name in image]
    return {name: entry.choose(image[name]) for name in lists if len(image[name]) == len(image["sentences"])}


def write_coco_annotations(source: Source, entries: Sequence[Entry], path: Path) -> None:
    """Write a COCO annotation file: the images with captions to write, to which columns are added, and annotations."""
    document = _checked(source.document)
    images = [*{image["id"]: image for image in document["images"]}.values()]
    captions: dict[Any, list[Any]] = {image["id"]: [] for image in images}
    for annotation in document["annotations"]:
        if "caption" in annotation:
            captions.setdefault(annotation["image_id"], []).append(annotation)
    chosen = [(entry, images[entry.position - 1]) for entry in entries]
    kept = {id(annotation) for entry, image in chosen for annotation in entry.choose(captions[image["id"]])}
    for entry, image in chosen:
        _check_columns(entry.added, image)
    written = {"images": [{**image, **entry.added} for entry, image in chosen]}
    written["annotations"] = [one for one in document["annotations"] if id(one) in kept]
    _write_document(source, {**document, **written}, path)


def _write_document(source: Source, value: Any, path: Path) -> None:
    """Write JSON with the indentation and encoding of the source."""
    text = "".join(source.lines[0])
    indent = _INDENT.match(text)
    ascii_only = text.isascii() or "\\ud" in text.lower()  # escapes that may be unpaired surrogates stay escapes
    form = json.dumps(value, ensure_ascii=ascii_only, indent=indent[1] if indent else None)
    path.write_bytes(_encode(source, form + "\n"))


def write_table(source: Source, entries: Sequence[Entry], path: Path, delimiter: str | None = None) -> None:
    """Write delimited text with its header; a row that could not be read gets its text in the first cell."""
    lines = source.lines[0]
    if delimiter is None:
        delimiter, _ = read_header(lines, source.schema)
    rows = {at.position: (last, cells) for at, last, cells in split_rows(lines, Diagnostics(), delimiter)}
    last, header = next(iter(rows.values()))
    names = [name.strip() for name in header]
    added = list(entries[0].added) if entries else []
    _check_columns(dict.fromkeys(added), names)
    ending = "\r\n" if lines[last - 1].endswith("\r\n") else "\n"
    texts = [_with_cells("".join(lines[:last]), added, delimiter, ending)]
    for entry in entries:
        last, cells = rows.get(entry.position, (entry.position, []))
        text = "".join(lines[entry.position - 1 : last])
        if len(cells) != len(names):
            text = _cells([text.strip(), *[""] * (len(names) - 1)], delimiter)
        elif entry.captions:
            record = dict(zip(names, (cell if cell.strip() else None for cell in cells), strict=True))
            cut = entry.cut(record, source.schema)
            text = _cells([cut.get(name, cell) for name, cell in zip(names, cells, strict=True)], delimiter)
        texts.append(_with_cells(text, list(entry.added.values()), delimiter, ending))
    path.write_bytes(_encode(source, "".join(texts)))


def _with_cells(text: str, added: Sequence[Any], delimiter: str, ending: str) -> str:
    return text.rstrip("\r\n") + (delimiter + _cells(added, delimiter) if added else "") + ending


def _cells(values: Sequence[Any], delimiter: str) -> str:
    row = io.StringIO()
    cells = [json.dumps(value) if isinstance(value, list) else value for value in values]
    # Cells are quoted if they contain a character of the line terminator.
    csv.writer(row, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return row.getvalue().removesuffix("\r\n")


def write_archive(source: Source, entries: Sequence[Entry], path: Path) -> None:
    """Write a WebDataset archive.

    All files of a sample are copied. Columns are added to its JSON file, or else in a new one.
    """
    by_position = {entry.position: entry for entry in entries}
    owners = samples_of(source.path)
    names = enumerate(dict.fromkeys(owners.values()), start=1)
    chosen = {name: by_position[position] for position, name in names if position in by_position}
    _copy_archive(source.path, path, owners, chosen, source.schema)


def _copy_archive(
    archive: Path, target: Path, owners: Mapping[str, str], chosen: Mapping[str, Entry], schema: Schema
) -> None:
    described = {sample for name, sample in owners.items() if name.lower().endswith(".json")}
    begun: set[str] = set()
    with tarfile.open(archive, "r:") as read, tarfile.open(target, "w") as written:
        for member in read:
            sample = owners.get(member.name, "")
            entry = chosen.get(sample)
            if entry is None:
                continue
            if sample not in begun and entry.added and sample not in described:
                _add_file(written, member, f"{sample}.json", json.dumps(entry.added).encode())
            begun.add(sample)
            content = read.extractfile(member)
            if content is not None and member.name.lower().endswith(".json") and (entry.added or entry.captions):
                _add_file(written, member, member.name, _changed_json(content.read(), entry, schema))
            else:
                written.addfile(member, content)


def _add_file(archive: tarfile.TarFile, like: tarfile.TarInfo, name: str, data: bytes) -> None:
    member = copy.copy(like)
    member.name, member.size, member.pax_headers = name, len(data), {}
    archive.addfile(member, io.BytesIO(data))


def _changed_json(data: bytes, entry: Entry, schema: Schema) -> bytes:
    text = data.decode(encoding_of(data), "surrogateescape")
    record, problems = parse_json(text, in_line=True)
    if problems or not isinstance(record, dict):
        record, text = {UNREADABLE: text}, json.dumps({UNREADABLE: text})
    if entry.captions:
        record = _checked(record) | entry.cut(record, schema)
        text = json.dumps(record)
    return _with_columns(text, record, entry.added).encode("utf-8", "surrogateescape")


def write_dataset(source: Source, entries: Sequence[Entry], path: Path) -> None:
    """Write a parquet file, or a folder as ``Dataset.save_to_disk`` does."""
    if source.path.is_dir():
        _save_dataset(source, entries, path)
    else:
        _copy_parquet(source, entries, path)


def _copy_parquet(source: Source, entries: Sequence[Entry], path: Path) -> None:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]

    with open_parquet(source.path) as opened:
        columns = opened.schema_arrow
    added = entries[0].added if entries else {}
    _check_columns(added, columns.names)
    fields = [_field(name, entries) for name in added]
    written = pyarrow.schema([*columns, *fields], _metadata(columns.metadata, fields))
    with ParquetWriter(path, written) as out:
        rest = iter(entries)
        entry = next(rest, None)
        start = 0
        for batch in parquet_batches(source.path, _ROWS):
            chosen = []
            while entry is not None and entry.position <= start + len(batch):
                chosen.append(entry)
                entry = next(rest, None)
            positions = [entry.position - start - 1 for entry in chosen]
            start += len(batch)
            if chosen:
                rows = batch.take(positions)
                arrays = [*_cut_columns(rows, chosen, source.schema), *(_array(one, chosen) for one in fields)]
                out.write_batch(pyarrow.RecordBatch.from_arrays(arrays, schema=written))


def _cut_columns(rows: Any, entries: Sequence[Entry], schema: Schema) -> list[Any]:
    """Return the columns of rows, those of captions without the captions that are not to be written."""
    import pyarrow

    columns = {name: rows.column(name) for name in rows.schema.names}
    if any(entry.captions for entry in entries):
        for name in schema.find(columns, "caption"):
            cells = columns[name].to_pylist()
            cut = [entry.cut({name: cell}, schema).get(name, cell) for entry, cell in zip(entries, cells, strict=True)]
            columns[name] = pyarrow.array(cut, columns[name].type)
    return list(columns.values())


def _field(name: str, entries: Sequence[Entry]) -> Any:
    """Return the Arrow field of a column to add: text, numbers, or lists of numbers, all of which may be undefined."""
    import pyarrow

    found = pyarrow.array([entry.added[name] for entry in entries]).type
    if pyarrow.types.is_list(found):
        return pyarrow.field(name, pyarrow.list_(pyarrow.float64()))
    return pyarrow.field(name, pyarrow.float64() if pyarrow.types.is_null(found) else found)


def _array(field: Any, entries: Sequence[Entry]) -> Any:
    import pyarrow

    return pyarrow.array([entry.added[field.name] for entry in entries], field.type)


def _metadata(metadata: Mapping[bytes, bytes] | None, fields: Sequence[Any]) -> Mapping[bytes, bytes] | None:
    """Return the metadata of a file with columns added to the features that the datasets library stores in it."""
    if not fields or not metadata or b"huggingface" not in metadata:
        return metadata
    import pyarrow
    from datasets import Features

    stored = json.loads(metadata[b"huggingface"])
    stored["info"]["features"] |= Features.from_arrow_schema(pyarrow.schema(fields)).to_dict()
    return {**metadata, b"huggingface": json.dumps(stored).encode()}


def write_embeddings(source: Source, entries: Sequence[Entry], path: Path) -> None:
    """Write pairs of embeddings as a folder in the form of clip-retrieval, without empty shards.

    The key of a pair without metadata is its position in the input, from 0.
    """
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    from i0tscore.samples.embeddings import BLOCK, CAPTIONS, IMAGES, METADATA, map_npy, read_rows, shard_files

    files = shard_files(source.path)
    for name in (IMAGES, CAPTIONS, METADATA):
        (path / name).mkdir(parents=True)
    start, rest = 0, iter([*entries, Entry(sys.maxsize)])
    entry = next(rest)
    for number, images in files[IMAGES].items():
        chosen, total = [], len(map_npy(images))
        while entry.position <= start + total:
            chosen.append(replace(entry, position=entry.position - start))
            entry = next(rest)
        rows = np.array([one.position - 1 for one in chosen], dtype=np.int64)
        for name in (IMAGES, CAPTIONS) if chosen else ():
            values = map_npy(files[name][number])
            shape = (len(rows), values.shape[1])
            out = np.lib.format.open_memmap(path / name / f"{name}_{number}.npy", "w+", values.dtype, shape)
            for first in range(0, len(rows), BLOCK):
                out[first : first + BLOCK] = read_rows(values, rows[first : first + BLOCK])
        metadata = path / METADATA / f"{METADATA}_{number}.parquet"
        if chosen and number in files[METADATA]:
            _copy_parquet(replace(source, path=files[METADATA][number]), chosen, metadata)
        elif chosen:
            columns = {one.name: _array(one, chosen) for one in (_field(name, chosen) for name in chosen[0].added)}
            keys = [str(start + row) for row in rows]
            parquet.write_table(pyarrow.table({"key": keys, **columns}), metadata)
        start += total


def _save_dataset(source: Source, entries: Sequence[Entry], path: Path) -> None:
    import pyarrow

    with quiet_datasets() as datasets:
        dataset = datasets.load_from_disk(str(source.path))
        _check_columns(entries[0].added if entries else {}, dataset.column_names)
        dataset = dataset.select([entry.position - 1 for entry in entries])
        columns = [dataset.select_columns(name) for name in dataset.column_names]
        if any(entry.captions for entry in entries):
            for name in source.schema.find(dataset.column_names, "caption"):
                cells = [entry.choose(cell) for entry, cell in zip(entries, dataset[name], strict=True)]
                features = datasets.Features({name: dataset.features[name]})
                columns[dataset.column_names.index(name)] = datasets.Dataset.from_dict({name: cells}, features)
        for name in entries[0].added if entries else ():
            columns.append(datasets.Dataset(pyarrow.table({name: _array(_field(name, entries), entries)})))
        if len(columns) > len(dataset.column_names) or any(entry.captions for entry in entries):
            dataset = datasets.concatenate_datasets(columns, axis=1)
        dataset.save_to_disk(str(path))
